"""Lanczos and stochastic quadrature against dense eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vario.capture.curvature.lanczos import density, lanczos, largest, random_start
from vario.capture.curvature.measures import COLD

F64 = torch.float64


def spectrum(values: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=draw, dtype=F64))
    return q @ torch.diag(values) @ q.T


OUTLIERS = torch.cat(
    [torch.linspace(-1, 1, 195, dtype=F64), torch.tensor([3.0, 4.0, 5.0, 8.0, 20.0], dtype=F64)]
)


@pytest.mark.parametrize("least", [False, True])
def test_the_end_of_the_spectrum_lies_within_the_residual(least: bool) -> None:
    for seed in range(20):
        matrix = spectrum(OUTLIERS if not least else -OUTLIERS, seed)
        found = largest(matrix.mv, random_start(matrix[0], seed), least=least)
        truth = -20.0 if least else 20.0
        assert abs(found.value - truth) <= 0.01 * 20
        assert abs(found.value) <= 20 * (1 + 1e-12), "a Ritz value is inside the spectrum"
        assert abs(found.value - truth) <= found.error
        assert found.products <= 8
        cosine = abs(float(found.vector @ torch.linalg.eigh(matrix)[1][:, 0 if least else -1]))
        assert cosine > 0.99 and float(found.vector.norm()) == pytest.approx(1)


def test_a_start_that_misses_the_vector_settles_elsewhere_only_for_a_while() -> None:
    values = torch.tensor([1.1, 1.5, 1.9, 2.2, 2.7, 2.94], dtype=F64)
    for seed in range(40):
        matrix = spectrum(values, seed)
        found = largest(matrix.mv, random_start(matrix[0], seed))
        assert found.value <= 2.94 * (1 + 1e-9) and found.value + found.error >= 2.94 * (1 - 1e-9)
    close = torch.cat([torch.linspace(0, 2.9, 300, dtype=F64), values[-1:]])
    for seed in range(10):
        matrix = spectrum(close, seed)
        found = largest(matrix.mv, random_start(matrix[0], seed))
        assert found.value == pytest.approx(2.94, rel=0.03)


def test_all_eigenvalues_of_a_small_matrix_are_found() -> None:
    values = torch.tensor([-2.0, -0.5, 0.0, 1.0, 7.0], dtype=F64)
    matrix = spectrum(values)
    found = lanczos(lambda v: matrix @ v, random_start(matrix[0], 1), steps=50)
    np.testing.assert_allclose(found.values, values, atol=1e-9)
    assert found.residuals.max() < 1e-9
    assert found.first.sum() == pytest.approx(1)


def test_a_start_inside_an_invariant_space_ends_early() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=F64))
    found = lanczos(lambda v: matrix @ v, torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=F64), steps=9)
    np.testing.assert_allclose(found.values, [1, 2], atol=1e-12)
    zero = largest(lambda v: 0 * v, torch.ones(4))
    assert zero.value == 0.0 and zero.error == 0.0


def test_the_density_has_the_moments_and_shares_of_the_spectrum() -> None:
    matrix = spectrum(OUTLIERS)
    found = density(lambda v: matrix @ v, matrix[0], starts=8, steps=30)
    for function in (lambda x: x, np.square, np.exp):
        value, spread = found.trace(function)
        assert abs(value - float(function(OUTLIERS.numpy()).sum())) < 4 * spread
    assert found.share_above(2.0) == pytest.approx(5 / 200, rel=0.5)
    assert found.quantiles(np.array([0.5]))[0] == pytest.approx(0.0, abs=0.25)
    assert found.weights.sum(axis=1) == pytest.approx(np.ones(8))


def test_what_is_not_finite_is_an_error_with_its_reason() -> None:
    with pytest.raises(ArithmeticError, match="not finite"):
        largest(lambda v: v * float("nan"), torch.ones(3))
    with pytest.raises(ArithmeticError, match="zero"):
        lanczos(lambda v: v, torch.zeros(3), steps=2)


def test_the_scripts_random_numbers_are_not_touched() -> None:
    before = torch.get_rng_state()
    density(lambda v: 2 * v, torch.zeros(10), starts=2, steps=3)
    assert torch.equal(before, torch.get_rng_state())


def test_an_end_that_the_gradient_has_nothing_of_is_found() -> None:
    """The gradient lies in the space of all other eigenvectors; the random part beside it is what is left."""
    values = 8 / torch.arange(1, 4001).float()
    values[-1] = 10.0
    for seed in range(20):
        gradient = torch.randn(len(values), generator=torch.Generator().manual_seed(seed)) * values.sqrt()
        gradient[-1] = 0.0
        start = random_start(values, 1000 + seed)
        start.mul_(COLD / start.norm()).add_(gradient / gradient.norm())
        assert largest(lambda vector: values * vector, start).value == pytest.approx(10.0, rel=0.01)
