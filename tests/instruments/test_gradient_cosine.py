from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.instruments.gradient_cosine import GradientCosine


def cosines(now: list[Any], before: list[Any]) -> dict[str, float]:
    names = [f"p{index}" for index in range(len(now))]
    found = read(GradientCosine(), names=names, grads=now, grads_previous=before)
    return {where: value for (_, where), value in found.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_it_equals_that_of_numpy_for_each_and_for_all(dtype: torch.dtype) -> None:
    now = [draw(200_000, dtype=dtype), draw(3, 5, seed=1, dtype=dtype)]
    before = [(draw(200_000, seed=2) + now[0].float()).to(dtype), draw(3, 5, seed=3, dtype=dtype)]
    found = cosines(now, before)
    pairs = [(exact(a).ravel(), exact(b).ravel()) for a, b in zip(now, before, strict=True)]
    pairs.append((np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])))
    for where, (a, b) in zip(("p0", "p1", ""), pairs, strict=True):
        assert found[where] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)


def test_a_step_that_undoes_the_last_one_has_minus_one() -> None:
    grad = draw(50)
    assert cosines([grad], [-3 * grad]) == {"p0": pytest.approx(-1), "": pytest.approx(-1)}


def test_directions_that_cannot_be_told_are_silent() -> None:
    one = torch.ones(3)
    assert set(cosines([one, torch.zeros(3)], [one, one])) == {"p0", ""}
    assert cosines([one * math.nan], [one]) == {}
    assert cosines([one * 1e-25], [one * 1e-25]) == {}, "squares have left single precision"


def test_gradients_that_do_not_lie_opposite_each_other_are_silent() -> None:
    one = torch.ones(3)
    assert cosines([one, None], [None, one]) == {}
    assert cosines([one, one], [one, None]) == {}
    sparse = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.tensor([1.0]), (3,), check_invariants=True)
    assert cosines([sparse], [one]) == {}


def test_it_is_silent_without_the_step_before() -> None:
    assert read(GradientCosine(), names=["a"], grads=[torch.ones(2)]) == {}


def test_a_cosine_that_single_precision_only_half_resolves_is_silent() -> None:
    tiny = draw(100).double().mul(1e-20).float()
    assert cosines([tiny], [tiny * 0.7]) == {}
