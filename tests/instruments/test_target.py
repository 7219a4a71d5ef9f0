from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.capture.needs import LossCall
from vario.instruments.target import Target


def of(name: str, *targets: torch.Tensor | None) -> dict[str, Any]:
    calls = [LossCall(name, torch.zeros(()), target, torch.zeros(())) for target in targets]
    return {
        series.removeprefix("target/"): value
        for (series, _), value in read(Target(), loss_calls=calls).items()
    }


def test_moments_equal_those_of_numpy_over_all_micro_batches() -> None:
    first, second = draw(50) * 300 + 1000, draw(70, seed=1)
    values = exact(torch.cat([first, second]))
    wanted = {
        "mean": pytest.approx(values.mean(), rel=1e-5),
        "std": pytest.approx(values.std(), rel=1e-5),
        "non_finite": 0,
        "pairs": 1.0,
    }
    assert of("mse_loss", first, second) == wanted


def test_what_is_not_finite_is_counted() -> None:
    assert of("l1_loss", torch.tensor([1.0, math.nan, math.inf]))["non_finite"] == 2.0


def test_it_is_silent_for_classes_and_without_a_loss_function() -> None:
    assert of("cross_entropy", draw(3, 4)) == of("mse_loss", torch.arange(3)) == of("mse_loss", None) == {}
    assert read(Target()) == {}


def pairs(output: tuple[int, ...], target: tuple[int, ...]) -> Any:
    call = LossCall("mse_loss", torch.zeros(output), torch.zeros(target), torch.zeros(()))
    return read(Target(), loss_calls=[call])["target/pairs", ""]


def test_each_output_has_one_target_unless_their_shapes_pair_all_with_all() -> None:
    assert pairs((32, 1), (32,)) == pairs((32,), (32, 1)) == 32.0
    assert pairs((32, 1), (32, 1)) == pairs((32,), (32,)) == 1.0
    assert (
        pairs((32, 9), (32, 1)) == pairs((32, 9), (9,)) == pairs((32, 9), ()) == 1.0
    )  # quantiles, a constant
