"""Gradients die out on their way back: the first layers get almost no signal.

What it means: each layer multiplies the signal by less than one (saturating nonlinearities, small
weights, many layers without shortcuts), so that the layers near the input do not learn.
How it is decided: the typical size (root mean square) of the gradient's entries, matrix by matrix, over the
first ten readings: the smallest one lies in the first half of the layers, is below a thousandth of that of
the layer nearest to the loss, at least 60 % of the steps from layer to layer go down towards the input, and
no matrix nearer to the input has thirty times that thousandth: what reaches one below has not died on the way
(queries and keys of attention get little while a table of embeddings gets much).
Asked only in a run that fails or has lost less than half of what a guess costs; below the relative precision
of single numbers (1.2e-7) in any: there the last layers alone can have learned. Layers whose gradient is
exactly zero are left out: units that are off are another illness.
Not applicable: fewer than 4 matrices with a measured gradient, or their order is unknown; an epsilon of the
optimizer above even the last layer's gradient, which holds all layers back.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable, Severity
from vario.record import Record
from vario.rules._course import course
from vario.rules._evidence import confidence, exactly
from vario.rules._parameters import early_norms, parameters

ID = "vanishing-gradients"
CARD = {
    "papers": ("P087", "P202"),
    "reads": ("gradient/norm", "loss/train"),
    "checked": "closed form: a product of equal factors over depth",
    "changed": "",
    "summary": "The gradient of {gradient over that of the last layer} of the last layer's is "
    "all that reaches the first "
    "layers.",
}


def check(
    record: Record,
    *,
    ratio_limit: float = 1e-3,  # AutoTrainer's limit; widths and fan-in explain a factor of thirty
    slow: float = 0.5,  # share of the loss of a guess that a run which is not slow has lost
    spread: float = 30.0,  # the factor that widths and fan-in explain
    lost: float = 1.2e-7,  # relative precision of float32
    downward: float = 0.6,  # share of the steps between layers that lead down
) -> Finding | None:
    """A finding where a slow or failing run has gradients that fade towards the input."""
    known = set(record.wheres("gradient/norm"))
    matrices = [p.name for p in parameters(record) if p.is_matrix and p.trainable and p.name in known]
    run = course(record)
    learned = run.state == "learning" and not run.won < slow
    if learned and len(matrices) >= 4:
        ratio_limit = lost
        ends = early_norms(record, only=(matrices[0], matrices[-1]))  # before every matrix is read
        if not 0 < ends.get(matrices[0], 0.0) < lost * ends.get(matrices[-1], 0.0):
            return None
    found = {name: size for name, size in early_norms(record).items() if size > 0}
    if len(found) < 4:
        raise NotApplicable(f"{len(found)} matrices with a gradient that is not zero; 4 are needed")
    names, sizes = list(found), np.array(list(found.values()))
    if record.last("hyper/eps", "group 0") > sizes[-1]:
        raise NotApplicable(
            "the optimizer's epsilon is above even the last layer's gradient, and judged apart"
        )
    smallest = int(sizes.argmin())
    ratio = float(sizes[smallest] / sizes[-1])
    down = float(np.mean(np.diff(sizes) > 0))
    reaches = float(sizes[: smallest + 1].max() / sizes[-1])
    if ratio >= ratio_limit or reaches >= spread * ratio_limit:
        return None
    if smallest >= len(sizes) / 2 or down < downward:
        return None
    weak = tuple(name for name, size in found.items() if size < ratio_limit * sizes[-1])
    evidence: list[Evidence] = [
        exactly("gradient over that of the last layer", ratio, ratio_limit, names[smallest]),
        exactly("layers with too small a gradient", len(weak), 0),
        exactly("factor from layer to layer", ratio ** (1 / max(len(sizes) - 1 - smallest, 1)), 1.0),
    ]
    severity: Severity = "error" if run.failing else "warning"
    sure = confidence(ratio_limit, ratio, least=0.75, most=0.97)
    return Finding(ID, severity, sure, weak, (int(run.steps[0]), int(run.steps[-1])), tuple(evidence))
