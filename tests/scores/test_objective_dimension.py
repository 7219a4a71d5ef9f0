"""Test ``vario.scores.objective_dimension``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vario.scores import Subspace, smallest_dimension
from vario.scores.objective_dimension import _Basis


def test_the_basis_is_orthonormal():
    basis = _Basis(50, 7, seed=1)
    dense = np.stack([basis.vector(unit) for unit in np.eye(7)], axis=1)  # (50, 7)
    np.testing.assert_allclose(dense.T @ dense, np.eye(7), atol=1e-12)
    x = np.random.default_rng(0).standard_normal(50)
    np.testing.assert_allclose(basis.project(x), dense @ (dense.T @ x), atol=1e-12)
    assert np.abs(dense).max() < 0.8, "no direction is a single weight"


@pytest.mark.parametrize("k", [1, 5, 10, 23])
def test_a_quadratic_with_k_directions_has_dimension_k(k):
    """P118, accept: the loss is 0 on a set of codimension k, which d >= k random directions meet."""
    draw = np.random.default_rng(k)
    constraints, wanted = draw.standard_normal((k, 60)), draw.standard_normal(k)

    def score(d):
        basis = _Basis(60, d, seed=100 + d)
        inside = constraints @ np.stack([basis.vector(unit) for unit in np.eye(d)], axis=1)
        z = np.linalg.lstsq(inside, wanted, rcond=None)[0]
        return 1 - float(((inside @ z - wanted) ** 2).sum() / (wanted**2).sum())

    assert smallest_dimension(score, target=1 - 1e-9, most=60, within=0).high == k


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_projected_steps_of_sgd_are_steps_of_z(momentum):
    torch.manual_seed(0)
    target = torch.randn(40, dtype=torch.float64)
    curve = torch.linspace(0.1, 2, 40, dtype=torch.float64)
    weights = torch.nn.Parameter(torch.randn(40, dtype=torch.float64))
    start = weights.detach().clone()
    space = Subspace(6, seed=3)
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=momentum)
    optimizer.register_step_pre_hook(space.before_step)
    optimizer.register_step_post_hook(space.after_step)
    basis = _Basis(40, 6, seed=3)
    dense = torch.from_numpy(np.stack([basis.vector(unit) for unit in np.eye(6)], axis=1))
    z = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))
    direct = torch.optim.SGD([z], lr=0.1, momentum=momentum)
    for _ in range(30):
        for opt, point in ((optimizer, lambda: weights), (direct, lambda: start + dense @ z)):
            opt.zero_grad()
            (curve * (point() - target) ** 2).sum().backward()
            opt.step()
    torch.testing.assert_close(weights.detach(), (start + dense @ z).detach(), rtol=1e-9, atol=1e-9)


def test_several_parameters_and_frozen_ones():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    net.bias.requires_grad_(False)
    bias = net.bias.clone()
    space = Subspace(2)
    optimizer = torch.optim.Adam(net.parameters())
    points = []
    for _ in range(6):
        space.before_step(optimizer)
        optimizer.zero_grad()
        net(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()
        space.after_step(optimizer)
        points.append(net.weight.detach().flatten().clone())
    assert torch.equal(bias, net.bias)
    assert torch.linalg.matrix_rank(torch.stack(points[1:]) - points[0], tol=1e-5) <= 2


def test_the_search_is_honest_about_its_bracket_and_its_end():
    found = smallest_dimension(lambda d: float(d >= 300), target=0.9, most=5000)
    assert found.low < 300 <= found.high <= 1.1 * found.low + 1
    assert len(found.tried) <= 12
    never = smallest_dimension(lambda d: 0.0, target=0.9, most=100)
    assert never.high is None and never.low == 100
    assert smallest_dimension(lambda d: 1.0, target=0.9, most=100, within=0).high == 1
    with pytest.raises(ValueError, match="at least 1"):
        Subspace(0)
