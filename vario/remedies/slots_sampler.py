"""The sampler slot: a sampler of the catalogue in the training loader, and what it needs of the loss.

A sampler that learns from losses is told the loss of each example, and its weights go into the mean or the
sum: where the script calls a loss function of torch while gradients are recorded, it is made of the weighted
losses of the examples. Which examples they are is known from the batch whose tensor the targets are, also
where it was flattened: the loss of a sequence is the mean over its tokens. A script whose loss cannot be
read so is refused.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vario.remedies.slots_labels import labels_of
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
            values: Any = labels_of(loader.dataset)
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
            if bound.arguments.get("reduction", "mean") not in ("mean", "sum"):
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
        rows = len(batch.indices)
        reduction = bound.arguments.get("reduction", "mean")
        bound.arguments["reduction"] = "none"
        losses = original(*bound.args, **bound.kwargs)
        counted = _counted(bound, target, losses).reshape(rows, -1).sum(1)  # (b,)
        losses = losses.reshape(rows, -1).sum(1)  # (b,)
        if self.method == "importance":
            scores = _error_norm(name, output, target, bound, rows, self.told)
        else:
            scores = losses.detach() / counted.clamp(min=1)
        weights = batch.weights.to(losses)
        batch.sampler.update(batch.indices, scores.cpu())
        self.told.put_in(
            "sampler-losses",
            {"function": name, "reduction": reduction, "score": _score_name(self.method)},
        )
        total = (losses * weights).sum()
        return total if reduction == "sum" else total / counted.sum()

    def _batch_of(self, target: Any) -> Batch:
        """The batch whose tensor the targets are, or are a copy of."""
        for alike in (_is, _same):
            for batch in reversed(self.loaders.recent):
                if any(len(t) == len(batch.indices) and alike(t, target) for t in batch.tensors if t.ndim):
                    return batch
        self.told.fail(
            "sampler",
            f"{self.method} needs the loss of each example, and the targets of the script's loss "
            f"{tuple(target.shape)} are not a tensor of the batch that the loader made",
        )


def _is(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one is other


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal in the order of their entries, whatever their shapes."""
    return one.numel() == other.numel() and torch.equal(one.reshape(-1).to(other), other.reshape(-1))


def _counted(bound: inspect.BoundArguments, target: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """1 where a loss goes into the mean, 0 where its target is one to ignore."""
    if "ignore_index" not in bound.signature.parameters or target.is_floating_point():
        return torch.ones_like(losses, requires_grad=False)
    kept: torch.Tensor = target != bound.arguments.get("ignore_index", -100)
    return kept.to(losses)


def _score_name(method: str) -> str:
    return "error norm: the gradient's norm at the outputs" if method == "importance" else "loss"


def _error_norm(
    name: str,
    output: torch.Tensor,
    target: torch.Tensor,
    bound: inspect.BoundArguments,
    rows: int,
    told: Told,
) -> torch.Tensor:
    """Norms (b,) of the gradients of the examples' losses at the outputs, at the logits for probabilities."""
    output = output.detach().float()
    with torch.no_grad():
        if name in ("cross_entropy", "nll_loss") and output.ndim == 2 and target.ndim == 1:
            kept = _counted(bound, target, output[:, 0])
            error = output.softmax(1) if name == "cross_entropy" else output.exp()
            error[torch.arange(len(target)), target.clamp(min=0)] -= 1
            error = error * kept[:, None]
        elif name in ("mse_loss", "binary_cross_entropy"):
            error = output - target
        elif name == "binary_cross_entropy_with_logits":
            error = output.sigmoid() - target
        else:
            told.fail(
                "sampler",
                f"gradient norms of single examples are not known for {name} of {tuple(output.shape)}; they "
                "are for cross_entropy and nll_loss of (n, classes), mse_loss, the binary cross entropies",
            )
        norms: torch.Tensor = torch.linalg.vector_norm(error.reshape(rows, -1), dim=1)
        return norms
