"""The loss slot: the training loss of a script that calls torch's cross entropy, or its squared error.

Only calls with gradients recorded are changed, so that a held-out loss keeps its meaning in both arms.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vario.remedies.slots_optimizer import target_of
from vario.remedies.slots_told import Told, call_site

__all__ = ["replace_loss", "set_loss"]


def set_loss(key: str, value: Any, told: Told) -> str:
    """``label_smoothing=0.1`` for every cross entropy in training, and the other settings of the slot."""
    if key == "probabilities":
        return _take_probabilities(told)
    if key == "huber":
        return _bend(float(value), told)
    if key == "wrong_labels":
        return _expect_wrong_labels(float(value), told)
    if key == "weight":
        return _weigh_classes(value, told)
    if key == "float64":
        return _in_float64(told)

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        before = bound.arguments.get(key, 0.0)
        bound.arguments[key] = value
        told.put_in("loss", {"setting": key, "before": before, "after": value, "call": call_site()})
        return original(*bound.args, **bound.kwargs)

    _patch(told, change)
    return f"loss: {key}={value}"


def _take_probabilities(told: Told) -> str:
    """What the model gives are probabilities: the loss, which expects logits of them, is given these."""

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        given = bound.arguments["input"]
        single = original.__name__ == "binary_cross_entropy_with_logits"
        if given.min() < 0 or given.max() > 1.001:
            told.fail("loss", "what the loss is given are no probabilities: they lie outside of 0 to 1")
        tiny = torch.finfo(given.dtype).eps
        logits = torch.logit(given, tiny) if single else given.clamp_min(tiny).log()
        bound.arguments["input"] = logits
        told.put_in("loss", {"of": original.__name__, "taken as": "probabilities", "call": call_site()})
        return original(*bound.args, **bound.kwargs)

    names = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits")
    for name in names:
        _patch(told, change, name)
    told.expects("loss", f"the script called none of {', '.join(names)}, nor the modules that call them")
    return "loss: probabilities"


def _expect_wrong_labels(rate: float, told: Told) -> str:
    """The likelihood of a label that is wrong at this rate, each wrong class alike (Patrini et al., 2017)."""

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        given = bound.arguments["input"]
        place = 0 if given.dim() == 1 else 1
        others = given.shape[place] - 1
        if not rate < others / (others + 1):
            told.fail("loss", f"at a rate of {rate:g} the label of one of {others + 1} classes tells nothing")
        p = given.softmax(place)
        label = p * (1 - rate - rate / others) + rate / others
        bound.arguments["input"] = label.log()  # sums to 1, so that its log-softmax is itself
        told.put_in("loss", {"of": "cross_entropy", "wrong_labels": rate, "call": call_site()})
        return original(*bound.args, **bound.kwargs)

    _patch(told, change)
    return f"loss: wrong_labels={rate:g}"


def _weigh_classes(weights: tuple[float, ...], told: Told) -> str:
    """Each class counts in the loss by its weight."""

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        given = bound.arguments["input"]
        classes = given.shape[0 if given.dim() == 1 else 1]
        if bound.arguments.get("weight") is not None:
            told.fail("loss", "the script's cross entropy has a weight for each class already")
        if classes != len(weights):
            told.fail("loss", f"{len(weights)} weights are given, and the loss has {classes} classes")
        bound.arguments["weight"] = torch.tensor(weights, dtype=given.dtype, device=given.device)
        told.put_in("loss", {"of": "cross_entropy", "weight": list(weights), "call": call_site()})
        return original(*bound.args, **bound.kwargs)

    _patch(told, change)
    return f"loss: weight of {len(weights)} classes"


def _in_float64(told: Told) -> str:
    """Softmax and logarithm in double width, which does not round the loss of a sure answer to 0."""

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        given = bound.arguments["input"]
        for name in ("input", "target", "weight"):
            value = bound.arguments.get(name)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                bound.arguments[name] = value.double()
        told.put_in("loss", {"of": "cross_entropy", "float64": True, "call": call_site()})
        return original(*bound.args, **bound.kwargs).to(given.dtype)

    _patch(told, change)
    return "loss: float64"


def _bend(delta: float, told: Told) -> str:
    """Squared errors beyond ``delta`` go on in a straight line; below it they stay what they are."""

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        del original
        known = ("input", "target", "reduction", "weight")
        words = {k: v for k, v in bound.arguments.items() if k in known}
        told.put_in("loss", {"of": "mse_loss", "huber": delta, "call": call_site()})
        return 2 * torch.nn.functional.huber_loss(**words, delta=delta)

    _patch(told, change, "mse_loss")
    return f"loss: huber={delta:g}"


def replace_loss(method: str, options: Mapping[str, Any], told: Told) -> str:
    """The method's loss in place of every cross entropy in training."""
    target = target_of(method)
    known = inspect.signature(target).parameters
    made: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def change(original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        del original
        bound.apply_defaults()
        output, aim, *_ = bound.arguments.values()
        words = {
            k: v for k, v in bound.arguments.items() if k in known and k in ("reduction", "ignore_index")
        }
        words |= dict(options)
        given = bound.arguments
        has = {"weight": given["weight"] is not None, "label_smoothing": given["label_smoothing"] != 0}
        left = [word for word, used in has.items() if used]
        if left:
            told.fail("loss", f"the script's cross entropy has {' and '.join(left)}, which {method} has not")
        key = tuple(sorted(words.items()))
        try:
            if isinstance(target, type):
                made[key] = made.get(key) or target(**words)
                value = made[key](output, aim)
            else:
                value = target(output, aim, **words)
        except (TypeError, ValueError) as error:
            told.fail("loss", f"{type(error).__name__}: {error}")
        told.put_in("loss", {"from": "cross_entropy", "to": method, "call": call_site()})
        return value

    _patch(told, change)
    return f"loss: {method}"


def _patch(
    told: Told,
    change: Callable[[Callable[..., Any], inspect.BoundArguments], Any],
    name: str = "cross_entropy",
) -> None:
    told.expects("loss", f"the script called no torch.nn.functional.{name}, nor the module that calls it")
    original = getattr(torch.nn.functional, name)
    place = inspect.signature(original)

    @functools.wraps(original)
    def changed(*args: Any, **words: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(*args, **words)
        return change(original, place.bind(*args, **words))

    setattr(torch.nn.functional, name, changed)
