r"""Parameter groups whose learning rates follow the width, so that rates tuned on a narrow model stay right.

.. math:: \eta_l = \eta_{base} \left(\frac{n}{n_{base}}\right)^{-c_l}, \qquad c_l = \alpha_l - a_l - g_l

:math:`\alpha_l` says how an update lines up with what the layer reads: 1 where fully (the default), 1/2 where
not at all, 0 for input layers; ``alignment_of`` measures it. The layer is multiplied by :math:`n^{-a_l}`, and
:math:`n^{-g_l}` is the size of what the optimizer makes its step from: the gradient (SGD), a sign (Adam: 0),
the weight itself (Adafactor: the exponent of its start). For Adam in the standard parametrization: input 0,
hidden 1, readout 1.

When to use: a model is made wider and its learning rate was tuned narrow (learning-rate-too-high after it).

When not to: only the depth changed; parametrizations whose multipliers are not in the model.

>>> import torch
>>> narrow, wide = (torch.nn.Sequential(torch.nn.Linear(4, n), torch.nn.Linear(n, n), torch.nn.Linear(n, 2))
...                 for n in (64, 256))
>>> for group in width_groups(wide, narrow, lr=0.01):
...     print(group["role"], group["lr"], len(group["params"]))
input 0.01 3
hidden 0.0025 1
readout 0.0025 1
fixed 0.01 1
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["width_groups", "width_exponent", "alignment_of"]

CARD = {
    "papers": ("P355",),
    "slot": "parameter-groups",
    "treats": ("learning-rate-too-high", "learning-rate-too-low"),
    "example": {},
    "cost": "none",
    "checked": "equation: the table of exponents, worked by hand for every parametrization and optimizer; "
    "alignment 1 of updates along the inputs, 1/2 of independent ones",
    "changed": "the multipliers and initializations of NTK, muP and mean-field must be in the model; only "
    "learning rates are set here. Vectors that grow with the width count as input layers",
    "shown": "digits MLP with Adam, widths 64, 256 and 1,024, three seeds, rates a factor of 2 apart: "
    "the best rate moves by at most one step of the grid",
}

# exponents (a, b) per parametrization and layer: multiplier n^-a, standard deviation at the start n^-b
SHAPES = {
    "standard": {"input": (0.0, 0.0), "hidden": (0.0, 0.5), "readout": (0.0, 0.5)},
    "ntk": {"input": (0.0, 0.0), "hidden": (0.5, 0.0), "readout": (0.5, 0.0)},
    "mup": {"input": (-0.5, 0.5), "hidden": (0.0, 0.5), "readout": (0.5, 0.5)},
    "mean-field": {"input": (0.0, 0.0), "hidden": (0.5, 0.0), "readout": (1.0, 0.0)},
}


def width_groups(
    model: nn.Module,
    base: nn.Module,
    *,
    lr: float,
    optimizer: str = "adam",
    parametrization: str = "standard",
    alignment: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for any torch optimizer; ``base`` is the same model at the width where ``lr`` was tuned.

    Each group has the key ``role``: input, hidden, readout, or fixed (does not grow).
    """
    narrow = dict(base.named_parameters())
    found: dict[tuple[str, float], list[Tensor]] = {}
    for name, p, embedding in _parameters(model):
        if name not in narrow or narrow[name].ndim != p.ndim:
            raise ValueError(f"width_groups: the base model has no parameter {name} of {p.ndim} dimensions.")
        role, ratio = _role(p, narrow[name], embedding)
        found.setdefault((role, ratio), []).append(p)
    if all(role == "fixed" for role, _ in found):
        raise ValueError("width_groups: no parameter differs in size between the model and its base.")
    groups = []
    for role, ratio in sorted(found, key=lambda key: ("input", "hidden", "readout", "fixed").index(key[0])):
        power = 0.0
        if role != "fixed":
            power = width_exponent(
                role, optimizer=optimizer, parametrization=parametrization, alignment=alignment
            )
        groups.append({"params": found[role, ratio], "lr": lr * ratio**-power, "role": role})
    return groups


def width_exponent(
    role: str, *, optimizer: str = "adam", parametrization: str = "standard", alignment: float = 1.0
) -> float:
    """The c of the equation for a layer: its learning rate goes as width^-c."""
    if parametrization not in SHAPES or optimizer not in ("sgd", "adam", "adafactor"):
        raise ValueError(
            f"width_exponent: parametrization {parametrization!r} must be one of {', '.join(SHAPES)} and "
            f"optimizer "
            f"{optimizer!r} one of sgd, adam, adafactor."
        )
    layers = SHAPES[parametrization]
    a, b = layers[role]
    made_from = {"adam": 0.0, "adafactor": b}.get(optimizer, _gradient_exponent(role, layers))
    return (0.0 if role == "input" else alignment) - a - made_from


def alignment_of(change: Tensor, inputs: Tensor) -> float:
    """The alpha of the equation, measured: of a change of a weight (out, in) with what it reads (..., in).

    rms(change x) = in^alpha rms(change) rms(x): 1 where rows of the change lie along the inputs, 1/2 where
    they are independent.
    """
    if change.ndim != 2 or change.shape[1] < 2 or inputs.shape[-1] != change.shape[1]:
        raise ValueError(
            f"alignment_of: the change {tuple(change.shape)} must be (out, in) with at least 2 inputs, and "
            f"the inputs {tuple(inputs.shape)} must end in as many."
        )
    with torch.no_grad():
        made = nn.functional.linear(inputs, change)
        sizes = [t.double().square().mean().sqrt().item() for t in (made, change, inputs)]
    if not min(sizes) > 0:
        raise ValueError("alignment_of: the change, the inputs or their product are zero or not a number.")
    return math.log(sizes[0] / (sizes[1] * sizes[2])) / math.log(change.shape[1])


def _gradient_exponent(role: str, layers: dict[str, tuple[float, float]]) -> float:
    """Entries of the gradient go as width^-g: what comes back through the readout, times the multiplier."""
    a, b = layers["readout"]
    return a if role == "readout" else a + b + layers[role][0]


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, p in model.named_parameters():
        yield name, p, id(p) in embeddings


def _role(p: Tensor, narrow: Tensor, embedding: bool) -> tuple[str, float]:
    """Role of a weight (out, in, ...), by which sides grew, and by how much."""
    ratios = [wide / small for wide, small in zip(p.shape, narrow.shape, strict=True)]
    grown = [ratio != 1 for ratio in ratios]
    if not any(grown):
        return "fixed", 1.0
    if p.ndim < 2 or embedding:
        return "input", max(ratios)
    if grown[0] and grown[1]:
        return "hidden", ratios[1]
    return ("readout", ratios[1]) if grown[1] else ("input", ratios[0])
