"""Test ``vario.rules._noise``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.record import record_of
from vario.rules._noise import noise_scale


@pytest.mark.parametrize(
    ("backwards", "parts", "examples"), [(1, None, 8), (4, None, 32), (1, 2, 16), (4, 8, 64)]
)
def test_the_examples_of_a_step_are_those_of_all_micro_batches_and_ranks(
    backwards: int, parts: int | None, examples: int
) -> None:
    steps = 40 + np.arange(40)
    series = {
        "gradient_noise/signal": (steps, np.full(40, 1.0)),
        "gradient_noise/noise": (steps, np.full(40, 30.0)),
        "batch/size": (steps, np.full(40, 8)),
        "loss/backwards": (steps, np.full(40, backwards)),
    }
    if parts is not None:
        series["gradient_parts/count"] = (steps, np.full(40, parts))
    found = noise_scale(record_of(series))
    assert found.batch == examples and found.scale.value == pytest.approx(30.0)


@pytest.mark.parametrize("count", [8, 12, 40])
def test_the_interval_holds_the_truth_as_often_as_it_says_with_few_readings_too(count: int) -> None:
    """Gaussian readings: 95 % of 300 intervals; 91 % is three standard errors below."""
    draw = np.random.default_rng(0)
    steps = count + np.arange(count)
    held = 0
    for _ in range(300):
        series = {
            "gradient_noise/signal": (steps, 1.0 + 0.5 * draw.standard_normal(count)),
            "gradient_noise/noise": (steps, 30.0 + 3.0 * draw.standard_normal(count)),
            "batch/size": (steps, np.full(count, 8)),
        }
        found = noise_scale(record_of(series)).signal
        held += found.low <= 1.0 <= found.high
    assert 0.91 <= held / 300 <= 0.99


def test_the_start_of_a_run_has_no_say() -> None:
    """The scale is 10 at first and 1,000 later; readings lie closest at the start."""
    steps = np.array([*range(50), *range(500, 1000, 25)])
    late = steps >= 500
    series = {
        "gradient_noise/signal": (steps, np.full(len(steps), 1.0)),
        "gradient_noise/noise": (steps, np.where(late, 1000.0, 10.0)),
        "batch/size": (steps, np.full(len(steps), 8)),
    }
    assert noise_scale(record_of(series)).scale.value == pytest.approx(1000.0)


def test_where_single_examples_are_not_told_apart_the_parts_of_a_step_are_taken() -> None:
    steps = np.arange(40)
    parts = {
        "gradient_parts/signal": (steps, np.full(40, 2.0)),
        "gradient_parts/noise": (steps, np.full(40, 30.0)),
        "gradient_parts/count": (steps, np.full(40, 4.0)),
        "batch/size": (steps, np.full(40, 16.0)),
    }
    found = noise_scale(record_of(parts))
    assert found.scale.value == 15.0 and found.batch == 64.0
    examples = {
        "gradient_noise/signal": (steps, np.full(40, 1.0)),
        "gradient_noise/noise": (steps, np.full(40, 30.0)),
    }
    assert noise_scale(record_of(parts | examples)).scale.value == 30.0
