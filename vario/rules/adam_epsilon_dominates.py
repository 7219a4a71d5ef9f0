"""Adam's epsilon outweighs the size of the gradients, so that Adam no longer scales its steps.

What it means: the denominator of the step is epsilon, not the gradient's own size. Layers with small
gradients get small steps, as with plain SGD at a rate that nobody chose.
How it is decided: only with Adam-like optimizers, in a run that fails, has lost less than half of its
starting loss, or moves its weights by less than 0.01 % a step. For each matrix the typical size of its
gradient's entries (root mean square, median over the second half) is compared with epsilon; fires when
epsilon is larger for at least half of all entries of the matrices. Matrices whose gradient is exactly zero
are left out: no epsilon is small enough for them.
Not applicable: the optimizer has no epsilon, or fewer than 5 readings of the gradient.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import confidence, exactly, finite
from vario.rules._parameters import optimizer_name, parameters

ID = "adam-epsilon-dominates"
CARD = {
    "papers": ("P298",),
    "reads": ("hyper/eps", "gradient/norm", "update/ratio", "loss/train"),
    "checked": "closed form: gradients of known size on both sides of epsilon",
    "changed": "",
    "summary": "Epsilon is {epsilon}; a typical entry of the gradient is {typical gradient entry}, in "
    "{share of entries below epsilon} of the weights below epsilon.",
}


def check(
    record: Record,
    *,
    part: float = 0.5,
    slow: float = 0.5,
    still: float = 1e-4,  # update ratio; Adam at usual rates is above it
) -> Finding | None:
    """A finding where epsilon is larger than the gradients and the run is slow."""
    epsilon = record.last("hyper/eps", "group 0")
    if not epsilon > 0 or not any(word in optimizer_name(record) for word in ("adam", "lamb", "rms")):
        raise NotApplicable("the optimizer has no epsilon beside a running mean of squared gradients")
    record.need("gradient/norm", 5)
    sizes: dict[str, tuple[int, float]] = {}
    for parameter in parameters(record):
        values = finite(*record.series("gradient/norm", parameter.name))[1]
        if parameter.is_matrix and len(values) >= 5:
            typical = float(np.median(values[len(values) // 2 :])) / np.sqrt(parameter.size)
            if typical > 0:
                sizes[parameter.name] = (parameter.size, typical)
    if not sizes:
        raise NotApplicable("no matrix with 5 readings of a gradient that is not exactly zero")
    total = sum(size for size, _ in sizes.values())
    below = [name for name, (_, typical) in sizes.items() if typical < epsilon]
    share = sum(sizes[name][0] for name in below) / total
    ratio = finite(*record.series("update/ratio"))[1]
    run = course(record)
    idle = bool(len(ratio)) and float(np.median(ratio)) < still
    if share < part or not (run.failing or run.won < slow or idle):
        return None
    typical = float(np.median([value for _, value in sizes.values()]))
    evidence = (
        exactly("epsilon", epsilon, typical),
        exactly("typical gradient entry", typical, epsilon),
        exactly("share of entries below epsilon", share, part),
    )
    sure = confidence(epsilon, max(typical, 1e-30), least=0.7)
    return Finding(ID, "warning", sure, tuple(below), (int(run.steps[0]), int(run.steps[-1])), evidence)
