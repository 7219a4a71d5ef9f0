from __future__ import annotations

import pytest
import torch

from tests.instruments.sample import draw, read
from vario.instruments.weight_spectrum import WeightSpectrum


def test_ranks_of_known_matrices() -> None:
    q, _ = torch.linalg.qr(draw(16, 4))
    params = [
        torch.nn.Parameter(3 * q @ q.T),
        torch.nn.Parameter(torch.outer(draw(5), draw(6))),
        torch.ones(3),
    ]
    found = read(WeightSpectrum(), params=params, names=["four", "one", "bias"])
    assert found["spectrum/weight_top", "four"] == pytest.approx(3.0, rel=1e-5)
    assert found["spectrum/weight_stable_rank", "four"] == pytest.approx(4.0, rel=1e-4)
    assert found["spectrum/weight_effective_rank", "four"] == pytest.approx(4.0, rel=1e-3)
    assert found["spectrum/weight_effective_rank", "one"] == pytest.approx(1.0, rel=1e-3)
    assert not [key for key in found if key[1] == "bias"]


def test_silence() -> None:
    assert read(WeightSpectrum()) == {}
