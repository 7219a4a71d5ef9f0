"""Test ``vario.rules._mixing``: the correlation of classes within batches."""

from __future__ import annotations

import numpy as np
import pytest

from vario.record import record_of
from vario.rules._mixing import sorting


def test_is_one_for_pure_batches_and_near_zero_for_random_ones():
    draw = np.random.default_rng(0)
    random = draw.multinomial(32, np.full(10, 0.1), size=300).astype(float)
    found = sorting(record_of({"batch/class_counts": (np.arange(300), random)}))
    assert found.low < 0.0 < found.high or abs(found.value) < 0.005
    pure = 32.0 * np.eye(10)[np.arange(300) % 10]
    assert sorting(record_of({"batch/class_counts": (np.arange(300), pure)})).value == pytest.approx(1.0)


def test_balanced_batches_are_below_zero_and_one_class_is_unknown():
    balanced = np.full((50, 10), 2.0)
    assert sorting(record_of({"batch/class_counts": (np.arange(50), balanced)})).value < 0
    only = np.tile([8.0, 0.0], (50, 1))
    assert sorting(record_of({"batch/class_counts": (np.arange(50), only)})) is None


def test_too_few_batches_are_unknown():
    assert sorting(record_of({"batch/class_counts": (np.arange(4), np.eye(4) * 8)})) is None
