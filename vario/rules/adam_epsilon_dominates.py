"""Adam's epsilon outweighs the size of the gradients, so that Adam no longer scales its steps.

What it means: the denominator of the step is epsilon, not the gradient's own size. Layers with small
gradients get small steps, as with plain SGD at a rate that nobody chose.
How it is decided: only with Adam-like optimizers. For each matrix the typical size of its gradient's entries
(root mean square, median over the second half) is compared with epsilon; fires when epsilon is larger for at
least half of all entries of the matrices. A warning in a run that fails, has lost less than half of what a
guess costs, or moves its weights by less than 0.01 % a step; advice in one that learns, where it holds over
the first half as well: gradients that end near zero are below any epsilon. Matrices whose gradient is exactly
zero are left out: no epsilon is small enough for them.
Not applicable: the optimizer has no epsilon, or fewer than 5 readings of the gradient.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable, Severity
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
    early = 0  # entries of matrices that are below epsilon in the first half
    for parameter in parameters(record):
        values = finite(*record.series("gradient/norm", parameter.name))[1] / np.sqrt(parameter.size)
        if parameter.is_matrix and len(values) >= 5:
            first, second = (float(np.median(half)) for half in np.array_split(values, 2))
            if second > 0:
                sizes[parameter.name] = (parameter.size, second)
                early += parameter.size * (first < epsilon)
    if not sizes:
        raise NotApplicable("no matrix with 5 readings of a gradient that is not exactly zero")
    total = sum(size for size, _ in sizes.values())
    below = [name for name, (_, typical) in sizes.items() if typical < epsilon]
    share = sum(sizes[name][0] for name in below) / total
    ratio = finite(*record.series("update/ratio"))[1]
    run = course(record)
    idle = bool(len(ratio)) and float(np.median(ratio)) < still
    slow_run = run.failing or run.won < slow or idle
    if share < part or not (slow_run or early >= part * total):
        return None
    typical = float(np.median([value for _, value in sizes.values()]))
    evidence = (
        exactly("epsilon", epsilon, typical),
        exactly("typical gradient entry", typical, epsilon),
        exactly("share of entries below epsilon", share, part),
    )
    sure = confidence(epsilon, max(typical, 1e-30), least=0.7)
    severity: Severity = "warning" if slow_run else "advice"
    return Finding(ID, severity, sure, tuple(below), (int(run.steps[0]), int(run.steps[-1])), evidence)
