from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.instruments.input import Input


def of(*inputs: torch.Tensor) -> dict[str, Any]:
    return {
        series.removeprefix("input/"): value
        for (series, _), value in read(Input(), inputs=list(inputs)).items()
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_moments_and_range_equal_those_of_numpy(dtype: torch.dtype) -> None:
    given = (draw(400, 3, 32) * 40 + 120).to(dtype)
    found, values = of(given), exact(given)
    wanted = {
        "mean": values.mean(),
        "std": values.std(),
        "smallest": values.min(),
        "largest": values.max(),
        "non_finite": 0,
    }
    assert found == {quantity: pytest.approx(number, rel=1e-5) for quantity, number in wanted.items()}


def test_features_on_unequal_scales_are_found_and_constant_ones_left_out() -> None:
    table = draw(200, 4)
    table[:, 1] *= 1000
    table[:, 2] = 7
    stds = exact(table).std(axis=0)[[0, 1, 3]]
    assert of(table)["feature_spread"] == pytest.approx(stds.max() / stds.min(), rel=1e-4)


def test_floating_inputs_are_taken_together_and_others_left_out() -> None:
    found = of(torch.zeros(2, 3, 3), torch.arange(5), torch.full((2, 3, 3), 2.0))
    assert (found["mean"], found["std"], found["smallest"], found["largest"]) == (1.0, 1.0, 0.0, 2.0)
    assert of(torch.arange(5)) == {}


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_input_as_of_a_graph_is_left_out(layout: torch.layout) -> None:
    table = torch.eye(4).to_sparse(layout=layout)
    assert of(table) == {} and of(table, draw(3, 2)) == of(draw(3, 2))


def test_what_is_not_finite_is_counted() -> None:
    found = of(torch.tensor([[1.0, math.nan], [math.inf, 2.0]]))
    assert found["non_finite"] == 2.0 and math.isnan(found["mean"])
    assert "feature_spread" not in found


def test_a_single_row_or_column_has_no_feature_spread() -> None:
    assert "feature_spread" not in of(draw(1, 5)) and "feature_spread" not in of(draw(5, 1))


def test_it_is_silent_without_inputs() -> None:
    assert read(Input()) == of() == of(torch.zeros(0, 3)) == {}
