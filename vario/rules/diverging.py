"""The training loss runs away instead of falling.

What it means: the run ends worse than it began, or its loss grows until it is no longer a number. Nothing
it learns from here on is of use; the cause stands above this finding where it could be told.
How it is decided: the level of the loss over the last tenth of the run lies clearly above that of the
first steps (by half of the starting loss and three times the noise of a single step), or above three
times what a constant guess gives; or the loss became infinite or NaN after it, or the gradient, had grown
tenfold. A loss that turns NaN from one step to the next with nothing growing before is another illness.
Not applicable: fewer than 3 readings of the training loss; a run that trains several models against each
other, where one loss rises because the other model gets better.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import confidence, exactly, finite

ID = "diverging"
CARD = {
    "papers": ("P345",),
    "reads": ("loss/train", "gradient/norm"),
    "checked": "closed form: gradient descent on a parabola past twice the inverse curvature",
    "changed": "",
    "alone": True,
    "summary": "The training loss went from {loss at the start} to {loss at the end}.",
}


def check(
    record: Record,
    *,
    growth: float = 10.0,  # a factor that no healthy run shows: noise of a batch is well below it
) -> Finding | None:
    """A finding where the loss ends far above its start, or grew into infinity."""
    run = course(record, count=3)
    if run.state == "worse":
        limit = 1.5 * abs(run.start.value)
        seen = run.end.evidence("loss at the end", limit)
        sure = confidence(run.end.value, limit, least=0.8, most=0.97)
        first = _first_above(run.steps, run.values, limit)
        return Finding(
            ID,
            "error",
            sure,
            (),
            (first, int(run.steps[-1])),
            (run.start.evidence("loss at the start", limit), seen),
        )
    if run.state != "non-finite" or run.bad_step is None:
        return None
    grown = _grown_before(record, run.bad_step, growth)
    if grown is None:
        return None
    start = run.start.evidence("loss at the start", growth)
    end = exactly("loss at the end", np.inf, growth)
    return Finding(ID, "error", 0.95, (), (run.bad_step, record.step_count - 1), (start, end, grown))


def _grown_before(record: Record, bad_step: int, growth: float) -> Evidence | None:
    """How far loss or gradient rose above their first readings before the loss broke."""
    for series, name in (("loss/train", "growth of the loss"), ("gradient/norm", "growth of the gradient")):
        steps, values = finite(*record.series(series))
        values = np.abs(values[steps <= bad_step])
        if len(values) >= 2 and values.max() > growth * max(float(np.median(values[:3])), 1e-30):
            return exactly(name, values.max() / max(float(np.median(values[:3])), 1e-30), growth)
        if len(values) == 1 and series == "gradient/norm" and np.isinf(record.series(series)[1]).any():
            return exactly(name, np.inf, growth)
    return None


def _first_above(steps: np.ndarray, values: np.ndarray, limit: float) -> int:
    above = np.flatnonzero(values > limit)
    return int(steps[above[0]]) if len(above) else int(steps[0])
