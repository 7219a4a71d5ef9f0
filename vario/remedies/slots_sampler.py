"""The sampler slot: a sampler of the catalogue in the training loader, and what it needs of the loss.

A sampler that learns from losses is told the loss of each example, and its weights go into the mean:
where the script calls a loss function of torch with ``reduction="mean"`` while gradients are recorded,
the mean is made of the weighted losses of the examples. Which examples they are is known from the batch
whose tensor the targets are. A script whose loss cannot be read so is refused.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vario.remedies.slots_loader import Batch, Loaders
from vario.remedies.slots_optimizer import target_of
from vario.remedies.slots_told import Told

__all__ = ["put_in_sampler"]

LOSSES = (
    "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss "
    "binary_cross_entropy binary_cross_entropy_with_logits"
).split()
ENDLESS = 10**9  # epochs: a number of them that is not known has no last part


def put_in_sampler(method: str, options: Mapping[str, Any], told: Told, loaders: Loaders, seed: int) -> str:
    """The training loader draws by the method's sampler."""
    target = target_of(method)
    known = inspect.signature(target).parameters

    def make(loader: Any, old: Any, rank: int, ranks: int) -> Any:
        del old
        given: dict[str, Any] = dict(options)
        first = next(iter(known))
        if first in ("labels", "groups"):
            asked = given.pop(first, "labels")
            if asked != "labels":
                raise ValueError(f"{first}={asked}: only labels can be found in a data set")
            values: Any = _labels(loader.dataset)
        else:
            values = len(loader.dataset)
        if "epochs" in known:
            given.setdefault("epochs", ENDLESS)
        given.setdefault("seed", seed)
        return target(values, **given, rank=rank, ranks=ranks)

    loaders.sampler = make
    if "weights" in dir(target):
        _Weighted(told, loaders, method)
    return f"sampler: {method}"


class _Weighted:
    """Loss functions whose mean is weighted, and whose losses the sampler is told."""

    def __init__(self, told: Told, loaders: Loaders, method: str) -> None:
        self.told, self.loaders, self.method = told, loaders, method
        self.used = 0
        told.expects("sampler-losses", "no loss of torch with one value for each example was computed")
        for name in LOSSES:
            self._patch(name)

    def _patch(self, name: str) -> None:
        original = getattr(torch.nn.functional, name)
        place = inspect.signature(original)

        @functools.wraps(original)
        def loss(*args: Any, **words: Any) -> Any:
            if not torch.is_grad_enabled() or torch.compiler.is_compiling() or not self.loaders.recent:
                return original(*args, **words)
            bound = place.bind(*args, **words)
            if bound.arguments.get("reduction", "mean") != "mean":
                return original(*args, **words)
            return self._weighted(name, original, bound)

        setattr(torch.nn.functional, name, loss)

    def _weighted(self, name: str, original: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
        output, target = list(bound.arguments.values())[:2]
        if not (isinstance(output, torch.Tensor) and output.requires_grad):
            return original(*bound.args, **bound.kwargs)
        if bound.arguments.get("weight") is not None:
            self.told.fail("sampler", f"{name} has class weights, so its mean is not one over examples")
        batch = self._batch_of(target)
        sampler = batch.sampler.sampler
        bound.arguments["reduction"] = "none"
        losses = original(*bound.args, **bound.kwargs).reshape(len(target), -1).mean(1)  # (b,)
        if self.method == "importance":
            scores = _error_norm(name, output, target, self.told)
        else:
            scores = losses.detach()
        weights = sampler.weights(batch.indices).to(losses)
        sampler.update(batch.indices, scores.cpu())
        self.used += 1
        self.told.put_in("sampler-losses", {"function": name, "score": _score_name(self.method)})
        return (losses * weights).mean()

    def _batch_of(self, target: Any) -> Batch:
        """The batch whose tensor the targets are, or are a copy of."""
        for batch in reversed(self.loaders.recent):
            if len(batch.indices) == len(target) and any(t is target for t in batch.tensors):
                return batch
        for batch in reversed(self.loaders.recent):
            if len(batch.indices) == len(target) and any(_same(t, target) for t in batch.tensors):
                return batch
        self.told.fail(
            "sampler",
            f"{self.method} needs the loss of each example, and the targets of the script's loss "
            f"{tuple(target.shape)} are not a tensor of the batch that the loader made",
        )


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.to(other), other)


def _score_name(method: str) -> str:
    return "error norm: the gradient's norm at the logits" if method == "importance" else "loss"


def _error_norm(name: str, output: torch.Tensor, target: torch.Tensor, told: Told) -> torch.Tensor:
    if name != "cross_entropy" or output.ndim != 2 or target.ndim != 1:
        told.fail(
            "sampler", "gradient norms of single examples are known here for cross_entropy of (b, c) only"
        )
    with torch.no_grad():
        error = output.detach().float().softmax(1)
        error[torch.arange(len(target)), target] -= 1
        norms: torch.Tensor = torch.linalg.vector_norm(error, dim=1)
        return norms


def _labels(dataset: Any) -> torch.Tensor:
    """The class of every example, from where data sets keep it."""
    inner, indices = dataset, None
    while type(inner).__name__ == "Subset":
        held = torch.as_tensor(inner.indices)
        indices = held if indices is None else held[indices]
        inner = inner.dataset
    found: Any = None
    for name in ("targets", "labels", "y"):
        found = getattr(inner, name, None) if found is None else found
    tensors: Any = getattr(inner, "tensors", ())
    if found is None and len(tensors) > 1:
        found = tensors[1]
    if found is None:
        raise ValueError(
            f"{type(inner).__name__} shows no labels: it has no attribute targets, labels, y or tensors"
        )
    labels = torch.as_tensor(found)
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(f"the labels of {type(inner).__name__} are not one class for each example")
    return labels if indices is None else labels[indices]
