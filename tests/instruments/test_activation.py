from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.instruments.sample import draw, exact, read
from vario.capture.needs import Activation as Seen
from vario.instruments.activation import Activation


def of(*seen: Seen) -> dict[tuple[str, str], Any]:
    found = read(Activation(), activations=list(seen))
    return {(series.removeprefix("activation/"), where): value for (series, where), value in found.items()}


@pytest.mark.parametrize("kind", ["relu", "gelu", "linear", "conv", "norm", "softmax", "tanh", "sigmoid"])
def test_moments_equal_those_of_numpy(kind: str) -> None:
    value = draw(6, 5, 4)
    value[0] = 0
    found, entries = of(Seen("fc", kind, value)), exact(value)
    wanted = {
        "mean": entries.mean(),
        "std": entries.std(),
        "largest": np.abs(entries).max(),
        "zero_share": 1 / 6,
    }
    for quantity, number in wanted.items():
        assert found[quantity, "fc"] == pytest.approx(number, rel=1e-5), quantity
    assert ("saturation_share" in {q for q, _ in found}) == (kind in ("tanh", "sigmoid"))
    assert ("dead_channels" in {q for q, _ in found}) == (kind == "relu")


@pytest.mark.parametrize("channel_dim", [1, 2])
def test_planted_dead_channels_are_found_on_the_right_axis(channel_dim: int) -> None:
    value = draw(8, 10, 10).relu()
    value.select(channel_dim, 3).zero_()
    value.select(channel_dim, 7).zero_()
    value[:7].select(3 - channel_dim, 5).zero_()  # the other axis, and not on every example
    found = of(Seen("conv", "relu", value, channel_dim))
    assert (found["dead_channels", "conv"], found["channels", "conv"]) == (2.0, 10.0)


def test_a_channel_with_one_live_entry_is_not_dead() -> None:
    value = torch.zeros(4, 3)
    value[2, 1] = 1e-30
    assert of(Seen("fc", "relu", value))["dead_channels", "fc"] == 2.0


@pytest.mark.parametrize(
    "kind, value, share",
    [
        ("tanh", [0.991, -0.995, 0.98, 0.0], 0.5),
        ("sigmoid", [0.995, 0.005, 0.5, 0.02], 0.5),
        ("tanh", [0.0, 0.5], 0.0),
    ],
)
def test_planted_saturation_is_found(kind: str, value: list[float], share: float) -> None:
    assert of(Seen("fc", kind, torch.tensor([value])))["saturation_share", "fc"] == share


def test_the_nonlinearity_speaks_for_the_layer_that_feeds_it_and_the_layer_for_the_softmax() -> None:
    linear, relu, softmax = (
        Seen("fc", kind, torch.full((2, 2), v))
        for kind, v in (("linear", 1.0), ("relu", 2.0), ("softmax", 3.0))
    )
    assert of(softmax, linear, relu)["mean", "fc"] == 2.0
    assert of(softmax, linear)["mean", "fc"] == 1.0
    assert of(softmax)["mean", "fc"] == 3.0


def test_calls_of_one_module_are_pooled() -> None:
    first, second = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0], [0.0, 0.0, 4.0]])
    found = of(Seen("fc", "relu", first), Seen("other", "relu", torch.ones(1, 1)), Seen("fc", "relu", second))
    assert found["mean", "fc"] == pytest.approx(1.0) and found["zero_share", "fc"] == pytest.approx(6 / 9)
    assert (found["dead_channels", "fc"], found["channels", "fc"]) == (1.0, 3.0)
    assert found["mean", "other"] == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_is_no_obstacle(dtype: torch.dtype) -> None:
    value = draw(64, 64, dtype=dtype).relu()
    found = of(Seen("fc", "relu", value))
    assert found["std", "fc"] == pytest.approx(exact(value).std(), rel=1e-5)


def test_not_a_number_is_neither_dead_nor_an_error() -> None:
    found = of(Seen("fc", "relu", torch.full((2, 3), float("nan"))))
    assert found["dead_channels", "fc"] == 0.0 and np.isnan(found["mean", "fc"])


@pytest.mark.parametrize(
    "value", [torch.zeros(0, 3), torch.ones(2, 2, dtype=torch.int64)], ids=["empty", "whole numbers"]
)
def test_it_is_silent_where_there_is_nothing_to_read(value: Tensor) -> None:
    assert of(Seen("fc", "relu", value)) == of() == read(Activation()) == {}
