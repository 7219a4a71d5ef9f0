"""In how many directions a layer's outputs for different examples differ (RankMe).

The exponential of the entropy of the singular values of the outputs, over their sum. It foretells without
labels how well a representation serves, and falls to 1 where it has collapsed. ``rank/width`` is what it
could be: the fewer of the layer's channels and the rows looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": ("P132",),
    "cost": "one small eigenvalue problem for each layer; of 256 rows whenever the run has doubled, of 4,096 "
    "on demand",
    "checked": "closed form: k equal directions give k, one gives 1; invariance to turning",
    "changed": "rows are the examples, and the places of a sequence or an image, of one batch: with fewer "
    "rows than channels the rank is one of the rows",
}


@dataclass(frozen=True)
class RepresentationRank:
    """Of every layer whose output the graph keeps; not centred, as in the paper."""

    name: str = "representation-rank"
    needs: frozenset[str] = frozenset({"representation_spectra"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        for need in self.needs:
            for where, one in (moment[need] if need in moment else {}).items():
                yield moment.reading("rank/effective", one.effective_rank, where)
                yield moment.reading("rank/width", float(one.width), where)


@dataclass(frozen=True)
class QuickRepresentationRank(RepresentationRank):
    """The same of 256 rows, for ordinary runs: enough to see a collapse."""

    needs: frozenset[str] = frozenset({"representation_spectra_few"})
