"""The gradient noise scale of a run, with its interval: mean noise over mean signal, divided last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vario.nouns import NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, reach

__all__ = ["NoiseScale", "noise_scale"]


@dataclass(frozen=True, slots=True)
class NoiseScale:
    """Noise (variance of one example's gradient, summed) and signal (squared length of the true gradient).

    ``scale`` is their ratio in examples; its upper end is infinite where the signal cannot be told from zero.
    """

    scale: Estimate
    signal: Estimate
    noise: Estimate
    batch: float  # examples per step
    steps: tuple[int, int]

    @property
    def resolved(self) -> bool:
        return self.signal.low > 0


def noise_scale(record: Record, *, count: int = 8, window: int = 200, blocks: int = 20) -> NoiseScale:
    """Over the last ``window`` readings of the second half of the steps, by the route that was recorded.

    NotApplicable with fewer than ``count`` of them or no batch size.
    The interval is as wide as few readings make it: from 8 on, Student is good to a few per cent.
    """
    route = _route(record, count)
    steps, signal = record.need(f"{route}/signal", count)
    noise_steps, noise = record.need(f"{route}/noise", count)
    _, size = record.need("batch/size", 1)
    both = np.intersect1d(steps, noise_steps)
    both = both[both >= record.step_count / 2]  # the scale grows as the loss falls
    signal, noise = signal[np.isin(steps, both)][-window:], noise[np.isin(noise_steps, both)][-window:]
    good = np.isfinite(signal) & np.isfinite(noise)
    signal, noise, kept = signal[good], noise[good], both[-window:][good]
    if len(signal) < count:
        raise NotApplicable(
            f"{len(signal)} finite readings of {route}/signal in the second half; {count} are needed"
        )
    # Neighbouring readings depend on each other, so blocks of them are drawn; the seed makes answers repeat.
    edges = np.linspace(0, len(signal), min(blocks, len(signal)) + 1).astype(int)
    pairs = np.array(
        [(signal[a:b].mean(), noise[a:b].mean()) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    )
    draws = pairs[np.random.default_rng(0).integers(len(pairs), size=(1000, len(pairs)))].mean(axis=1)
    # Means of few draws vary too little, and their quantiles are Student's and not the normal ones.
    draws = pairs.mean(axis=0) + (draws - pairs.mean(axis=0)) * _widening(len(pairs))
    with np.errstate(divide="ignore"):
        ratio = np.maximum(draws[:, 1], 0.0) / np.maximum(draws[:, 0], 0.0)
    backwards = record.series("loss/backwards")[1]
    passes = float(np.median(backwards)) if len(backwards) else 1.0
    parts = record.series("gradient_parts/count")[1]  # of micro-batches and of ranks together
    passes = max(passes, float(np.median(parts))) if len(parts) else passes
    return NoiseScale(
        scale=_interval(ratio, float(noise.mean() / max(signal.mean(), 1e-300))),
        signal=_interval(draws[:, 0], float(signal.mean())),
        noise=_interval(draws[:, 1], float(noise.mean())),
        batch=float(np.median(size)) * max(passes, 1.0),
        steps=(int(kept[0]), int(kept[-1])),
    )


def _route(record: Record, count: int) -> str:
    """Single examples, else (BatchNorm has none) the parts that a step is made of: micro-batches or ranks."""
    for route in ("gradient_noise", "gradient_parts"):
        if (record.series(f"{route}/signal")[0] >= record.step_count / 2).sum() >= count:
            return route
    return "gradient_noise"


def _widening(count: int) -> float:
    """Student's over the normal 97.5 % quantile (Cornish, Fisher), times the bias of a resampled spread."""
    freedom, z = count - 1, reach()
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return float(student / 1.96 * np.sqrt(count / freedom))


def _interval(draws: np.ndarray, value: float) -> Estimate:
    low, high = np.quantile(draws, (0.025, 0.975), method="nearest")
    return Estimate(value, float(low), float(high))
