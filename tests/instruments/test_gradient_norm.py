from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.instruments.gradient_norm import GradientNorm


def norms(**grads: torch.Tensor | None) -> dict[str, tuple[float, float]]:
    found = read(GradientNorm(), names=list(grads), grads=list(grads.values()))
    wheres = [where for series, where in found if series == "gradient/norm"]
    return {where: (found["gradient/norm", where], found["gradient/non_finite", where]) for where in wheres}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_norms_equal_those_of_numpy_whatever_the_precision(dtype: torch.dtype) -> None:
    grads = {
        "a": draw(300_000, dtype=dtype),
        "b": draw(7, 11, seed=1, scale=1e-3, dtype=dtype),
        "c": draw(1, dtype=dtype),
    }
    found = norms(**grads)
    for name, grad in grads.items():
        assert found[name] == (pytest.approx(np.linalg.norm(exact(grad)), rel=1e-5, abs=0), 0.0)
    whole = np.concatenate([exact(grad).ravel() for grad in grads.values()])
    assert found[""][0] == pytest.approx(np.linalg.norm(whole), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-19, 1e25])
def test_squares_may_leave_single_precision(scale: float) -> None:
    grad = draw(1000).double().mul(scale).float()
    assert norms(a=grad)["a"] == (pytest.approx(np.linalg.norm(exact(grad)), rel=1e-5, abs=0), 0.0)


def test_what_is_not_finite_is_counted_and_shows() -> None:
    bad = draw(200_000)
    bad[5], bad[150_000], bad[150_001] = float("nan"), float("inf"), float("-inf")
    found = norms(bad=bad, good=torch.tensor([3.0, 4.0]))
    assert found["good"] == (5.0, 0.0)
    assert math.isnan(found["bad"][0]) and found["bad"][1] == 3.0
    assert math.isnan(found[""][0]) and found[""][1] == 3.0
    assert norms(a=torch.tensor([float("inf"), 1.0]))["a"] == (math.inf, 1.0)


def test_complex_and_sparse_gradients_have_the_norm_of_their_entries() -> None:
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[1, 1, 4]]), torch.tensor([1.0, 2.0, 4.0]), (9,), check_invariants=True
    )
    found = norms(complex=torch.tensor([3 + 4j, 0j]), sparse=sparse)
    assert found["complex"][0] == pytest.approx(5.0)
    assert found["sparse"][0] == pytest.approx(5.0), "entries at one place are summed first"


def test_missing_and_empty_gradients_are_silent_and_zeros_are_not() -> None:
    found = norms(missing=None, empty=torch.zeros(0, 3), zero=torch.zeros(4), part=torch.ones(2, 8)[:, ::2])
    assert found == {
        "zero": (0.0, 0.0),
        "part": (pytest.approx(8**0.5), 0.0),
        "": (pytest.approx(8**0.5), 0.0),
    }


@pytest.mark.parametrize(
    "grad",
    [
        torch.ones(3, device="meta"),
        torch.ones(3, dtype=torch.int64),
        torch.ones(3, dtype=torch.bool),
    ],
    ids=["meta", "whole numbers", "truths"],
)
def test_tensors_without_readable_numbers_are_silent(grad: torch.Tensor) -> None:
    assert norms(a=grad) == {}
    assert set(norms(a=grad, b=torch.ones(1))) == {"b", ""}


def test_it_is_silent_without_gradients() -> None:
    assert norms() == norms(a=None) == read(GradientNorm()) == {}
