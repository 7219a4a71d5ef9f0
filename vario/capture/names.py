"""Which model an optimizer trains, what its parameters are called, and what the user calls it.

The model is the outermost module that holds the parameters, unless it also holds parameters that
another optimizer trains (then it is a box for several models). Wrappers such as
DistributedDataParallel are looked through, so names are those that torch prints for the user's model.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from vario.capture import alive

__all__ = [
    "arrays_in_scope",
    "find_model",
    "frames",
    "models_in_scope",
    "parameter_names",
    "unwrapped",
    "users_name",
    "variable_name",
]

_WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
_PUT_BETWEEN = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # into the names of what they wrap
_WRITTEN_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_HELD_BY_US = 3  # references to the copy: the frame, a variable here, the argument of getrefcount


def find_model(parameters: Iterable[Tensor], optimizer: Optimizer | None = None) -> nn.Module | None:
    """The module that owns most of `parameters`; None where no module owns any."""
    mine = {id(parameter) for parameter in parameters}
    best, missing = _owner(mine, optimizer, *alive.known())
    return _owner(mine, optimizer, *alive.searched())[0] if missing else best


def _owner(
    mine: set[int], optimizer: Optimizer | None, modules: list[nn.Module], optimizers: list[Optimizer]
) -> tuple[nn.Module | None, set[int]]:
    """The module among these that owns most of `mine`, and which of them none owns."""
    others = [other for other in optimizers if other is not optimizer]
    foreign = {id(p) for other in others for group in other.param_groups for p in group["params"]} - mine
    best, best_rank, missing = None, (0, False, 0), set(mine)
    for module in modules:
        module = unwrapped(module)
        held = {id(parameter) for parameter in module.parameters()}
        missing -= held
        shared = len(held & mine)
        rank = (shared, not held & foreign, sum(1 for _ in module.modules()))
        if shared and rank > best_rank:
            best, best_rank = module, rank
    return best, missing


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's module inside DistributedDataParallel, DataParallel or a compiled module."""
    name = _WRAPPERS.get(type(module).__name__)
    inside = getattr(module, name, None) if name is not None else None
    return unwrapped(inside) if isinstance(inside, nn.Module) else module


def parameter_names(parameters: list[Tensor], model: nn.Module | None) -> list[str]:
    """A name for each parameter: as torch prints it, else the user's variable, else its number."""
    named = model.named_parameters() if model is not None else ()
    known = {id(p): users_name(name) for name, p in named}
    if any(id(parameter) not in known for parameter in parameters):
        variables = _variables_of_tensors({id(parameter) for parameter in parameters} - set(known))
        known = {**variables, **known}
    names = [known.get(id(parameter), f"parameter {index}") for index, parameter in enumerate(parameters)]
    return [name if names.index(name) == index else f"{name} {index}" for index, name in enumerate(names)]


def users_name(name: str) -> str:
    """The name of a parameter or module without what wrappers inside the model put into it."""
    for part in _PUT_BETWEEN:
        name = name.replace(part, "").removesuffix(part[:-1]).removesuffix(".")
    return name


def variable_name(model: nn.Module) -> str:
    """What the user's script calls `model`; "" where no variable of the calling frames holds it."""
    wrapper = ""
    for name, value in _variables():
        if not isinstance(value, nn.Module):
            name, value = "model", _attributes(value).get("model")
        if value is model and name != "self":
            return name
        if isinstance(value, nn.Module) and unwrapped(value) is model and name != "self":
            wrapper = wrapper or name
    return wrapper


def models_in_scope() -> Iterator[nn.Module]:
    """The modules that variables of the user's frames hold, and attributes of what they hold."""
    for _, value in _variables():
        if isinstance(value, nn.Module):
            yield unwrapped(value)
        else:
            yield from (unwrapped(m) for m in _attributes(value).values() if isinstance(m, nn.Module))


def arrays_in_scope() -> Iterator[Any]:
    """The tensors and arrays that variables of the user's frames hold, and attributes of what they hold."""
    for _, value in _variables():
        held = [value] if isinstance(value, Tensor | np.ndarray) else _attributes(value).values()
        yield from (one for one in held if isinstance(one, Tensor | np.ndarray))


def frames() -> list[FrameType]:
    """The frames of the user's own code on the stack, outermost first."""
    found: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("torch.", "vario.", "runpy", "lightning.", "pytorch_lightning.")):
            found.append(frame)
        frame = frame.f_back
    return found[::-1]


def _variables() -> Iterator[tuple[str, Any]]:
    """Name and value of every variable in the user's frames."""
    for frame in frames():
        local = frame.f_locals
        try:
            yield from ((name, value) for name, value in list(local.items()) if not name.startswith("_"))
        finally:
            # before Python 3.13 a function's frame keeps the copy that f_locals made, and with it the user's
            # tensors alive; unless somebody else (`locals()`) holds it too, it is emptied
            if frame.f_code.co_flags & inspect.CO_OPTIMIZED and sys.version_info < (3, 13):
                if sys.getrefcount(local) <= _HELD_BY_US:
                    local.clear()
        if local is not frame.f_globals:
            yield from ((n, v) for n, v in list(frame.f_globals.items()) if not n.startswith("_"))


def _variables_of_tensors(wanted: set[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for name, value in _variables():
        for inner, tensor in _tensors(name, value):
            if id(tensor) in wanted:
                found.setdefault(id(tensor), inner)
    return found


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif type(value) in (list, tuple) and len(value) <= 1000:
        yield from ((f"{name}[{i}]", item) for i, item in enumerate(value) if isinstance(item, Tensor))
    elif type(value) is dict and len(value) <= 1000:
        yield from ((f"{name}[{key!r}]", item) for key, item in value.items() if isinstance(item, Tensor))
    else:
        yield from ((key, item) for key, item in _attributes(value).items() if isinstance(item, Tensor))


def _attributes(value: Any) -> dict[str, Any]:
    """Attributes of an object of a class written in Python; none of modules, classes, functions."""
    if isinstance(value, type) or not type(value).__flags__ & _WRITTEN_IN_PYTHON:
        return {}
    try:
        return dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:  # a class with slots only
        return {}
