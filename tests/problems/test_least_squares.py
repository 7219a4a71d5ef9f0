"""Test ``vario.problems.least_squares``, and with it the noise scale that is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vario.capture.moment import Moment
from vario.capture.per_example.probe import Probe
from vario.instruments.gradient_noise import GradientNoise
from vario.problems.least_squares import LeastSquares
from vario.record import record_of
from vario.rules._noise import noise_scale


def readings(problem: LeastSquares, batch: int, picked: int, seed: int) -> tuple[float, float]:
    """Signal and noise of one probe of a real backward."""
    model, draw = problem.model(), torch.Generator().manual_seed(seed)
    x, y = problem.batch(batch, draw)
    loss = problem.loss(model(x), y)
    probe = Probe(loss, {id(model.weight): "weight"}, examples=batch, picked=range(picked))
    loss.backward()
    instrument = GradientNoise()
    moment = Moment("model", 0, {"example_gradients": probe.close()})
    found = {r.series: r.value for r in instrument.read(moment.declared(instrument.needs)) if not r.where}
    return float(found["gradient_noise/signal"]), float(found["gradient_noise/noise"])


def test_the_truth_is_that_of_drawn_gradients() -> None:
    problem = LeastSquares()
    x, y = problem.batch(500_000, torch.Generator().manual_seed(0))
    gradients = (x.sum(dim=1, keepdim=True) - y) * x
    noise = float(gradients.var(dim=0).sum())
    assert noise == pytest.approx(problem.truth["noise"], rel=0.01)
    assert noise / float(gradients.mean(dim=0).square().sum()) == pytest.approx(
        problem.truth["noise_scale"], rel=0.02
    )


@pytest.mark.parametrize("picked", [1000, 125])
def test_two_hundred_probes_are_within_three_percent(picked: int) -> None:
    problem = LeastSquares()
    seen = np.array([readings(problem, 1000, picked, seed) for seed in range(200)])
    signal, noise = seen.mean(axis=0)
    assert noise / signal == pytest.approx(problem.truth["noise_scale"], rel=0.03)


def test_intervals_cover_the_exact_value_as_often_as_they_say() -> None:
    """200 runs of 200 readings, batch 64: gradients are drawn in numpy, the interval is that of the rules."""
    problem, rng, batch, covered = LeastSquares(), np.random.default_rng(0), 64, 0
    lam = problem.eigenvalues
    for _ in range(200):
        x = rng.standard_normal((200, batch, problem.dimension), dtype=np.float32) * np.sqrt(lam)
        miss = x.sum(axis=2) - problem.noise**0.5 * rng.standard_normal((200, batch))
        small = (miss**2 * (x**2).sum(axis=2)).mean(axis=1)
        big = (np.einsum("rb,rbd->rd", miss, x) ** 2).sum(axis=1) / batch**2
        steps = np.arange(200)
        record = record_of(
            {
                "gradient_noise/signal": (steps, (batch * big - small) / (batch - 1)),
                "gradient_noise/noise": (steps, (small - big) * batch / (batch - 1)),
                "batch/size": (steps, np.full(200, batch)),
            }
        )
        scale = noise_scale(record).scale
        covered += scale.low <= problem.truth["noise_scale"] <= scale.high
    assert 0.90 <= covered / 200 <= 0.98
