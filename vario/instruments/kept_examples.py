"""What the worst examples of a run look like, where the run was asked to keep them: off unless it was.

Users' data stays out of the record by default. Asked for `most` examples, it watches which have the largest
mean loss among those that `worst-examples` names, and notes a sketch of each (a small picture, a text, the
first numbers) whenever the run has doubled and at its end: at most four times `most` in all, some 7 KB each.
The sketches are of the batch that the script drew itself; no data set is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vario.capture.moment import Moment
from vario.capture.sketches import sketch, small_rows
from vario.instruments.worst_examples import worst_of
from vario.nouns import Reading

CARD = {
    "papers": ("P024",),
    "cost": "a copy of a few rows of a batch",
    "checked": "closed form: pictures that are known, pixel by pixel",
    "changed": "an instrument with a memory: a sketch can only be made while its batch is in hand",
}

TIMES = 4  # as many sketches are noted in all as are kept at the end
WAITING = 8  # times as many examples are watched: the worst of late in a run may be new
EARLY = 0.1  # of the steps: the model knew nothing yet, and what was worst then is let go of
Note = Callable[[str, int, str, str, dict[str, Any]], None]  # stream, step, kind, loader, what


@dataclass
class _Seen:
    row: Any
    step: int
    looks: int = 0
    loss: float = 0.0  # sum over the looks
    noted: bool = False

    @property
    def mean(self) -> float:
        return self.loss / self.looks


@dataclass(eq=False)
class KeptExamples:
    """`note` is told of each example that is kept, once; nothing is read into a series."""

    most: int
    note: Note = field(default=lambda *_: None)
    name: str = "kept-examples"
    needs: frozenset[str] = frozenset({"examples", "regression_losses", "regression_labels", "drawn"})
    _seen: dict[str, dict[tuple[str, int], _Seen]] = field(default_factory=dict)
    _told: int = 0
    _doubled: dict[str, int] = field(default_factory=dict)

    def read(self, moment: Moment) -> Iterator[Reading]:
        found = worst_of(moment)
        if found is not None:
            self._look(
                moment, found.drawn, found.indices.tolist(), found.values["loss"].tolist(), found.worst
            )
        if moment.step >= self._doubled.get(moment.stream, 64):
            self._doubled[moment.stream] = 2 * moment.step
            self._note(moment.stream, (TIMES - 1) * self.most)
        yield from ()

    def finish(self) -> None:
        """The run ends: what is among the worst and was not noted yet."""
        for stream in self._seen:
            self._note(stream, TIMES * self.most)

    def _look(self, moment: Moment, drawn: Any, indices: list[int], losses: list[float], worst: Any) -> None:
        seen = self._seen.setdefault(moment.stream, {})
        least = sorted((one.mean for one in seen.values()), reverse=True)[: self.most][-1:]
        bar = least[0] if len(seen) >= self.most else float("-inf")
        new = [
            row
            for row in worst.tolist()
            if (drawn[0][0].loader, indices[row]) not in seen and losses[row] >= bar
        ][: self.most]
        for row, held in zip(new, _of_rows(drawn, new), strict=True):
            if held is not None:
                seen[drawn[0][0].loader, indices[row]] = _Seen(held, moment.step)
        for row in worst.tolist():
            one = seen.get((drawn[0][0].loader, indices[row]))
            if one is not None:
                one.step, one.looks, one.loss = moment.step, one.looks + 1, one.loss + losses[row]
        for key in [key for key, one in seen.items() if one.step < EARLY * moment.step]:
            del seen[key]
        for key, _ in sorted(seen.items(), key=lambda pair: -pair[1].mean)[WAITING * self.most :]:
            del seen[key]

    def _note(self, stream: str, most: int) -> None:
        ranked = sorted(self._seen.get(stream, {}).items(), key=lambda pair: -pair[1].mean)
        for (loader, example), one in ranked[: self.most]:
            if not one.noted and self._told < most:
                one.noted, self._told = True, self._told + 1
                self.note(stream, one.step, "example", loader, {"example": example, **sketch(one.row)})


def _of_rows(drawn: Any, rows: list[int]) -> list[Any]:
    """What is to be sketched of rows that are counted through all micro-batches."""
    found: list[Any] = [None for _ in rows]
    first = 0
    for batch, _ in drawn:
        here = [i for i, row in enumerate(rows) if first <= row < first + len(batch.indices)]
        if here and batch.inputs:
            for i, held in zip(here, small_rows(batch.inputs, [rows[i] - first for i in here]), strict=True):
                found[i] = held
        first += len(batch.indices)
    return found
