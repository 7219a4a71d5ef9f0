r"""Self-tuning network: weights that answer to their hyperparameters, which validation data then tune.

.. math:: \hat w(\lambda) x = W x + (V\lambda) \odot (W' x), \quad \hat b(\lambda) = b + (V_b\lambda) \odot b'

Each linear or convolutional layer learns how its weights should change with lambda. Two steps alternate: fit
the weights (W, W', V) to the training loss at perturbed lambda + eps, a draw per example; then move lambda
downhill on the validation loss through the response alone. The training loss is never differentiated by
lambda, so dropout and augmentation can be tuned.

When to use: regularization (dropout rates, augmentation, weight decay) must be tuned and one run is costly.

When not to: optimizer settings such as the learning rate; validation data too few to be trained on; memory
for twice the weights is missing.

>>> _ = torch.manual_seed(0); model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.1))
>>> tuner = SelfTuning(model, {"dropout": (0.0, 0.9, 0.1)})
>>> with tuner.fitting(16) as values:  # a rate for each of 16 examples
...     out = model(torch.randn(16, 4))
>>> values["dropout"].shape, tuner.changed
(torch.Size([16]), ('0', '1'))
>>> round(tuner.values()["dropout"], 2)
0.1
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SelfTuning", "BestResponseLinear", "BestResponseConv2d", "TunedDropout"]

CARD = {
    "papers": ("P131",),
    "slot": "",
    "treats": ("overfitting", "excessive-regularization"),
    "example": {"start": {"decay": (None, None, 0.0)}, "scale": 0.3},
    "cost": "twice the weights; two products per layer; one validation step per two training steps",
    "checked": "equation; closed form: ridge regression, response within 5 %, optimum within .15 of log10; "
    "authors' code asteroidhouse/self-tuning-networks 3c42049 (no licence file), read",
    "changed": "the authors multiply W by one more scalar that is trained. W keeps the existing layer's "
    "values and parameter objects; the rest starts as theirs",
    "shown": "ridge regression, 2 draws: response within 5 %, log10 decay within .15 of the best; "
    "1,000 digits: validation loss at most 1 % above the best of 9 fixed dropout rates in at "
    "most 3 x the CPU time of one run, 1 seed. LSTMs and CIFAR: not shown here",
}

Range = tuple[float | None, float | None, float]


class _Gated(nn.Module):
    """What both kinds of layers share: a second set of weights behind gates that are linear in lambda."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    hyper_weight: nn.Parameter
    hyper_bias: nn.Parameter | None
    gate: nn.Parameter
    hyper: Tensor | None

    def _prepare(self, existing: nn.Linear | nn.Conv2d, hyperparameters: int) -> None:
        # the very same parameters: the optimizer keeps what it knows of them
        self._parameters.update(
            {"weight": existing._parameters["weight"], "bias": existing._parameters["bias"]}
        )
        fan_in = existing.weight[0].numel()
        reach = float(fan_in) ** -0.5
        self.hyper_weight = nn.Parameter(torch.empty_like(existing.weight).uniform_(-reach, reach))
        self.hyper_bias = None
        if existing.bias is not None:
            self.hyper_bias = nn.Parameter(torch.empty_like(existing.bias).uniform_(-reach, reach))
        outputs = len(existing.weight)
        self.gate = nn.Parameter(0.01 * torch.randn(2 * outputs, hyperparameters).to(existing.weight))
        self.hyper = None

    def gates(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """Of weights and biases, (B, out) each, at hyperparameters (B, H)."""
        first, second = (hyper @ self.gate.T).chunk(2, 1)
        return first, second

    def response(self, hyper: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights (B, out, ...) and biases (B, out) that the layer would have at hyperparameters (B, H)."""
        of_weight, of_bias = self.gates(hyper)
        extra = [1] * (self.hyper_weight.ndim - 1)
        weight = self.weight + of_weight.view(*of_weight.shape, *extra) * self.hyper_weight
        if self.hyper_bias is None or self.bias is None:
            return weight, None
        return weight, self.bias + of_bias * self.hyper_bias

    def _add(self, plain: Tensor, hyper_out: Tensor, channel_last: bool) -> Tensor:
        assert self.hyper is not None
        of_weight, of_bias = self.gates(self.hyper)
        inner = [1] * (plain.ndim - 2)
        if len(plain) != len(self.hyper):
            raise ValueError(
                f"{type(self).__name__}: hyperparameters of {len(self.hyper)} examples, and {len(plain)} in "
                f"the first dimension of the layer's output; both must be the batch."
            )
        shape = (len(plain), *inner, -1) if channel_last else (len(plain), -1, *inner)
        out = plain + of_weight.view(shape) * hyper_out
        return out if self.hyper_bias is None else out + (of_bias * self.hyper_bias).view(shape)


class BestResponseLinear(_Gated, nn.Linear):  # type: ignore[misc]
    """An ``nn.Linear`` whose weights answer to hyperparameters; without any it is the plain layer."""

    def __init__(self, existing: nn.Linear, hyperparameters: int) -> None:
        shape = existing.in_features, existing.out_features
        nn.Linear.__init__(self, *shape, existing.bias is not None, device="meta")
        self._prepare(existing, hyperparameters)

    def forward(self, x: Tensor) -> Tensor:
        plain = nn.functional.linear(x, self.weight, self.bias)
        if self.hyper is None:
            return plain
        return self._add(plain, nn.functional.linear(x, self.hyper_weight), channel_last=True)


class BestResponseConv2d(_Gated, nn.Conv2d):  # type: ignore[misc]
    """An ``nn.Conv2d`` whose weights answer to hyperparameters; without any it is the plain layer."""

    def __init__(self, existing: nn.Conv2d, hyperparameters: int) -> None:
        nn.Conv2d.__init__(
            self,
            existing.in_channels,
            existing.out_channels,
            existing.kernel_size,  # type: ignore[arg-type]
            existing.stride,  # type: ignore[arg-type]
            existing.padding,  # type: ignore[arg-type]
            existing.dilation,  # type: ignore[arg-type]
            existing.groups,
            existing.bias is not None,
            existing.padding_mode,
            device="meta",
        )
        self._prepare(existing, hyperparameters)

    def forward(self, x: Tensor) -> Tensor:
        plain: Tensor = self._conv_forward(x, self.weight, self.bias)
        if self.hyper is None:
            return plain
        gated: Tensor = self._conv_forward(x, self.hyper_weight, None)
        return self._add(plain, gated, channel_last=False)


class TunedDropout(nn.Module):
    """Dropout with a rate per example, set by the tuner; in eval mode it does nothing."""

    rate: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate is None:
            return x
        keep = (1 - self.rate.detach().to(x.dtype)).view(-1, *[1] * (x.ndim - 1))
        kept: Tensor = x * torch.bernoulli(keep.expand_as(x)) / keep
        return kept


class SelfTuning(nn.Module):
    """Holds lambda and its perturbation; changes the layers of ``model`` in place (``changed`` names them).

    ``start`` maps names to (low, high, value); None is no bound. A hyperparameter called ``dropout`` sets
    the rate of every ``nn.Dropout`` of the model. Train ``model.parameters()`` with one optimizer (made after
    this) and ``parameters()`` of this, lambda (and the scale, with ``tune_scale``), with another.
    ``scale`` is the standard deviation of the perturbation of the unbounded lambda.
    """

    def __init__(
        self, model: nn.Module, start: Mapping[str, Range], *, scale: float = 0.5, tune_scale: bool = False
    ) -> None:
        super().__init__()
        if not start or scale <= 0:
            raise ValueError(
                f"SelfTuning: {len(start)} hyperparameters, scale {scale}; both must be above 0."
            )
        self.ranges = dict(start)
        raw = torch.tensor([_unbounded(name, *held) for name, held in start.items()])
        scales = torch.full_like(raw, math.log(math.expm1(scale)))
        like = next(model.parameters())
        self.raw = nn.Parameter(raw.to(like))
        self.raw_scale = nn.Parameter(scales.to(like), requires_grad=tune_scale)
        self._held = [model]  # in a list: its parameters are another optimizer's
        self.changed = _convert(model, len(start), "dropout" in start)

    def values(self) -> dict[str, float]:
        """The hyperparameters as they are now."""
        return {name: float(value) for name, value in self._bounded(self.raw.detach()[None]).items()}

    @contextlib.contextmanager
    def fitting(self, examples: int) -> Iterator[dict[str, Tensor]]:
        """For the training step: yields perturbed values (examples,) by name, for the training loss."""
        with torch.no_grad():
            noise = torch.randn(examples, len(self.raw), dtype=self.raw.dtype, device=self.raw.device)
            hyper = self.raw + self.scales() * noise
        with self._set(hyper):
            yield self._bounded(hyper)

    @contextlib.contextmanager
    def validating(self, examples: int) -> Iterator[None]:
        """For the validation step (model in eval mode): the loss reaches lambda through the response."""
        hyper = self.raw.expand(examples, -1)
        if self.raw_scale.requires_grad:
            hyper = hyper + self.scales() * torch.randn_like(hyper)
        with self._set(hyper):
            yield

    def scales(self) -> Tensor:
        """Standard deviations of the perturbation, (H,)."""
        return nn.functional.softplus(self.raw_scale)

    def entropy(self) -> Tensor:
        """Of the perturbation, in nats; ``tune_scale`` wants a little of it off the validation loss."""
        return torch.log(self.scales() * math.sqrt(2 * math.pi * math.e)).sum()

    @contextlib.contextmanager
    def _set(self, hyper: Tensor) -> Iterator[None]:
        layers = [m for m in self._held[0].modules() if isinstance(m, (_Gated, TunedDropout))]
        rate = self._bounded(hyper).get("dropout")
        try:
            for layer in layers:
                if isinstance(layer, TunedDropout):
                    layer.rate = rate
                else:
                    layer.hyper = hyper
            yield
        finally:
            for layer in layers:
                if isinstance(layer, TunedDropout):
                    layer.rate = None
                else:
                    layer.hyper = None

    def _bounded(self, raw: Tensor) -> dict[str, Tensor]:
        return {
            name: _bound(raw[:, k], low, high) for k, (name, (low, high, _)) in enumerate(self.ranges.items())
        }

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:.4g}" for name, value in self.values().items())


def _convert(model: nn.Module, hyperparameters: int, dropout: bool) -> tuple[str, ...]:
    changed, layers = [], 0
    made: dict[int, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        kind: Any = {nn.Linear: BestResponseLinear, nn.Conv2d: BestResponseConv2d}.get(type(module))
        if kind is None and not (dropout and type(module) is nn.Dropout):
            continue
        if id(module) not in made:
            made[id(module)] = kind(module, hyperparameters) if kind else TunedDropout()
            made[id(module)].train(module.training)
        layers += kind is not None
        parent, _, last = name.rpartition(".")
        if name:
            setattr(model.get_submodule(parent), last, made[id(module)])
            changed.append(name)
    if not layers or not changed:
        raise ValueError("SelfTuning found no nn.Linear or nn.Conv2d inside the model.")
    return tuple(changed)


def _unbounded(name: str, low: float | None, high: float | None, value: float) -> float:
    inside = (low is None or value > low) and (high is None or value < high)
    if not inside:
        raise ValueError(f"SelfTuning: {name} starts at {value}, which must lie inside {low} to {high}.")
    if low is not None and high is not None:
        share = (value - low) / (high - low)
        return math.log(share / (1 - share))
    if low is None and high is None:
        return value
    distance = value - low if low is not None else high - value  # type: ignore[operator]
    return math.log(math.expm1(distance)) if distance < 30 else distance


def _bound(raw: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is not None and high is not None:
        return low + (high - low) * torch.sigmoid(raw)
    if low is not None:
        return low + nn.functional.softplus(raw)
    return raw if high is None else high - nn.functional.softplus(raw)
