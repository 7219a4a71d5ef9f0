"""The layer slot: modules of one class become those of another, or get another setting, once they are built.

Only layers that are modules can be reached; ``F.gelu(x)`` inside a forward is not one. The script's own
classes are found by name like those of ``torch.nn``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from vario.remedies import catalog
from vario.remedies import treatment_words as words
from vario.remedies.slots_built import become, same_chance, when_built
from vario.remedies.slots_told import Told, call_site

__all__ = ["factory_layer", "method_layer", "set_layer"]


def set_layer(key: str, value: str, told: Told) -> str:
    """``GELU=SiLU`` swaps classes; ``Dropout.p=0.3`` sets an attribute of each module of the class."""
    name, _, attribute = key.partition(".")
    _expect(told, [name])

    def act(module: nn.Module) -> None:
        if attribute:
            _set(module, attribute, words.parsed(value), told)
        else:
            _swap(module, lambda: _like(module, getattr(nn, value)), told)

    when_built(nn.Module, _named(name), act)
    return f"layer: {key}={value}"


def method_layer(method: str, options: Mapping[str, Any], told: Told) -> str:
    """Layers of the classes that the method replaces become layers of the method."""
    targets = words.layer_targets(method)
    _expect(told, targets)
    makers = _makers(method, targets, options)
    kinds = {getattr(nn, name): makers[name] for name in targets}

    def act(module: nn.Module) -> None:
        make = kinds[type(module)]
        _swap(module, lambda: make(module), told)

    when_built(nn.Module, lambda kind: kind in kinds, act)
    return f"layer: {method} in place of {', '.join(targets)}"


def factory_layer(function: Callable[..., Any], of: str, options: Mapping[str, Any], told: Told) -> str:
    """Modules of the class ``of`` become what the user's function makes of them."""
    _expect(told, [of])
    when_built(nn.Module, _named(of), lambda module: _swap(module, lambda: function(module, **options), told))
    return f"layer: {function.__name__} for each {of}"


def _expect(told: Told, names: Any) -> None:
    told.expects(
        "layer", f"the script built no module of class {' or '.join(names)}; functions like F.gelu have none"
    )


def _named(name: str) -> Callable[[type], bool]:
    return lambda kind: kind.__name__ == name


def _makers(
    method: str, targets: tuple[str, ...], options: Mapping[str, Any]
) -> dict[str, Callable[[nn.Module], Any]]:
    """For each class of torch, what makes the method's layer of one of its modules."""
    home = importlib.import_module(f"vario.methods.{catalog.find(method).shelf}.{method.replace('-', '_')}")
    found: dict[str, Callable[[nn.Module], Any]] = {}
    for public in home.__all__:
        kind = getattr(home, public)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            continue
        said = kind.__dict__.get("__doc__") or ""
        own = [name for name in targets if f"In place of ``nn.{name}``" in said]
        convert = getattr(kind, "from_existing", None)
        for name in targets if convert else own:
            if convert is not None:
                found.setdefault(name, functools.partial(convert, **options))
            else:
                found[name] = functools.partial(_plain_twin, kind=kind, options=options)
    return found


def _plain_twin(module: nn.Module, *, kind: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    usual = type(module)()
    if repr(module) != repr(usual):
        raise ValueError(f"{kind.__name__} replaces {usual!r}, and the script has {module!r}")
    return kind(**options)


def _like(module: nn.Module, kind: type) -> Any:
    """A module of another class of torch with the settings of this one, where the words agree."""
    given: dict[str, Any] = {}
    missing = []
    asked = _groups_of(module) if kind is nn.GroupNorm else {}
    for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]:  # type: ignore[misc]
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name in ("device", "dtype"):
            continue
        value = getattr(module, name, given)
        if name == "bias":
            value = value if value is given else value is not None
        if value is not given and not isinstance(value, torch.Tensor) and not callable(value):
            given[name] = value
        elif parameter.default is parameter.empty and name not in asked:
            missing.append(name)
    if missing:
        raise ValueError(f"{kind.__name__} needs {', '.join(missing)}, which {module!r} does not have")
    made = kind(**{**given, **asked})
    first = next(module.parameters(), None)
    return made if first is None else made.to(device=first.device, dtype=first.dtype)


def _groups_of(module: nn.Module) -> dict[str, int]:
    """Of what normalizes channels: groups of 16 channels (Wu and He, 2018), else one group of all."""
    channels = getattr(module, "num_features", 0)
    groups = channels // 16 if channels and channels % 16 == 0 else 1
    return {"num_groups": groups, "num_channels": channels} if channels else {}


def _swap(module: nn.Module, make: Callable[[], Any], told: Told) -> None:
    before, description = type(module).__name__, repr(module)
    try:
        with same_chance():
            made = make()
        if not isinstance(made, nn.Module):
            raise TypeError(f"the replacement of {description} is {made!r}, not a module")
        become(module, made)
    except Exception as error:
        told.fail("layer", f"{type(error).__name__}: {error}")
    told.put_in("layer", {"from": before, "to": type(module).__name__, "call": call_site()})


def _set(module: nn.Module, attribute: str, value: Any, told: Told) -> None:
    if attribute == "bias" and value is False:
        module.register_parameter("bias", None)
        told.put_in(
            "layer",
            {"of": type(module).__name__, "attribute": attribute, "value": value, "call": call_site()},
        )
        return
    before = module.__dict__.get(attribute)
    if not isinstance(before, bool | int | float):
        numbers = [key for key, held in module.__dict__.items() if isinstance(held, int | float)]
        shown = [key for key in numbers if not key.startswith("_") and key != "training"]
        told.fail("layer", f"{module!r} has no number {attribute!r}; it has {', '.join(shown) or 'none'}")
    setattr(module, attribute, value)
    told.put_in(
        "layer",
        {
            "of": type(module).__name__,
            "attribute": attribute,
            "before": before,
            "value": value,
            "call": call_site(),
        },
    )
