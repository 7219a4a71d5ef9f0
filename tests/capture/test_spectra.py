"""Singular values: exact ones against torch.linalg, sketches within their stated error."""

from __future__ import annotations

import math

import pytest
import torch

from vario.capture import spectra
from vario.capture.needs import Activation
from vario.capture.spectra import Spectrum, matrix_of, of_activations, of_matrices, spectrum

F64 = torch.float64


def random(m: int, n: int, *, power: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Singular values fall like their number to -power."""
    draw = torch.Generator().manual_seed(seed)
    k = min(m, n)
    u, _ = torch.linalg.qr(torch.randn(m, k, generator=draw, dtype=F64))
    v, _ = torch.linalg.qr(torch.randn(n, k, generator=draw, dtype=F64))
    return u @ torch.diag(torch.arange(1, k + 1, dtype=F64) ** -power) @ v.T


def truth(matrix: torch.Tensor) -> dict[str, float]:
    values = torch.linalg.svdvals(matrix.double())
    p = values / values.sum()
    p = p[p > 0]
    return {
        "nuclear": float(values.sum()),
        "stable_rank": float((values**2).sum() / values[0] ** 2),
        "effective_rank": float(torch.exp(-(p * p.log()).sum())),
        "top": float(values[0]),
    }


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (5, 200), (300, 3)])
def test_all_values_of_a_small_matrix(shape: tuple[int, int]) -> None:
    for matrix in (torch.randn(shape, generator=torch.Generator().manual_seed(1)), random(*shape, power=2)):
        found = spectrum(matrix)
        assert found is not None and found.exact and found.width == min(shape)
        for name, value in truth(matrix).items():
            assert getattr(found, name) == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_a_sketch_is_within_its_error(power: float) -> None:
    matrix = random(300, 200, power=power)
    exact = truth(matrix)
    for seed in range(5):
        found = spectrum(matrix.float(), exact=0, sketch=16, seed=seed)
        assert found is not None and not found.exact
        assert found.nuclear == pytest.approx(exact["nuclear"], rel=0.05)
        assert abs(found.nuclear - exact["nuclear"]) < 4.5 * found.error + 0.01 * exact["nuclear"]
        assert found.top == pytest.approx(exact["top"], rel=0.02)
        assert found.effective_rank == pytest.approx(exact["effective_rank"], rel=0.1)


def test_ranks_of_k_equal_directions() -> None:
    for k in (1, 4, 9):
        matrix = random(60, 20)[:, :20] * 0 + random(60, 20, seed=2)[:, :k] @ torch.eye(k, 20, dtype=F64)
        q, _ = torch.linalg.qr(matrix[:, :k])
        found = spectrum(q @ torch.eye(k, 20, dtype=F64))
        assert found is not None
        assert found.effective_rank == pytest.approx(k) and found.stable_rank == pytest.approx(k)


def test_tiny_and_low_rank_sketches() -> None:
    low = random(120, 90)[:, :3] @ random(90, 3, seed=5).T
    found, small = spectrum(low.float(), exact=0, sketch=16), spectrum(low * 1e-30)
    assert found is not None and small is not None
    assert found.nuclear == pytest.approx(truth(low)["nuclear"], rel=1e-3)
    assert small.nuclear == pytest.approx(1e-30 * truth(low)["nuclear"], rel=1e-5)


def test_what_is_no_matrix_is_left_out() -> None:
    tensors = [
        torch.zeros(3, 3),
        torch.ones(4),
        torch.full((3, 3), math.nan),
        None,
        torch.ones(2, 2, dtype=torch.int),
        torch.ones(3, 3).to_sparse(),
        torch.empty(3, 3, device="meta"),
        torch.empty(0, 4),
        torch.ones(3, 3, 2),
        torch.eye(3, dtype=torch.bfloat16),
        torch.ones(2, 2, dtype=torch.complex64),
    ]
    found = of_matrices(tensors, [str(k) for k in range(len(tensors))])
    assert list(found) == ["8", "9"]
    kernel = matrix_of(torch.ones(8, 3, 5, 5))
    assert kernel is not None and kernel.shape == (8, 75)


def test_outputs_have_their_channels_as_columns() -> None:
    image = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    image[:, 2] = image[:, 0]
    found = of_activations(
        [
            Activation("conv", "linear", torch.ones(9, 9), 1),
            Activation("conv", "relu", image, 1),
            Activation("conv", "sigmoid", torch.ones(9, 9), 1),
            Activation("head", "linear", torch.ones(9, 5), 1),
            Activation("loss", "softmax", torch.ones(9), 0),
        ]
    )
    assert list(found) == ["conv", "head"]
    assert found["conv"].width == 3 and found["conv"].effective_rank < 2.01
    assert found["head"].effective_rank == pytest.approx(1.0)


def test_turning_changes_nothing_and_many_rows_are_thinned() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(9000, 12, generator=draw, dtype=F64) * torch.linspace(0.1, 1, 12, dtype=F64)
    q, _ = torch.linalg.qr(torch.randn(12, 12, generator=draw, dtype=F64))
    plain, turned = (
        of_activations([Activation("x", "linear", value, 1)])["x"].effective_rank
        for value in (rows, rows @ q)
    )
    assert plain == pytest.approx(turned, rel=1e-5)
    assert plain == pytest.approx(truth(rows)["effective_rank"], rel=0.02)


def test_many_at_once_are_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "TOGETHER", 3 * 6**2)  # three of a width of 6 at a time
    draw = torch.Generator().manual_seed(0)
    shapes = [(9, 6), (6, 40), (5, 5), (6, 6), (30, 6), (6, 7), (2, 800), (900, 800), (12, 6)]
    scales = [1.0, 1e-30, 1e20, 3.0, math.inf, 2.0, 1.0, 1.0, 0.0]
    matrices = [
        s * torch.randn(*shape, generator=draw, dtype=F64) for shape, s in zip(shapes, scales, strict=True)
    ]
    matrices[4][:] = 1.0
    matrices[4][0, 0] = math.inf
    found = of_matrices(matrices, [str(k) for k in range(len(matrices))])
    alone = {str(k): spectrum(matrix) for k, matrix in enumerate(matrices)}
    assert alone["4"] is None and alone["8"] is None
    assert list(found) == [name for name, one in alone.items() if one is not None]
    for name, one in found.items():
        assert vars_of(one) == pytest.approx(vars_of(alone[name]), rel=1e-9)


def vars_of(one: Spectrum | None) -> list[float]:
    assert one is not None
    return [one.top, one.squares, one.nuclear, one.entropy, one.width, one.exact, one.error]
