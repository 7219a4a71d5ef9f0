"""What of this batch training had seen before: in this epoch, in an earlier one, in the same order.

Rows are known by a hash of their content. In a shuffled epoch no row comes twice and no batch comes
back; from the second epoch on every row has been seen, unless it is augmented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a hash of each row",
    "checked": "closed form: loaders with known order and duplicates",
    "changed": "of very long data only the rows with some hashes are remembered: shares stay unbiased",
}


@dataclass(frozen=True)
class Data:
    """Silent where rows could not be hashed, and on order in the first epoch."""

    name: str = "data"
    needs: frozenset[str] = frozenset({"rows"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "rows" not in moment:
            return
        seen = moment["rows"]
        for quantity, value in (
            ("duplicate_share", seen.duplicate_share),
            ("repeat_share", seen.repeat_share),
            ("same_order", seen.same_order),
            ("twice_share", seen.twice_share),
        ):
            if value is not None:
                yield moment.reading(f"data/{quantity}", float(value))
