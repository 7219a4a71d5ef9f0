"""Weight decay shrinks the weights faster than the gradient builds them.

What it means: the pull towards zero wins; what the data teach is forgotten within a few steps.
How it is decided: only in a run that fails or has lost less than half of its starting loss (four fifths,
where decay that is applied apart forgets within a twentieth of the run what a step learned), or whose loss
lies around zero, where nothing tells how much was won; and whose weights have shrunk to less than half of
their norm; or the typical matrix has, where a gradient reaches all of them (gains of norms, which are rarely
decayed, are most of the norm of a transformer). While they fell (the first half of the way, in logarithms; at
the end decay and gradient are in balance whatever their size) the pull of the decay is compared with its
gradient: coefficient times norm of the weights over norm of the gradient where the decay is part of the
gradient (limit 0.5), and rate times coefficient over the update ratio where it is applied apart, as in AdamW
(limit 0.1; at the usual settings it is 0.002). Where less than a hundredth of the norm is left the pull needs
no comparing: no gradient brings every weight to zero.
Not applicable: no weight decay is set, or fewer than 5 readings of gradient, update or weights.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import (
    Estimate,
    Floats,
    Steps,
    confidence,
    exactly,
    finite,
    level,
    need_finite,
)
from vario.rules._parameters import optimizer_name, parameters

ID = "weight-decay-dominates"
CARD = {
    "papers": ("P081",),
    "reads": ("hyper/weight_decay", "hyper/lr", "gradient/norm", "update/ratio", "weight/norm", "loss/train"),
    "checked": "closed form: exponential shrinking without a gradient",
    "changed": "",
    "summary": "With a weight decay of {weight decay} its pull is {pull of the decay} of the "
    "step, and the weights shrank "
    "to {weight norm over its start} of their norm.",
}


def check(
    record: Record,
    *,
    coupled: float = 0.5,  # at a minimum of loss plus penalty it is 1, but batches' noise keeps it below
    apart: float = 0.1,
    shrunk: float = 0.5,
    gone: float = 0.01,
    slow: float = 0.5,
    far: float = 0.8,  # where next to nothing is kept; a fifth of a guess is the least that counts as harm
    memory: float = 0.05,  # of the run; AdamW keeps a step for 1 / (rate * decay) steps, usually all of them
) -> Finding | None:
    """A finding where decay outweighs the gradient and the run learns little."""
    decay = record.last("hyper/weight_decay", "group 0")
    if not decay > 0:
        raise NotApplicable("no weight decay is set in the first parameter group")
    run = course(record)
    record.need("weight/norm", 5)
    split = "adamw" in optimizer_name(record)
    if split and _kept(record, decay) < memory:
        slow = far
    if not run.failing and not (run.won < slow or run.around_zero):  # around zero nothing tells what was won
        return None
    limit = apart if split else coupled
    for matrices in dict.fromkeys([(), _matrices(record)]):  # () is all weights together
        at, weights = _read(record, "weight/norm", matrices)
        typical = np.median(weights / np.maximum(weights[0], 1e-30), axis=1)
        left = float(typical[-1])
        if left >= shrunk:
            continue
        until = int(at[(typical > np.sqrt(left)).nonzero()[0][-1]])
        pull = (_pull_apart if split else _pull_coupled)(record, decay, until, matrices)
        if pull.low <= limit and left > gone:
            continue
        evidence = (
            exactly("weight decay", decay, decay * limit / pull.value),
            pull.evidence("pull of the decay", limit),
            exactly("weight norm over its start", left, shrunk),
        )
        severity: Severity = "error" if run.failing else "warning"
        sure = 0.95 if left <= gone else confidence(pull.value, limit, least=0.75, most=0.95)
        return Finding(ID, severity, sure, ("group 0",), (0, record.step_count - 1), evidence)
    return None


def _kept(record: Record, decay: float) -> float:
    """For what share of the run decay leaves a step in the weights: until e-fold less of it is there."""
    rates = finite(*record.series("hyper/lr", "group 0"))[1]
    pull = decay * float(np.median(rates)) if len(rates) else 0.0
    return 1 / (pull * record.step_count) if pull > 0 else np.inf


def _pull_coupled(record: Record, decay: float, until: int, matrices: tuple[str, ...]) -> Estimate:
    steps, gradients = _read(record, "gradient/norm", matrices)
    weight_steps, weights = _read(record, "weight/norm", matrices)
    at = np.stack([np.interp(steps, weight_steps, one) for one in weights.T], axis=1)
    return _level(decay * at / np.maximum(gradients, 1e-30), steps, until)


def _pull_apart(record: Record, decay: float, until: int, matrices: tuple[str, ...]) -> Estimate:
    steps, ratios = _read(record, "update/ratio", matrices)
    rate_steps, rate = record.need("hyper/lr", 1, "group 0")
    at = np.interp(steps, rate_steps, rate)[:, None]
    return _level(decay * at / np.maximum(ratios, 1e-30), steps, until)


def _level(pull: Floats, steps: Steps, until: int) -> Estimate:
    """Of the typical matrix, up to a step."""
    return level(np.median(pull, axis=1)[: max(int((steps <= until).sum()), 5)])


def _matrices(record: Record, *, reached: float = 1e-3) -> tuple[str, ...]:
    """Those that were not zero at first, where a gradient of some size reaches each: others only decay."""
    names = [p.name for p in parameters(record) if p.is_matrix and p.trainable]
    starts = {name: finite(*record.series("weight/norm", name))[1][:1] for name in names}
    names = [name for name, start in starts.items() if len(start) and start[0] > 0]
    read = [finite(*record.series("gradient/norm", name))[1] for name in names]
    sizes = [float(np.median(values)) for values in read if len(values)]
    known = bool(names) and len(sizes) == len(names)
    return tuple(names) if known and min(sizes) > reached * max(sizes) else ()


def _read(record: Record, name: str, matrices: tuple[str, ...]) -> tuple[Steps, Floats]:
    """A series of each matrix (steps, matrices), or of all weights together."""
    if not matrices:
        steps, values = need_finite(*record.need(name, 5), 5, name)
        return steps, values[:, None]
    read = [finite(*record.series(name, matrix)) for matrix in matrices]
    steps = reduce(np.intersect1d, [at for at, _ in read])
    if len(steps) < 5:
        raise NotApplicable(f"{len(steps)} finite readings of {name} of all matrices; 5 are needed")
    return steps, np.stack([values[np.isin(at, steps)] for at, values in read], axis=1)
