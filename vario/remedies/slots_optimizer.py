"""The optimizer slot: another optimizer in the script's own variable, with the script's own arguments.

The script builds its optimizer; then the object becomes the replacement, so schedulers, scalers and
trainers that are given it later hold the replacement. Groups stay groups, with their own settings. The
learning rate is carried over, and so is every other setting that the script chose and both constructors call
by the same word; the event says what was not.
"""

from __future__ import annotations

import importlib
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

from vario.methods.optimizers._around import AroundOptimizer
from vario.remedies import catalog
from vario.remedies import treatment_words as words
from vario.remedies.slots_built import become, same_chance, twin_of, when_built
from vario.remedies.slots_told import Told, call_site

__all__ = ["factory_optimizer", "replace_optimizer", "wrap_optimizer"]

_MISSING = object()
_ours: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # replaced or wrapped by us: wrappers can be stacked


def replace_optimizer(method: str, options: Mapping[str, Any], told: Told) -> str:
    """Every optimizer becomes one of the method, or of a class of ``torch.optim``."""
    target = target_of(method)
    own = {key: value for key, value in options.items() if key != "lr"}  # slots_step sees to the rate

    def act(optimizer: Optimizer) -> None:
        carried, left = _carried(optimizer, target, own)
        _replace(
            optimizer,
            lambda twin: target(
                _groups(twin, carried),
                **({"lr": twin.defaults["lr"]} if "lr" in twin.defaults else {}),
                **carried,
                **own,
            ),
            told,
            {
                "lr": optimizer.defaults.get("lr"),
                "carried": carried,
                "not_carried": left,
                "options": dict(options),
            },
        )

    _for_each("optimizer", act, told)
    return f"optimizer: {method}"


def wrap_optimizer(method: str, options: Mapping[str, Any], told: Told) -> str:
    """Every optimizer becomes the method's wrapper around what it was."""
    target = target_of(method)

    def act(optimizer: Optimizer) -> None:
        _replace(
            optimizer,
            lambda twin: target(twin, **options),
            told,
            {"options": dict(options)},
            "optimizer-around",
        )

    _for_each("optimizer-around", act, told)
    return f"optimizer-around: {method}"


def factory_optimizer(function: Callable[..., Any], options: Mapping[str, Any], told: Told) -> str:
    """Every optimizer becomes what the user's function makes of it."""

    def act(optimizer: Optimizer) -> None:
        _replace(optimizer, lambda twin: function(twin, **options), told, {"options": dict(options)})

    _for_each("optimizer", act, told)
    return f"optimizer: {function.__name__}"


def target_of(method: str) -> Callable[..., Any]:
    """The class or function of a method, imported."""
    if method in words.torch_optimizers():
        return getattr(torch.optim, method)  # type: ignore[no-any-return]
    entry = catalog.find(method)
    home = importlib.import_module(f"vario.methods.{entry.shelf}.{entry.path.stem}")
    return getattr(home, words.public_name(method))  # type: ignore[no-any-return]


def _for_each(slot: str, act: Callable[[Optimizer], None], told: Told) -> None:
    """Act on every optimizer that the script builds; what wraps one, as accelerate's does, is left alone."""

    def built(optimizer: Optimizer) -> None:
        wraps = any(isinstance(held, Optimizer) for held in vars(optimizer).values())
        if optimizer in _ours or not wraps:
            act(optimizer)
            _ours.add(optimizer)

    told.expects(slot, "the script built no torch.optim.Optimizer")
    when_built(Optimizer, lambda kind: kind is not Optimizer, built)


def _replace(
    optimizer: Optimizer,
    make: Callable[[Any], Any],
    told: Told,
    data: dict[str, Any],
    slot: str = "optimizer",
) -> None:
    before = type(optimizer).__name__
    try:
        with same_chance():
            made = make(twin_of(optimizer))
            if not isinstance(made, Optimizer):
                raise TypeError(f"the replacement is {made!r}, not a torch.optim.Optimizer")
            name = type(made).__name__
            try:
                become(optimizer, made)
            except TypeError:  # Python allows no change to a class with other bases, such as ABC
                become(optimizer, _held(made))
    except Exception as error:
        told.fail(slot, f"{before}: {type(error).__name__}: {error}")
    told.put_in(slot, {"from": before, "to": name, **data, "call": call_site()})


def _held(made: Optimizer) -> Optimizer:
    """A plain optimizer under the same name that steps with ``made`` and shares all that it holds."""

    def unchanged(self: Any, group: Any, params: Any, grads: Any) -> Any:
        del self, group, params
        return grads

    kind = type(type(made).__name__, (AroundOptimizer,), {"_change": unchanged})
    held: Optimizer = kind(made, {})
    return held


def _carried(
    optimizer: Optimizer, target: Callable[..., Any], own: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the script chose and the target knows by the same word; and what it chose and the target has not.

    Chosen is what differs, in any group, from the usual value of the script's own class, and a weight decay
    that is at work, usual or not. What nobody chose is left to the usual values of the replacement: AdamW in
    place of a plain Adam decays weights, as its authors meant it to.
    """
    known = inspect.signature(target).parameters
    before = inspect.signature(type(optimizer)).parameters
    carried, left = {}, {}
    for key, value in optimizer.defaults.items():
        if key not in before or key == "lr" or key in own:  # what no argument sets, the class is
            continue
        usual = before[key].default
        held = [value, *(group[key] for group in optimizer.param_groups if key in group)]
        decays = key == "weight_decay" and any(held)
        if all(one is None or one == usual for one in held) and not decays:
            continue
        wanted = known[key].default if key in known else _MISSING
        if wanted is not _MISSING and _length(value) == _length(wanted):
            carried[key] = value
        else:
            left[key] = value
    return carried, left


def _length(value: Any) -> int:
    """Of a tuple of settings; 0 for a single one."""
    return len(value) if isinstance(value, tuple | list) else 0


def _groups(optimizer: Optimizer, carried: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The script's groups, each with its own settings of the carried kinds, and its own rate."""
    kept = {"params", "lr", *carried}
    return [{key: value for key, value in group.items() if key in kept} for group in optimizer.param_groups]
