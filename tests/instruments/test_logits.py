from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.capture.needs import LossCall
from vario.instruments.logits import Logits


def of(*calls: tuple[str, torch.Tensor]) -> dict[str, Any]:
    made = [
        LossCall(name, output, torch.zeros(output.shape[0], dtype=torch.long), torch.zeros(()))
        for name, output in calls
    ]
    return {
        series.removeprefix("logits/"): value
        for (series, _), value in read(Logits(), loss_calls=made).items()
    }


def test_extremes_and_sums_equal_those_of_numpy() -> None:
    first, second = draw(6, 4), draw(3, 4, seed=1)
    found, rows = of(("cross_entropy", first), ("cross_entropy", second)), exact(torch.cat([first, second]))
    assert found["largest"] == pytest.approx(rows.max()) and found["smallest"] == pytest.approx(rows.min())
    assert found["mean_sum"] == pytest.approx(rows.sum(axis=1).mean(), rel=1e-5)
    assert found["sum_deviation"] == pytest.approx(np.abs(rows.sum(axis=1) - 1).mean(), rel=1e-5)


def test_probabilities_are_told_by_their_sums() -> None:
    found = of(("cross_entropy", draw(50, 10).softmax(dim=1)))
    assert found["sum_deviation"] < 1e-6 and 0 <= found["smallest"] <= found["largest"] <= 1
    assert of(("cross_entropy", draw(50, 10)))["sum_deviation"] > 0.5


def test_classes_are_on_the_second_axis() -> None:
    assert of(("cross_entropy", draw(5, 3, 7, 7).softmax(dim=1)))["sum_deviation"] < 1e-6


def test_a_single_output_has_no_sum() -> None:
    assert set(of(("binary_cross_entropy_with_logits", draw(5)))) == {"largest", "smallest"}
    assert set(of(("binary_cross_entropy_with_logits", draw(5, 1)))) == {"largest", "smallest"}


def test_it_is_silent_for_regression_and_empty_batches() -> None:
    assert of(("mse_loss", draw(5, 2))) == of(("cross_entropy", draw(0, 3))) == of() == {}
