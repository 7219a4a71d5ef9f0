from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.instruments.gradient_statistics import GradientStatistics

QUANTITIES = ("mean", "std", "largest", "zero_share")


def statistics(**grads: torch.Tensor | None) -> dict[str, tuple[float, ...]]:
    found = read(GradientStatistics(), names=list(grads), grads=list(grads.values()))
    wheres = dict.fromkeys(where for _, where in found)
    return {where: tuple(found[f"gradient/{q}", where] for q in QUANTITIES) for where in wheres}


def wanted(values: np.ndarray) -> tuple[float, ...]:
    return values.mean(), values.std(), np.abs(values).max(), (values == 0).mean()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_they_equal_those_of_numpy_for_each_and_for_all(dtype: torch.dtype, offset: float) -> None:
    grads = {
        "a": draw(300_000),
        "b": draw(7, 11, seed=1, scale=1e-3) + offset,
        "c": draw(1),
        "d": draw(9) - offset,
    }
    grads["a"][::3] = 0
    grads["a"][200_000] = -50.0
    grads = {name: grad.to(dtype) for name, grad in grads.items()}
    found = statistics(**grads)
    for name, grad in grads.items():
        assert found[name] == pytest.approx(wanted(exact(grad).ravel()), rel=1e-5, abs=1e-9)
    whole = np.concatenate([exact(grad).ravel() for grad in grads.values()])
    assert found[""] == pytest.approx(wanted(whole), rel=1e-5, abs=1e-9)


def test_a_spread_small_against_the_mean_is_not_lost() -> None:
    grad = 1 + draw(200_000, scale=1e-4)
    assert statistics(a=grad)["a"][1] == pytest.approx(exact(grad).std(), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e25])
def test_squares_may_leave_single_precision(scale: float) -> None:
    grad = draw(1000).double().mul(scale).float()
    assert statistics(a=grad)["a"] == pytest.approx(wanted(exact(grad)), rel=1e-4, abs=0)


def test_entries_that_a_sparse_gradient_does_not_store_are_zeros() -> None:
    sparse = torch.sparse_coo_tensor(torch.tensor([[1, 4, 1]]), draw(3, 5), (20, 5), check_invariants=True)
    assert statistics(a=sparse, b=torch.ones(3))["a"] == pytest.approx(
        wanted(exact(sparse.to_dense())), rel=1e-5
    )


def test_a_share_of_zeros_is_of_exact_zeros_of_either_sign() -> None:
    grad = torch.tensor([0.0, -0.0, 1e-45, 1.0])
    assert statistics(a=grad)["a"][3] == 0.5


def test_not_a_number_shows_and_does_not_raise() -> None:
    found = statistics(
        bad=torch.tensor([1.0, float("nan")]), worse=torch.tensor([float("inf"), -1.0]), good=torch.ones(2)
    )
    assert all(math.isnan(value) for value in found["bad"][:3])
    assert math.isinf(found["worse"][2])
    assert found["good"] == (1.0, 0.0, 1.0, 0.0)
    assert math.isnan(found[""][0])


def test_complex_entries_are_two_real_ones() -> None:
    assert statistics(a=torch.tensor([3 + 4j]))["a"] == pytest.approx((3.5, 0.5, 4.0, 0.0))


def test_it_is_silent_for_missing_and_empty_gradients() -> None:
    assert set(statistics(a=None, b=torch.zeros(0), c=torch.ones(2))) == {"c", ""}
    assert statistics(a=None) == read(GradientStatistics()) == {}
