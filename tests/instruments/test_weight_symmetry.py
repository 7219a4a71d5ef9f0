from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.instruments.sample import draw, exact, read
from vario.instruments.weight_symmetry import WeightSymmetry


def differences(**weights: Tensor) -> dict[str, float]:
    params = [nn.Parameter(weight) for weight in weights.values()]
    return {
        where: value
        for (_, where), value in read(WeightSymmetry(), params=params, names=list(weights)).items()
    }


def test_it_equals_the_largest_over_all_pairs_of_rows() -> None:
    weight = draw(5, 3, 2) - 1
    rows = exact(weight).reshape(5, -1)
    pairs = max(np.abs(a - b).max() for a in rows for b in rows)
    assert differences(a=weight) == {"a": pytest.approx(pairs / np.abs(rows).max(), rel=1e-6)}


def test_equal_rows_have_none_and_one_odd_row_is_found() -> None:
    same = draw(1, 9).expand(20, 9).clone()
    assert differences(same=same) == {"same": 0.0}
    same[13, 4] += 1
    assert differences(odd=same)["odd"] > 0.3


def test_it_is_silent_for_vectors_single_rows_and_zeros() -> None:
    assert (
        differences(bias=torch.ones(4), row=torch.ones(1, 4), zero=torch.zeros(3, 3), none=torch.zeros(2, 0))
        == {}
    )
    assert read(WeightSymmetry()) == {}
