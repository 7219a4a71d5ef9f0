"""Every place where vario listens to torch, and nothing else: who hears it decides what it means.

Patches are made once, when the first listener comes, and undone when the last one goes. Each calls
the original with the arguments as they were given. Under a compiler's tracing they are invisible.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.jit._builtins import _find_builtin, _get_builtin_table, _register_builtin
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import dataloader

from vario.capture import alive, modes, outside

if TYPE_CHECKING:
    from vario.capture.dozing import Doze

__all__ = ["LOSS_FUNCTIONS", "Listener", "join", "leave", "listen_to_forward"]

LOSS_FUNCTIONS = tuple(
    """
    binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss
    gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss
    multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss poisson_nll_loss
    smooth_l1_loss soft_margin_loss triplet_margin_loss
    """.split()
)
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


class Listener(Protocol):
    """Hears a named event with its arguments; must never raise. Only `before_step` is answered.

    While it is not `awake` it is told of optimizer steps, loaders and evaluation, but not of losses on
    their way backward: nothing of the step under way is wanted. Steps of the optimizer that its
    `doze` names, or backwards that are steps by hand, are not even told but counted down (or are
    `step_passed`, where it keeps what they offer);
    `doze_over` is told at the last.
    """

    awake: bool

    @property
    def doze(self) -> Doze: ...

    def hear(self, event: str, *arguments: Any) -> Any: ...

    def batch_came(self, iterator: Any, batch: Any, indices: Any, seconds: float) -> None: ...


class _Places:
    """What is patched at present, and who listens."""

    listeners: tuple[Listener, ...] = ()
    undo: tuple[Callable[[], None], ...] = ()
    patches: tuple[tuple[Any, str, Any, Any], ...] = ()  # owner, name, original, patched
    drawn = "_vario_drawn_0"  # of an iterator of a loader: the indices of each batch that is yet to come
    inside = threading.local()  # .loss: how many loss functions the thread is in


def join(listener: Listener) -> None:
    """From now on `listener` hears everything."""
    if not _Places.listeners:
        _install()
    _Places.listeners = (*_Places.listeners, listener)


def leave(listener: Listener) -> None:
    """`listener` hears no more; with the last one torch is as it was."""
    _Places.listeners = tuple(other for other in _Places.listeners if other is not listener)
    if not _Places.listeners:
        for undo in _Places.undo:
            undo()
        for owner, name, original, patched in reversed(_Places.patches):
            _exchange(owner, name, patched, original)
        _Places.undo, _Places.patches = (), ()
        _Places.drawn = f"_vario_drawn_{int(_Places.drawn[13:]) + 1}"  # what was drawn before is not trusted


def listen_to_forward(hear: Callable[[Any, Any], None], *, after: bool = False) -> Callable[[], None]:
    """Call `hear(module, arguments)` before every module's forward, or `hear(module, output)` `after` it.

    Until the returned function is called; modules are slower: it is for single steps. Where a compiler is at
    work, which would trace it, only calls of compiled models are heard.
    """

    def heard(module: Any, *given: Any) -> None:  # an answer would replace what is given
        hear(module, given[-1])

    if outside.is_where_we_are():
        return outside.listen(hear, after=after)
    of_modules = torch.nn.modules.module
    if after:
        return of_modules.register_module_forward_hook(heard).remove
    return of_modules.register_module_forward_pre_hook(heard).remove


def _tell(event: str, *arguments: Any) -> None:
    for listener in _Places.listeners:
        listener.hear(event, *arguments)


def _awake() -> bool:
    for listener in _Places.listeners:
        if listener.awake:
            return True
    return False


def _patch(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = owner.__dict__[name]
    patched: Any = functools.wraps(original)(make(original))
    patched.__prepare_scriptable__ = lambda: original  # TorchScript compiles what it meets, by its source
    if operator := _find_builtin(original):  # by its address, which another function may have after it
        _register_builtin(patched, operator)
        _Places.undo += (functools.partial(_get_builtin_table().pop, id(patched)),)
    setattr(owner, name, patched)
    _Places.patches += ((owner, name, original, patched),)


def _exchange(owner: Any, name: str, old: Any, new: Any) -> None:
    if owner.__dict__.get(name) is old:  # somebody else may have patched it after us
        setattr(owner, name, new)


def _install() -> None:
    before = register_optimizer_step_pre_hook(_before_step)
    after = register_optimizer_step_post_hook(_after_step)
    of_modules = torch.nn.modules.module
    parameters = of_modules.register_module_parameter_registration_hook(alive.module_grew)
    parts = of_modules.register_module_module_registration_hook(alive.module_grew)
    undo = (before.remove, after.remove, parameters.remove, parts.remove, alive.forget, outside.forget)
    _Places.undo = undo
    _patch(Optimizer, "__init__", _optimizer_init)
    _patch(torch.autograd, "backward", _backward)
    _patch(torch.autograd, "grad", _grad)
    for name in LOSS_FUNCTIONS:
        _patch(torch.nn.functional, name, functools.partial(_loss, name))
    for name in DROPOUTS:
        _patch(torch.nn.functional, name, functools.partial(_dropout, name))
    for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
        _patch(owner, "clip_grad_norm_", _clip)
    _patch(torch.amp.GradScaler, "scale", _scale)
    _patch(torch.amp.GradScaler, "step", _scaler_step)
    _patch(dataloader.DataLoader, "__iter__", _loader_iter)
    _patch(dataloader._BaseDataLoaderIter, "__next__", _loader_next)
    _patch(dataloader._BaseDataLoaderIter, "_next_index", _loader_draws)
    _patch(dataloader._BaseDataLoaderIter, "_reset", _loader_reset)
    _patch(torch.amp.autocast, "__enter__", _enter_autocast)
    for without in (torch.no_grad, torch.inference_mode):
        _patch(without, "__enter__", functools.partial(_gradients, "gradients_off"))
        _patch(without, "__exit__", functools.partial(_gradients, "gradients_back"))
    _patch(torch.nn.Module, "eval", _eval)
    _patch(torch, "compile", functools.partial(outside.compiles, tell=_tell, awake=_awake))
    _patch(torch.jit._trace, "_check_trace", _check_trace)
    for kind in [lr_scheduler.LRScheduler, *_subclasses(lr_scheduler.LRScheduler)]:
        if "step" in kind.__dict__:
            _patch(kind, "step", _scheduler_step)


def _subclasses(kind: type) -> list[type]:
    below: list[type] = kind.__subclasses__()
    return [found for child in below for found in (child, *_subclasses(child))]


def _before_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    answer = None
    for listener in () if torch.compiler.is_compiling() else _Places.listeners:
        if listener.doze.optimizer != id(optimizer):
            changed = listener.hear("before_step", optimizer, args, kwargs)
            if changed is not None:
                answer = args, kwargs = changed
        elif listener.doze.reads_norms:
            listener.doze.step_begins(args, kwargs)
    return answer


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    del args, kwargs
    for listener in () if torch.compiler.is_compiling() else _Places.listeners:
        if listener.doze.optimizer != id(optimizer):
            listener.hear("after_step", optimizer)
            continue
        listener.doze.step_passed()
        if listener.doze.keeps:
            listener.hear("step_passed")
        if not listener.doze.left:
            listener.hear("doze_over")


def _optimizer_init(original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands for the method
        original(self, *args, **kwargs)
        alive.optimizer_made(self)

    return __init__


def _backward(original: Callable[..., Any]) -> Callable[..., Any]:
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(tensors, *args, **kwargs)
        if not _awake():
            try:
                return original(tensors, *args, **kwargs)
            finally:
                for listener in _Places.listeners:
                    listener.doze.backward_passed(tensors)
        _tell("before_backward", tensors)
        try:
            return original(tensors, *args, **kwargs)
        finally:
            _tell("after_backward")

    return backward


def _grad(original: Callable[..., Any]) -> Callable[..., Any]:
    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(outputs, inputs, *args, **kwargs)
        _tell("before_grad", outputs, inputs)
        result = original(outputs, inputs, *args, **kwargs)
        _tell("after_grad", outputs, inputs, result)
        return result

    return grad


def _loss(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def loss(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        if torch.is_grad_enabled() and not _awake():
            value = original(*args, **kwargs)
            for listener in _Places.listeners:
                if listener.doze.reads_losses:
                    listener.doze.loss_called(name, args, kwargs)
            return value
        depth = getattr(_Places.inside, "loss", 0)
        _Places.inside.loss = depth + 1  # tensor subclasses come back through the same door
        try:
            value = original(*args, **kwargs)
        finally:
            _Places.inside.loss = depth
        if depth == 0:
            _tell("loss_called", name, original, args, kwargs, value)
        return value

    return loss


def _dropout(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def dropout(*args: Any, **kwargs: Any) -> Any:
        if (
            not torch.compiler.is_compiling()
            and (not torch.is_grad_enabled() or _awake())
            and sys._getframe(1).f_globals.get("__name__") != "torch.nn.modules.dropout"  # listed already
        ):
            _tell("dropout_called", name, original, args, kwargs)
        return original(*args, **kwargs)

    return dropout


def _clip(original: Callable[..., Any]) -> Callable[..., Any]:
    def clip_grad_norm_(parameters: Any, max_norm: Any, *args: Any, **kwargs: Any) -> Any:
        norm = original(parameters, max_norm, *args, **kwargs)
        if _awake():
            _tell("clipped", max_norm, norm)
        else:
            for listener in _Places.listeners:
                if listener.doze.reads_clips:
                    listener.doze.clipped(norm)
        return norm

    return clip_grad_norm_


def _scale(original: Callable[..., Any]) -> Callable[..., Any]:
    def scale(self: Any, outputs: Any) -> Any:
        scaled = original(self, outputs)
        _tell("scaled", outputs, scaled)
        return scaled

    return scale


def _scaler_step(original: Callable[..., Any]) -> Callable[..., Any]:
    def step(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, optimizer, *args, **kwargs)
        _tell("scaler_stepped", optimizer)
        return result

    return step


def _loader_iter(original: Callable[..., Any]) -> Callable[..., Any]:
    def __iter__(self: Any) -> Any:  # noqa: N807 - it stands for the method of this name
        iterator = original(self)
        _tell("loader_started", self, iterator)
        return iterator

    return __iter__


def _loader_next(original: Callable[..., Any]) -> Callable[..., Any]:
    def __next__(self: Any) -> Any:  # noqa: N807 - it stands for the method of this name
        start = time.perf_counter()
        try:
            batch = original(self)
        finally:  # a batch that cannot be made had been drawn as well
            seconds, drawn = time.perf_counter() - start, self.__dict__.get(_Places.drawn)
            indices = drawn.popleft() if drawn else None
        for listener in _Places.listeners:
            listener.batch_came(self, batch, indices, seconds)
        return batch

    return __next__


def _loader_draws(original: Callable[..., Any]) -> Callable[..., Any]:
    def _next_index(self: Any) -> Any:
        indices = original(self)
        self.__dict__.setdefault(_Places.drawn, deque()).append(indices)
        return indices

    return _next_index


def _loader_reset(original: Callable[..., Any]) -> Callable[..., Any]:
    def _reset(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.pop(_Places.drawn, None)  # what workers had fetched ahead is thrown away
        return original(self, *args, **kwargs)

    return _reset


def _enter_autocast(original: Callable[..., Any]) -> Callable[..., Any]:
    def __enter__(self: Any) -> Any:  # noqa: N807 - it stands for the method of this name
        result = original(self)
        if not torch.compiler.is_compiling():
            _tell("autocast_entered", self)
        return result

    return __enter__


def _gradients(event: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def switch(self: Any, *args: Any) -> Any:
        result = original(self, *args)
        if _awake() and not torch.compiler.is_compiling():
            _tell(event)
        return result

    return switch


def _eval(original: Callable[..., Any]) -> Callable[..., Any]:
    def eval(self: Any) -> Any:
        if not torch.compiler.is_compiling():
            _tell("evaluates")
        return original(self)

    return eval


def _check_trace(original: Callable[..., Any]) -> Callable[..., Any]:
    def check_trace(*args: Any, **kwargs: Any) -> Any:
        with modes.comparing():
            return original(*args, **kwargs)

    return check_trace


def _scheduler_step(original: Callable[..., Any]) -> Callable[..., Any]:
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        _tell("scheduler_stepped", self)
        return result

    return step
