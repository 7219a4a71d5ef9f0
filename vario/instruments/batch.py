"""Size of a micro-batch, how many targets the step had, and how many labels of each class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.loss_calls import rows
from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "one read of the labels",
    "checked": "closed form: a batch with known labels",
    "changed": "",
}


@dataclass(frozen=True)
class Batch:
    """The leading size of the model's first input; classes where there are at most 1,000.

    Targets are what the loss is a mean over: examples, or the tokens that are not ignored.
    """

    name: str = "batch"
    needs: frozenset[str] = frozenset({"inputs", "loss_calls", "class_counts", "class_weights"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        given = moment["inputs"] if "inputs" in moment else []
        if not given and "loss_calls" in moment:
            given = [call.output for call in moment["loss_calls"]]
        sizes = [tensor.shape[0] for tensor in given if tensor.ndim > 0]
        if sizes:
            yield moment.reading("batch/size", float(sizes[0]))
        if "loss_calls" in moment and moment["loss_calls"]:
            yield moment.reading("batch/targets", float(sum(rows(call) for call in moment["loss_calls"])))
        if "class_counts" in moment:
            yield moment.reading("batch/class_counts", moment["class_counts"])
        if "class_weights" in moment:
            yield moment.reading("batch/class_weights", moment["class_weights"])
