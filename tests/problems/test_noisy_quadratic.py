"""Test ``vario.problems.noisy_quadratic``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vario.problems.noisy_quadratic import NoisyQuadratic


def test_the_truth_is_that_of_drawn_gradients() -> None:
    problem, draw = NoisyQuadratic(), torch.Generator().manual_seed(0)
    model = problem.model()
    x = problem.batch(200_000, draw)
    gradients = torch.tensor(problem.curvature) * (model.weight.detach() - x)
    assert float(gradients.var(dim=0).sum()) == pytest.approx(problem.truth["noise"], rel=0.02)
    assert float(gradients.mean(dim=0).square().sum()) == pytest.approx(problem.truth["signal"], rel=0.02)
    problem.loss(model(x)).backward()
    assert torch.allclose(model.weight.grad, gradients.mean(dim=0))


def test_the_course_of_sgd_is_that_of_simulated_runs() -> None:
    problem, rate, batch = NoisyQuadratic(spread=2.0), 0.3, 4
    h, rng = np.asarray(problem.curvature), np.random.default_rng(0)
    w = np.full((2000, 3), problem.start)
    for expected in problem.curve(rate, batch, 20):
        assert 0.5 * (h * w**2).sum(axis=1).mean() == pytest.approx(expected, rel=0.1)
        w = w - rate * h * (w - problem.spread * rng.standard_normal(w.shape) / batch**0.5)


def test_above_the_largest_rate_it_diverges() -> None:
    problem = NoisyQuadratic()
    stable = problem.truth["largest_rate"]
    assert problem.curve(1.01 * stable, 8, 400)[-1] > 10 * problem.curve(0.99 * stable, 8, 400)[-1]
