"""The model's slots: how it starts, which of its parameters learn, its mode, and the scale of its ends.

A model is whatever module with parameters the script calls from outside any other module. What concerns its
weights is done once, before its first forward; modes and scales hold during each forward and are put back.
A forward in which gradients are recorded counts as one of training.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim.optimizer import Optimizer

from vario.remedies.slots_built import same_chance, when_built
from vario.remedies.slots_told import Told

__all__ = ["Models"]


class Models:
    """Everything that is done to the models of the script."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.settings: dict[str, dict[str, Any]] = {}  # slot -> key -> value
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._known: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # models, and all that is inside them
        self._scaled: weakref.ref[nn.Module] | None = None  # the one model whose ends have a scale
        self._inside: nn.Module | None = None
        self._modes: list[tuple[nn.Module, bool]] = []  # as the script had them
        self._features = _Moments()

    def listen(self) -> None:
        """From now on."""
        for slot in self.settings:
            trained = " that an optimizer trains" if slot in ("start", "parameters") else ""
            self.told.expects(
                slot, f"the script called no module with parameters{trained} as the slot needs it"
            )
        when_built(Optimizer, lambda kind: kind is not Optimizer, self._optimizers.add)
        nn.modules.module.register_module_forward_pre_hook(self._before)
        nn.modules.module.register_module_forward_hook(self._after, always_call=True)

    # ---- hooks

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        if self._inside is not None or next(module.parameters(), None) is None:
            return None
        self._inside = module
        if module not in self._known:
            self._meet(module)
        self._set_mode(module)
        return self._scaled_input(module, args) if "input" in self.settings else None

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        del args
        if module is not self._inside:
            return None
        self._inside = None
        for part, mode in self._modes:
            part.training = mode
        self._modes.clear()
        wanted = self.settings.get("target")
        return self._scaled_output(module, output, wanted) if wanted and output is not None else None

    # ---- once

    def _meet(self, model: nn.Module) -> None:
        """Of models that no optimizer trains (a teacher, a copy for evaluation) the weights stay theirs."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        own = {id(p) for p in model.parameters()}
        shares = [sum(id(p) in own for p in group["params"]) for group in groups]
        if not max(shares, default=0):
            return
        new = [part for part in model.modules() if part not in self._known]
        self._known.update(new)
        if "start" in self.settings:
            self._start_anew(model, new)
        if "parameters" in self.settings:
            held = {id(p) for group in groups for p in group["params"]}
            self._let_learn(model, held, groups[shares.index(max(shares))])

    def _start_anew(self, model: nn.Module, parts: list[nn.Module]) -> None:
        """Each layer gets the first weights that torch itself gives it, or those of He et al. (2015)."""
        layers = [part for part in parts if _can_start(part)]
        if not any(map(_can_start, model.modules())):
            self.told.fail("start", f"{type(model).__name__} has no layer with reset_parameters()")
        with same_chance():
            for layer in layers:
                layer.reset_parameters()  # type: ignore[operator]
                if "fan_in" in self.settings["start"] and isinstance(layer, nn.Linear | _ConvNd):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        self.told.put_in("start", {"of": type(model).__name__, "layers": len(layers)})

    def _let_learn(self, model: nn.Module, held: set[int], group: dict[str, Any]) -> None:
        """Every parameter asks for a gradient and belongs to an optimizer: to that of most of the others."""
        names = [name for name, p in model.named_parameters() if id(p) not in held or not p.requires_grad]
        for p in model.parameters():
            if p.is_floating_point():
                p.requires_grad_(True)
                if id(p) not in held:
                    group["params"].append(p)
        self.told.put_in("parameters", {"of": type(model).__name__, "added": names})

    # ---- at each forward

    def _set_mode(self, model: nn.Module) -> None:
        learning = torch.is_grad_enabled()
        if model.training == learning or not self.settings.get("mode", {}).get(
            "training" if learning else "evaluation"
        ):
            return
        self._modes = [(part, part.training) for part in model.modules()]
        model.train(learning)
        self.told.put_in("mode", {"of": type(model).__name__, "training": learning})

    def _scaled_input(self, model: nn.Module, args: tuple[Any, ...]) -> Any:
        first = args[0] if args else None
        if not isinstance(first, Tensor) or not first.is_floating_point():
            self.told.fail("input", f"the first input of {type(model).__name__} is no tensor of floats")
        self._only(model, "input")
        wanted = self.settings["input"]
        if wanted.get("standardized"):
            if first.dim() != 2:
                self.told.fail("input", f"features are columns of (n, features), not of {first.dim()} dims")
            if torch.is_grad_enabled():
                self._features.add(first.detach())
            first = self._features.standardized(first)
        else:
            first = (first - float(wanted.get("mean", 0.0))) / float(wanted.get("std", 1.0))
        self.told.put_in("input", {"of": type(model).__name__, **wanted})
        return (first, *args[1:])

    def _scaled_output(self, model: nn.Module, output: Any, wanted: dict[str, Any]) -> Any:
        if not isinstance(output, Tensor):
            self.told.fail("target", f"{type(model).__name__} returns {type(output).__name__}, not a tensor")
        self._only(model, "target")
        self.told.put_in("target", {"of": type(model).__name__, **wanted})
        scaled = _Rescaled.apply(output, float(wanted.get("mean", 0.0)), float(wanted.get("std", 1.0)))
        return scaled  # type: ignore[no-untyped-call, unused-ignore]

    def _only(self, model: nn.Module, slot: str) -> None:
        """Ends have a scale where there is one model; of several, the script alone knows the first."""
        if self._scaled is None:
            self._scaled = weakref.ref(model)
        elif self._scaled() is not model:
            self.told.fail(slot, "the script calls several models, and which of them it is for is not known")


def _can_start(part: nn.Module) -> bool:
    return callable(getattr(part, "reset_parameters", None))


class _Moments:
    """Mean and spread of each column over all rows that were seen."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(1, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        total = self.count + len(rows)
        off = rows.mean(0) - self.mean
        self.squares = self.squares + (rows - rows.mean(0)).square().sum(0)
        self.squares = self.squares + off.square() * self.count * len(rows) / total
        self.mean, self.count = self.mean + off * len(rows) / total, total

    def standardized(self, rows: Tensor) -> Tensor:
        if not self.count:
            return rows
        spread = (self.squares / self.count).sqrt()
        return ((rows - self.mean) / torch.where(spread > 0, spread, 1.0)).to(rows.dtype)


class _Rescaled(torch.autograd.Function):
    """``x * std + mean``, whose gradient is that of a squared error between x and the standardized target."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: float, std: float) -> Tensor:
        ctx.std = std
        return x * std + mean

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] / ctx.std, None, None
