r"""Temperature scaling in float64, and whether one temperature is enough.

.. math:: T = \arg\min_T \; -\frac1n \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

The loss is convex in 1/T, so the minimum is found to the last digit. Afterwards the calibration error that is
left is held against what calibrated predictions would show by chance: where classes overlap, no single
temperature is right for all examples.

When to use: a classifier that is too sure of itself on held-out data, and whose ranking of classes is good.

When not to: overlapping classes or noisy labels (``enough`` is False then); fewer than some hundred held-out
examples; never on training data.

>>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
>>> fit = fit_temperature(logits, torch.tensor([0, 0, 1, 1]))
>>> round(fit.value, 4)  # three of four are right: softmax(4 / T) = 3 / 4
3.641
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["temperature_scaling", "fit_temperature", "Temperature"]

CARD = {
    "papers": ("P074",),
    "slot": "posthoc",
    "treats": ("overconfidence",),
    "example": {},
    "cost": "a few passes over the held-out logits",
    "checked": "closed form: the root of the slope of the loss in two classes; scipy's minimum to 1e-6",
    "changed": "the test whether one temperature is enough is ours: the paper proves that it is not where "
    "classes overlap, and gives no test. Mixup, its remedy, did not beat temperature scaling in the study of "
    "ten Gaussian classes",
    "shown": "float32 logits give the same temperature as float64 (a package returned 1). Ten Gaussian "
    "classes, 3 seeds, 0 and 30 % of labels flipped: T .7 to .9 and 4.9 to 5.6, loss above Bayes .00 and .47 "
    "to .55; enough at 0, not at 30 %",
}
BINS, RESAMPLES = 15, 200


@dataclass(frozen=True)
class Temperature:
    """What was fitted; losses in nats, errors are expected calibration errors of the largest probability."""

    value: float
    loss_before: float
    loss_after: float
    error_before: float
    error_after: float
    error_by_chance: float  # 95 % point of the error of calibrated predictions
    enough: bool  # the error that is left is not above chance


class Scaled(nn.Module):
    """``model`` with its outputs divided by ``temperature``."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        temperature: Tensor = self.temperature  # type: ignore[assignment]
        return out / temperature.to(out.dtype)


def temperature_scaling(model: nn.Module, inputs: Tensor, target: Tensor) -> Scaled:
    """A copy of the model whose logits are divided by the temperature that fits held-out data."""
    new = copy.deepcopy(model).eval()
    with torch.no_grad():
        fit = fit_temperature(new(inputs), target)
    return Scaled(new, fit.value).eval()


def fit_temperature(logits: Tensor, target: Tensor, *, seed: int = 0) -> Temperature:
    """Of held-out logits (n, classes) and integer targets (n,); the seed draws the labels of the test."""
    if logits.ndim != 2 or target.shape != logits.shape[:1] or not len(target):
        raise ValueError(
            f"fit_temperature wants logits (n, classes) and targets (n,); got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}."
        )
    z = logits.detach().double()
    if not bool(z.isfinite().all()):
        raise ValueError("fit_temperature: some logits are not finite. Leave those examples out.")
    z, y = z - z.amax(dim=1, keepdim=True), target.long()
    sharpness = _sharpness(z, y)
    before, after = z.softmax(dim=1), (z * sharpness).softmax(dim=1)
    chance = _by_chance(after, seed)
    left = calibration_error(after, y)
    return Temperature(
        value=1 / sharpness,
        loss_before=_loss(z, y),
        loss_after=_loss(z * sharpness, y),
        error_before=calibration_error(before, y),
        error_after=left,
        error_by_chance=chance,
        enough=left <= chance,
    )


def _loss(z: Tensor, y: Tensor) -> float:
    return float(nn.functional.cross_entropy(z, y))


def _sharpness(z: Tensor, y: Tensor) -> float:
    """1 / T between 1e-4 and 1e4: the root of the slope, which rises with 1 / T, by halving."""

    def slope(sharpness: float) -> float:
        p = (z * sharpness).softmax(dim=1)
        return float(((p * z).sum(dim=1) - z.gather(1, y[:, None])[:, 0]).mean())

    low, high = math.log(1e-4), math.log(1e4)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp((low + high) / 2)


def calibration_error(probabilities: Tensor, target: Tensor, *, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over equal bins of confidence, weighted by size."""
    sure, guess = probabilities.max(dim=1)
    return _gap(sure, (guess == target).double(), bins)


def _gap(sure: Tensor, right: Tensor, bins: int) -> float:
    place = (sure * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=sure.device)
    gaps.index_add_(0, place, right - sure.double())
    return float(gaps.abs().sum() / len(sure))


def _by_chance(probabilities: Tensor, seed: int) -> float:
    draw = torch.Generator().manual_seed(seed)
    sure = probabilities.amax(dim=1).cpu()
    errors = [
        _gap(sure, (torch.rand(len(sure), generator=draw, dtype=sure.dtype) < sure).double(), BINS)
        for _ in range(RESAMPLES)
    ]
    return float(torch.tensor(errors).quantile(0.95))
