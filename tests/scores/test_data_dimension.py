"""Test ``vario.scores.data_dimension``."""

from __future__ import annotations

import math

import pytest
import torch

from vario.scores import data_dimension, label_sharpness, local_dimension, two_nn


def gaussian(k: int, n: int = 1500, seed: int = 0) -> torch.Tensor:
    """k dimensions in 50, turned."""
    draw = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(50, 50, generator=draw))
    return torch.randn(n, k, generator=draw) @ q[:k]


@pytest.mark.parametrize("k", [2, 5, 10])
def test_flat_data_have_their_dimension(k):
    count = (
        4000 if k == 10 else 1500
    )  # neighbours are far apart in many dimensions, and the bias is that of n
    assert data_dimension(gaussian(k, count)).value == pytest.approx(k, rel=0.1)
    assert two_nn(gaussian(k)).value == pytest.approx(k, rel=0.15)


def test_a_curved_surface_has_two_dimensions():
    draw = torch.Generator().manual_seed(1)
    t = torch.rand(1500, generator=draw) * 9 + 4
    roll = torch.stack([t * t.cos(), 20 * torch.rand(1500, generator=draw), t * t.sin()], 1)
    assert data_dimension(roll, neighbours=10).value == pytest.approx(2, rel=0.1)


def test_the_interval_covers_in_repeats():
    """A uniform circle, where the estimate has no bias."""
    found = []
    for seed in range(60):
        angle = torch.rand(300, generator=torch.Generator().manual_seed(seed)) * 2 * math.pi
        found.append(data_dimension(torch.stack([angle.cos(), angle.sin()], 1), neighbours=5))
    assert sum(one.low <= 1.0 <= one.high for one in found) >= 50
    spread = torch.tensor([one.value for one in found]).std()
    half = torch.tensor([(one.high - one.low) / 2 for one in found]).mean()
    assert 1.5 * spread < half < 3 * spread  # and not because it is wide: some two deviations to each side


def test_local_scores_find_the_thicker_half():
    line = torch.cat([gaussian(1, 300, 2), gaussian(6, 300, 3) + 100])
    found = local_dimension(line, neighbours=15)
    assert found.shape == (600,)
    assert found[:300].median() < 1.5 < 4 < found[300:].median()


def test_copies_are_left_out():
    points = gaussian(2, 300)
    twice = data_dimension(torch.cat([points, points]))
    assert twice == data_dimension(points) and twice.examples == 300


def test_labels_sharpen_as_classes_move_closer():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    spread = torch.randn(200, 4, generator=draw)
    far, near = (label_sharpness(spread + gap * labels[:, None], labels, pairs=20_000) for gap in (10.0, 1.0))
    assert near > 2 * far > 0
    assert label_sharpness(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 3]), pairs=10) == 1.5


def test_refuses():
    with pytest.raises(ValueError, match="different examples"):
        data_dimension(torch.ones(50, 3))
    with pytest.raises(ValueError, match="finite"):
        data_dimension(torch.full((50, 3), math.nan))
    with pytest.raises(ValueError, match="neighbours"):
        local_dimension(torch.randn(5, 2))


@pytest.mark.parametrize("k", [2, 5, 10])
def test_equals_scikit_dimension(k):
    """P142, accept: within 3 % of its MLE and TwoNN."""
    skdim = pytest.importorskip("skdim")
    points = gaussian(k, 600, seed=k)
    theirs = skdim.id.MLE(K=20).fit(points.double().numpy()).dimension_
    assert data_dimension(points).value == pytest.approx(theirs, rel=0.03)
    theirs = skdim.id.TwoNN().fit(points.double().numpy()).dimension_
    assert two_nn(points).value == pytest.approx(theirs, rel=0.03)
