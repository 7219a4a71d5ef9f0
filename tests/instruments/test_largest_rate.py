from __future__ import annotations

import pytest
import torch

from tests.instruments.curvature_sample import bowl, measured
from tests.instruments.sample import read
from vario.instruments.largest_rate import LargestRate


def test_the_rate_of_a_bowl_is_two_over_its_curvature() -> None:
    weights, loss = bowl([4.0, 1.0])
    optimizer = torch.optim.SGD([weights], lr=0.4)
    found = read(LargestRate(), **measured("curvature_limit", loss, [weights], optimizer=optimizer))
    assert found["curvature/rate_share", ""] == pytest.approx(0.8)
    assert found["curvature/rate_share_high", ""] >= 0.8 * (1 - 1e-9)
    assert found["curvature/largest_rate", "group 0"] == pytest.approx(0.5)


def test_groups_keep_their_proportions() -> None:
    first, second = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    loss = 2.0 * (first**2).sum() + 0.5 * (second**2).sum()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": [second], "lr": 1.0}])
    found = read(LargestRate(), **measured("curvature_limit", loss, [first, second], optimizer=optimizer))
    # rates times curvatures are 0.4 and 1.0: the second is half way to its limit
    assert found["curvature/rate_share", ""] == pytest.approx(0.5)
    assert found["curvature/largest_rate", "group 0"] == pytest.approx(0.2)
    assert found["curvature/largest_rate", "group 1"] == pytest.approx(2.0)


def test_a_hill_has_no_largest_rate() -> None:
    weights, loss = bowl([-1.0, -2.0])
    optimizer = torch.optim.SGD([weights], lr=0.4)
    found = read(LargestRate(), **measured("curvature_limit", loss, [weights], optimizer=optimizer))
    assert found["curvature/rate_share", ""] < 0
    assert ("curvature/largest_rate", "group 0") not in found
    assert read(LargestRate()) == {}
