"""The learning rate above which an optimizer leaves a quadratic bowl, from the curvature that it sees.

Plain descent by D g (D the rates over what the optimizer divides by) is stable where the largest eigenvalue
of D^1/2 H D^1/2 is below 2. Heavy-ball momentum b raises that to 2 (1 + b) / (1 - dampening), Nesterov's
to 2 (1 + b) / (1 + 2 b); moving averages of the gradient, as Adam keeps, to 2 (1 + b) / (1 - b).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from vario.nouns import NotApplicable

__all__ = ["Rates", "rates"]


@dataclass(frozen=True, slots=True)
class Rates:
    """``scales``: D for the entries of each parameter; ``limit``: what its largest eigenvalue may be.

    ``decays``: coupled weight decay of each parameter, which adds to its curvature.
    """

    scales: list[Tensor]
    decays: list[float]
    limit: float


def rates(optimizer: Optimizer, params: Sequence[Tensor]) -> Rates:
    """Of these parameters. Raises NotApplicable where the optimizer's limit is not known, with the reason."""
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    groups = [group_of.get(id(parameter)) for parameter in params]
    kind = _kind(optimizer)
    if kind is None:
        raise NotApplicable(f"the stability limit of {type(optimizer).__name__} is not known here")
    scales, decays, limits = [], [], set()
    for parameter, group in zip(params, groups, strict=True):
        if group is None:  # not stepped by it
            scales.append(torch.zeros_like(parameter))
            decays.append(0.0)
            continue
        if group.get("maximize"):
            raise NotApplicable("the optimizer climbs (maximize=True): there is no bowl to leave")
        scale, limit = kind(optimizer.state.get(parameter, {}), group, parameter)
        scales.append(float(group["lr"]) * scale)
        coupled = type(optimizer).__name__ not in _DECOUPLED and not group.get("decoupled_weight_decay")
        decays.append(float(group.get("weight_decay", 0.0)) if coupled else 0.0)
        limits.add(round(limit, 12))
    if len(limits) != 1:
        raise NotApplicable("the groups of the optimizer have different momenta: no one limit holds")
    return Rates(scales, decays, limits.pop())


_DECOUPLED = frozenset({"AdamW"})


def _kind(optimizer: Optimizer) -> Any:
    name = type(optimizer).__name__
    known = {"SGD": _sgd, "Adam": _adam, "AdamW": _adam, "RMSprop": _rmsprop, "Adagrad": _adagrad}
    return known.get(name)


def _sgd(state: dict[str, Any], group: dict[str, Any], parameter: Tensor) -> tuple[Tensor, float]:
    del state
    momentum = float(group.get("momentum", 0.0))
    limit = 2.0 * (1.0 + momentum)
    if group.get("nesterov"):
        limit /= 1.0 + 2.0 * momentum
    elif momentum:
        limit /= 1.0 - float(group.get("dampening", 0.0))
    return torch.ones_like(parameter, dtype=_precise(parameter)), limit


def _adam(state: dict[str, Any], group: dict[str, Any], parameter: Tensor) -> tuple[Tensor, float]:
    beta1, beta2 = (float(beta) for beta in group["betas"])
    second = state.get("max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq")
    if second is None:
        raise NotApplicable("the optimizer has not taken a step yet: what it will divide by is not known")
    steps = float(state["step"])
    mean = second.to(_precise(parameter)) / (1.0 - beta2**steps)
    return 1.0 / (mean.sqrt() + float(group["eps"])), 2.0 * (1.0 + beta1) / (1.0 - beta1)


def _rmsprop(state: dict[str, Any], group: dict[str, Any], parameter: Tensor) -> tuple[Tensor, float]:
    mean = state.get("square_avg")
    if mean is None:
        raise NotApplicable("the optimizer has not taken a step yet: what it will divide by is not known")
    mean = mean.to(_precise(parameter))
    if group.get("centered"):
        mean = (mean - state["grad_avg"].to(mean) ** 2).clamp(min=0)
    return 1.0 / (mean.sqrt() + float(group["eps"])), 2.0 * (1.0 + float(group.get("momentum", 0.0)))


def _adagrad(state: dict[str, Any], group: dict[str, Any], parameter: Tensor) -> tuple[Tensor, float]:
    total = state.get("sum")
    if total is None or not float(state["step"]):
        raise NotApplicable("the optimizer has not taken a step yet: what it will divide by is not known")
    slower = 1.0 + (float(state["step"]) - 1.0) * float(group["lr_decay"])
    return 1.0 / ((total.to(_precise(parameter)).sqrt() + float(group["eps"])) * slower), 2.0


def _precise(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)
