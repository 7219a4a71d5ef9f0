from __future__ import annotations

import pytest
import torch

from tests.instruments.sample import draw, read
from vario.capture.needs import Activation
from vario.instruments.representation_rank import RepresentationRank


def test_an_isotropic_subspace_has_its_dimension() -> None:
    for k in (2, 5, 10):
        q, _ = torch.linalg.qr(draw(32, k, seed=k))
        rows = draw(4000, k, seed=k + 1) @ q.T
        found = read(RepresentationRank(), activations=[Activation("layer", "relu", rows, 1)])
        assert found["rank/effective", "layer"] == pytest.approx(k, rel=0.02)
        assert found["rank/width", "layer"] == 32


def test_a_collapsed_representation_has_rank_one() -> None:
    rows = draw(64, 1) @ draw(1, 16, seed=3)
    found = read(RepresentationRank(), activations=[Activation("layer", "linear", rows, 1)])
    assert found["rank/effective", "layer"] == pytest.approx(1.0, rel=1e-3)
    assert read(RepresentationRank()) == {}
