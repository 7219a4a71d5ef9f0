"""Test ``vario.remedies.slots_seed``: what a seed becomes in the run of another pair."""

from __future__ import annotations

import numpy as np
import pytest

from vario.remedies.slots_seed import _moved


@pytest.mark.parametrize(
    ("seed", "moved"),
    [(3, 103), (np.int64(3), 103), ([1, 2], [1, 2, 100]), ((1, 2), [1, 2, 100])],
    ids=["a number", "of numpy", "a list", "a tuple"],
)
def test_numbers_are_moved_and_lists_of_them_grow(seed, moved):
    assert _moved(seed, 100) == moved
    assert np.random.default_rng(_moved(seed, 100)).random() != np.random.default_rng(seed).random()


@pytest.mark.parametrize("seed", [np.random.SeedSequence(3), "a text", True, None, ["a", 1]])
def test_what_is_no_number_is_left_alone(seed):
    assert _moved(seed, 100) is seed
