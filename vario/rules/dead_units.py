"""Units behind a ReLU are zero on every example, so they neither speak nor learn.

What it means: a unit whose input is negative for all data has no gradient and cannot come back. A few
are normal in a healthy net; where most of a layer is dead, little passes through it in either direction.
A large step, a large negative bias or inputs in raw units are the usual ways there.
How it is decided: for each ReLU-like layer, the share of channels that are zero on all examples of the
batch, over the last readings; a unit that is dead stays dead, so the smallest of them bounds the share
from above. The low end of its interval must pass 0.5. An error where a layer is dead throughout (0.99), a
warning otherwise.
Not applicable: no ReLU-like layer was read 5 times; batches of fewer than 8 examples, where a unit that is
seldom active looks dead by chance (unless the whole layer is silent all the time).
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, Steps, exactly, finite, first_step, tail
from vario.rules._examples import batch_size, graded

ID = "dead-units"
CARD = {
    "papers": (),
    "reads": ("activation/dead_channels", "activation/channels", "batch/size", "loss/train"),
    "checked": "closed form",
    "changed": "",
    "summary": "{share of dead units} of the units of a layer are zero on every example, and have"
    " been for {steps dead} steps.",
}


def check(
    record: Record,
    *,
    dead: float = 0.5,  # half a layer; healthy nets lose up to a fifth, and waste is not yet an illness
    all_dead: float = 0.99,
    readings: int = 5,
    examples: int = 8,  # five batches of eight call a unit active on 1 in 10 dead with a chance of 1.5 %
) -> Finding | None:
    """A finding where most units of a layer are silent on every batch."""
    shares = _shares(record, readings)
    size = batch_size(record)
    few = np.isfinite(size) and size < examples
    found: list[tuple[Evidence, Steps, int]] = []
    for where, (steps, values) in shares.items():
        last = tail(values, at_least=readings)
        limit = all_dead if few else dead
        # Dead is forever, so the readings differ only by units that are merely seldom active.
        estimate = Estimate(float(np.median(last)), float(last.min()), float(last.max()))
        since = first_step(steps, values > limit, lasting=readings)
        if estimate.low > limit and since is not None:
            found.append((estimate.evidence("share of dead units", limit, where), steps, since))
    if not found:
        if few:
            raise NotApplicable(
                f"batches of {size:.0f} examples; {examples} are needed to tell dead from seldom active"
            )
        return None
    found.sort(key=lambda item: -item[0].low)
    worst, steps, since = found[0]
    evidence = (
        worst,
        exactly("steps dead", int(steps[-1]) - since, 0, worst.where),
        *(e for e, _, _ in found[1:4]),
    )
    return Finding(
        ID,
        "error" if worst.low >= all_dead else "warning",
        graded(worst.low, dead, 0.95, least=0.7, most=0.97),
        tuple(e.where for e, _, _ in found),
        (since, int(steps[-1])),
        evidence,
    )


def _shares(record: Record, readings: int) -> dict[str, tuple[Steps, np.ndarray]]:
    """Share of dead channels per layer, where it was read often enough; NotApplicable without any."""
    shares = {}
    most = 0
    for where in record.wheres("activation/dead_channels"):
        steps, dead = finite(*record.series("activation/dead_channels", where))
        other, channels = finite(*record.series("activation/channels", where))
        both, a, b = np.intersect1d(steps, other, return_indices=True)
        # A layer of one or two units says nothing about a share.
        keep = channels[b] >= 4
        most = max(most, int(keep.sum()))
        if keep.sum() >= readings:
            shares[where] = (both[keep], dead[a][keep] / channels[b][keep])
    if not shares:
        raise NotApplicable(
            f"{most} readings of activation/dead_channels behind a ReLU; {readings} are needed"
        )
    return shares
