"""The data hold NaN or infinity.

What it means: an input or a target is not a finite number. One such example is enough to turn the loss,
and by the next step every weight, into NaN. The remedy is in the data, not in the optimizer.
How it is decided: ``input/non_finite`` or ``target/non_finite`` counts more than zero. An error where the
loss or a gradient is broken at that step or later; advice where training stays finite, since some models
are given infinities on purpose (masks) or replace NaN themselves.
Not applicable: the model was given no floating input, and the loss no floating target.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import exactly, share

ID = "non-finite-input"
CARD = {
    "papers": (),
    "reads": ("input/non_finite", "target/non_finite", "loss/train", "gradient/norm", "weight/non_finite"),
    "checked": "closed form",
    "changed": "",
    "summary": "NaN or infinity came in with the data, first at step {first such step}: "
    "{broken entries} broken numbers in that batch, and {share of batches} of the batches have some.",
}


def check(
    record: Record,
    *,
    entries: float = 0,  # broken numbers that a batch may hold: none, since one reaches every weight
) -> Finding | None:
    """A finding where a batch held NaN or infinity."""
    found: list[tuple[int, str, float, Evidence, int]] = []
    seen = False
    for name in ("input/non_finite", "target/non_finite"):
        steps, counts = record.series(name)
        seen |= len(steps) > 0
        bad = ~(counts <= entries)
        if bad.any():
            at = int(bad.argmax())
            part = share(bad).evidence("share of batches", 0.0, name)
            found.append((int(steps[at]), name, float(counts[at]), part, int(steps[bad][-1])))
    if not seen:
        raise NotApplicable("no floating inputs or targets were seen")
    if not found:
        return None
    first, name, count, part, _ = min(found)
    broken = _breaks_at(record)
    # With instruments that run on a fraction of the steps, the batch that broke the run may have gone
    # unread while a later one was read: any broken step of a run fed with such data counts.
    severe = broken is not None
    evidence = (
        exactly("first such step", first, np.nan, name),
        exactly("broken entries", count, entries, name),
        part,
    )
    last = max(f[-1] for f in found)
    return Finding(ID, "error" if severe else "advice", 0.98 if severe else 0.8, (), (first, last), evidence)


def _breaks_at(record: Record) -> int | None:
    """The first step with a broken loss, gradient or weight."""
    firsts = []
    for name in ("loss/train", "gradient/norm", "weight/non_finite"):
        steps, values = record.series(name)
        bad = ~np.isfinite(values) | ((values > 0) if name.endswith("non_finite") else False)
        firsts += [int(steps[bad][0])] if bad.any() else []
    return min(firsts, default=None)
