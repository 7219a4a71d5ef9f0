"""Settings of the optimizer, schedules and clipping: what holds while the optimizer steps, and only then.

Learning rates are multiplied and other settings exchanged as the step begins, and put back as it ends.
The script goes on seeing its own numbers, so the change holds whatever moves them: a scheduler, a
``param_group["lr"] = ...`` of the script, a trainer. Groups with their own rate are scaled alike.
The record sees the numbers that the optimizer steps with.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from vario.capture.closures import nested
from vario.remedies.slots_built import same_chance, when_built
from vario.remedies.slots_told import Told

__all__ = ["Steps"]

Group = dict[str, Any]
Change = Callable[[Group], Mapping[str, Any]]


class Steps:
    """Everything that is done around the steps of the script's optimizers."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.settings: dict[str, Any] = {}  # lr and others, as typed
        self.clip_norm: float | None = None
        self.cleared = False  # gradients, after each step
        self.schedule: Callable[[Optimizer], Callable[[], float]] | None = None
        self.schedule_replaces = False
        self.scale: Callable[[Group], Mapping[str, Any]] | None = None  # of scale-batch
        self.needs_closure = ""
        self._typed: weakref.WeakKeyDictionary[Optimizer, list[float]] = weakref.WeakKeyDictionary()
        self._changes: weakref.WeakKeyDictionary[Optimizer, list[Change]] = weakref.WeakKeyDictionary()
        self._lent: list[tuple[Group, str, Any]] = []
        self._inside: Optimizer | None = None
        self._script_clips = False

    def wanted(self) -> bool:
        """Whether anything is to be done."""
        return bool(self._slots() or self.needs_closure)

    def listen(self) -> None:
        """From now on."""
        for slot in self._slots():
            self.told.expects(slot, "no torch.optim.Optimizer took a step")
        when_built(Optimizer, lambda kind: kind is not Optimizer, self._built)
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)
        if self.clip_norm is not None:
            self._take_over_clipping(self.clip_norm)

    def _slots(self) -> list[str]:
        found = ["optimizer"] if self.settings else []
        found += ["gradient"] if self.clip_norm is not None or self.cleared else []
        found += ["schedule"] if self.schedule else []
        return found + (["rule-of-change"] if self.scale else [])

    # ---- hooks

    def _built(self, optimizer: Optimizer) -> None:
        """The learning rates that the script typed, the usual one first, before anything moves them."""
        rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
        if rates:
            usual = optimizer.defaults.get("lr")
            usual = float(usual) if usual is not None and float(usual) in rates else rates[0]
            self._typed[optimizer] = [usual, *rates]

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._inside is not None and nested():
            return None  # a wrapper's inner optimizer
        self._give_back()  # the last step raised
        self._inside = optimizer
        if optimizer not in self._changes:
            self._changes[optimizer] = self._plan(optimizer)
        for change in self._changes[optimizer]:
            for group in optimizer.param_groups:
                for key, value in change(group).items():
                    self._lent.append((group, key, group[key]))
                    group[key] = value
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if self.needs_closure and closure is None:
            self.told.fail(
                "optimizer-around",
                f"{self.needs_closure} computes the loss twice in a step, and the script calls "
                "optimizer.step() without a closure",
            )
        if self.clip_norm is None:
            return None
        if not callable(closure):
            self._clip(optimizer, self.clip_norm)
            return None
        return self._with_clipping(optimizer, closure, args, kwargs)

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del args, kwargs
        if optimizer is self._inside and not nested():
            self._inside = None
            self._script_clips = False
            self._give_back()
            if self.cleared:
                self._clear(optimizer)

    def _clear(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.zero_()
        self.told.put_in("gradient", {"cleared": True, "of": type(optimizer).__name__})

    def _give_back(self) -> None:
        for group, key, value in reversed(self._lent):
            group[key] = value
        self._lent.clear()

    # ---- what changes

    def _plan(self, optimizer: Optimizer) -> list[Change]:
        """What is changed at every step of this optimizer, told once."""
        changes: list[Change] = []
        if self.scale is not None:
            changes.append(self.scale)
            told = {
                key: list(pair) for key, pair in _difference(optimizer.param_groups[0], self.scale).items()
            }
            self.told.put_in("rule-of-change", {"optimizer": type(optimizer).__name__, "changed": told})
        for key, value in self.settings.items():
            change, before = (
                self._rate(optimizer, value) if key == "lr" else self._other(optimizer, key, value)
            )
            changes.append(change)
            self.told.put_in(
                "optimizer",
                {"of": type(optimizer).__name__, "setting": key, "before": before, "after": value},
            )
        if self.schedule is not None:
            changes.append(self._scheduled(optimizer))
        self._check(optimizer)
        return changes

    def _rate(self, optimizer: Optimizer, wanted: float) -> tuple[Change, float]:
        typed = self._typed_rate(optimizer)
        if not typed or not math.isfinite(typed):
            self.told.fail("optimizer", f"the script's learning rate is {typed}: nothing can be scaled")
        factor = float(wanted) / typed
        return lambda group: {"lr": group["lr"] * factor} if "lr" in group else {}, typed

    def _typed_rate(self, optimizer: Optimizer) -> float:
        """The rate of the first group, or of the constructor; a OneCycleLR names its own."""
        group = optimizer.param_groups[0]
        if "max_lr" in group:
            return float(group["max_lr"])
        if optimizer in self._typed:
            return float(self._typed[optimizer][0])
        return float(group.get("initial_lr", group.get("lr", math.nan)))

    def _other(self, optimizer: Optimizer, key: str, value: Any) -> tuple[Change, Any]:
        held = [group[key] for group in optimizer.param_groups if key in group]
        if not held:
            words = [k for k in optimizer.param_groups[0] if k != "params"]
            self.told.fail("optimizer", f"{type(optimizer).__name__} has no {key}; it has {', '.join(words)}")
        if key != "weight_decay":
            if isinstance(held[0], tuple) != isinstance(value, tuple):
                self.told.fail("optimizer", f"{key} is {held[0]!r} here; {value!r} is of another kind")
            return lambda group: {key: value} if key in group else {}, held[0]
        largest = max(held)  # the one that was typed; groups without decay stay without
        factor = float(value) / largest if largest else 0.0

        def decay(group: Group) -> Mapping[str, Any]:
            return {key: group[key] * factor if largest else value} if key in group else {}

        return decay, largest

    def _scheduled(self, optimizer: Optimizer) -> Change:
        assert self.schedule is not None
        with same_chance():
            next_factor = self.schedule(optimizer)
        now, seen = [1.0], [-1]
        rates = self._typed.get(optimizer, [])[1:]
        typed = {id(g): r for g, r in zip(optimizer.param_groups, rates, strict=False) if "max_lr" not in g}
        first = optimizer.param_groups[0]
        settings_factor = self._setting_factor(optimizer)

        def scheduled(group: Group) -> Mapping[str, Any]:
            if group is first:
                seen[0] += 1
                now[0] = next_factor()
            if self.schedule_replaces:
                return {"lr": (typed.get(id(group)) or _first_rate(group)) * settings_factor * now[0]}
            return {"lr": group["lr"] * now[0]}

        self.told.put_in("schedule", {"of": type(optimizer).__name__, "replaces": self.schedule_replaces})
        return scheduled

    def _setting_factor(self, optimizer: Optimizer) -> float:
        typed = self._typed_rate(optimizer)
        return float(self.settings["lr"]) / typed if "lr" in self.settings and typed else 1.0

    def _check(self, optimizer: Optimizer) -> None:
        group = {**optimizer.param_groups[0], **{k: v for k, v in self.settings.items() if k != "lr"}}
        if group.get("nesterov") and (not group.get("momentum", 1) or group.get("dampening", 0)):
            self.told.fail("optimizer", "nesterov needs a momentum above 0 and no dampening")

    # ---- clipping

    def _clip(self, optimizer: Optimizer, limit: float) -> None:
        if getattr(optimizer, "grad_scale", None) is not None:
            self.told.fail(
                "gradient", "the fused optimizer unscales the gradients inside its step; set fused=False"
            )
        if not self._script_clips:  # it clipped already, at our limit
            params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(params, limit)
        self.told.put_in("gradient", {"clip_norm": limit, "script_clips": self._script_clips})

    def _with_clipping(
        self, optimizer: Optimizer, closure: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        limit = self.clip_norm or math.inf

        def clipped() -> Any:
            value = closure()
            self._clip(optimizer, limit)
            return value

        if len(args) > 1:
            return (args[0], clipped, *args[2:]), kwargs
        return args, {**kwargs, "closure": clipped}

    def _take_over_clipping(self, limit: float) -> None:
        """Where the script clips by norm itself, our limit takes the place of its own."""
        original = torch.nn.utils.clip_grad_norm_

        def clip_grad_norm_(parameters: Any, max_norm: Any, *args: Any, **words: Any) -> Any:
            self._script_clips = self._inside is None
            return original(parameters, limit if self._script_clips else max_norm, *args, **words)

        torch.nn.utils.clip_grad_norm_ = torch.nn.utils.clip_grad.clip_grad_norm_ = clip_grad_norm_


def _first_rate(group: Group) -> float:
    return float(group["max_lr"] if "max_lr" in group else group.get("initial_lr") or group["lr"])


def _difference(group: Group, change: Change) -> dict[str, tuple[Any, Any]]:
    return {key: (group[key], value) for key, value in change(group).items()}
