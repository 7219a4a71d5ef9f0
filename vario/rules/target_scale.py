"""Targets of the regression are far from unit size.

What it means: the last layer starts with outputs of about 1. Targets in the hundreds or thousands make
the first losses and gradients huge (they grow with the square), and the weights must travel far before
anything is learned; tiny targets drown in the noise of the first outputs. Standardise the targets and
scale predictions back.
How it is decided: the typical magnitude of the targets (root of mean^2 + std^2, median of the readings)
is above 100, or below 0.001. A warning where the run fails, advice where it trains all the same (tiny
targets are named only where it fails). A loss written by hand does not show its targets; there a loss
that never fell and began above 10,000 times the square of the outputs says the same, less surely: a sum
instead of a mean looks alike. Where its graph tells a mean, it may also have run away from there. So does a
loss that began above 100 times the outputs and is as much larger than its gradient by the last bias: an error
that counts linearly is its distance times that, squared half of it. Whatever the loss does later, it is a
mean of errors that lie to one side where it is a quarter of the square of that gradient (squares; of a sum it
would be less), or where that gradient is nearly 1 (a distance, or a root of squares).
Not applicable: no floating targets were seen, and fewer than 20 readings of a loss that is not of classes.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course, is_failing
from vario.rules._evidence import exactly, finite, level
from vario.rules._examples import graded
from vario.rules._model import output_layer, rows

ID = "target-scale"
CARD = {
    "papers": (),
    "reads": (
        "target/mean",
        "target/std",
        "activation/mean",
        "activation/std",
        "input/mean",
        "input/std",
        "gradient/norm",
        "loss/train",
        "loss/terms",
    ),
    "checked": "closed form",
    "changed": "",
    "summary": "The targets have a typical magnitude of {target magnitude}; the model starts with"
    " outputs of about 1.",
}


def check(
    record: Record,
    *,
    large: float = 100.0,  # the first squared losses are 10,000 times those of standardised targets
    small: float = 1e-3,  # the first outputs miss by a thousand times what there is to learn
    readings: int = 3,
) -> Finding | None:
    """A finding where targets are far larger or smaller than first outputs."""
    if not len(record.series("target/mean")[0]) and not len(record.series("logits/largest")[0]):
        return _from_loss(record, large)
    steps, means = finite(*record.need("target/mean", readings))
    _, stds = finite(*record.need("target/std", readings))
    count = min(len(means), len(stds))
    if count < readings:
        raise NotApplicable(f"fewer than {readings} finite readings of the targets")
    size = level(np.hypot(means[:count], stds[:count]))
    failing = is_failing(record)
    if size.low > large:
        limit, beyond = large, size.low / large
    elif 0 < size.high < small and failing:
        limit, beyond = small, small / size.high
    else:
        return None
    sure = graded(float(np.log(beyond)), 0.0, 2.3, least=0.7)
    span = (int(steps[0]), int(steps[-1]))
    evidence = (size.evidence("target magnitude", limit),)
    return Finding(ID, "warning" if failing else "advice", sure, (), span, evidence)


def _from_loss(record: Record, large: float) -> Finding | None:
    """How far off an error that never fell says the targets are, beside the first outputs of the model."""
    last = output_layer(record)
    means, stds = (finite(*record.series(f"activation/{name}", last or ""))[1] for name in ("mean", "std"))
    run = course(record)
    if not len(means) or not len(stds):  # unread outputs are taken for 1, as first outputs are, or for inputs
        means, stds = (finite(*record.series(f"input/{name}"))[1] for name in ("mean", "std"))
    outputs = float(np.hypot(means[0], stds[0])) if len(means) and len(stds) else 1.0
    limit = large * max(outputs, 1.0)
    start = max(run.start.low, 0.0)
    size = float(np.sqrt(start))
    far = _distance(record, f"{last}.bias", start)
    square, slope = (start / (4 * far**2), start / far) if far > 0 else (np.inf, np.inf)
    one_sided = 0.5 < square < 2 or 0.5 < slope < 1.05
    if size <= limit < start or 0.5 < slope < 1.05:
        size = far
    ran_away = run.state in ("worse", "non-finite") and np.sqrt(start) > limit and _is_mean(record)
    fits = run.state == "stuck" or (one_sided and run.state == "learning") or ran_away
    if not fits or size <= limit:
        return None
    evidence = (
        exactly("target magnitude", size, limit),
        exactly("magnitude of the first outputs", outputs, limit / large),
        run.start.evidence("loss at the start", limit),
    )
    sure = graded(float(np.log(size / limit)), 0.0, 2.3, least=0.6, most=0.8)
    severity: Severity = "warning" if run.failing else "advice"
    return Finding(ID, severity, sure, (), (int(run.steps[0]), int(run.steps[-1])), evidence)


def _is_mean(record: Record) -> bool:
    """Whether the graph of the loss tells that it is a mean, which grows neither with batches nor outputs."""
    terms = finite(*record.series("loss/terms"))[1]
    return bool(len(terms)) and float(terms.max()) == 1


def _distance(record: Record, bias: str, loss: float, *, first: int = 5) -> float:
    """A loss over its gradient by the last bias: it is shared by all outputs, and by sums as by means."""
    outputs = [float(p["shape"][0]) for p in rows(record, "parameters") if p["name"] == bias]
    norms = finite(*record.series("gradient/norm", bias))[1][:first]
    largest = float(norms.max(initial=0.0)) * np.sqrt(outputs[0]) if outputs else 0.0
    return loss / largest if largest > 0 else 0.0
