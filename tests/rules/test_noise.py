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
    steps = np.arange(40)
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
