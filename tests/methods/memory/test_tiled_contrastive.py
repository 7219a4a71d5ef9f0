"""Test ``vario.methods.memory.tiled_contrastive``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.memory import TiledContrastiveLoss


def dense(images, texts, scale):
    s = scale * images @ texts.T
    target = torch.arange(len(s))
    return (nn.functional.cross_entropy(s, target) + nn.functional.cross_entropy(s.T, target)) / 2


@pytest.mark.parametrize("tile", [1, 4, 7, 13, 100])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_equals_the_dense_loss(tile, dtype, limit):
    """P209, accept: values and gradients, ragged tiles too."""
    draw = torch.Generator().manual_seed(0)
    leaves = [torch.randn(13, 6, generator=draw, dtype=torch.float64) for _ in range(2)]
    leaves = [nn.functional.normalize(t, dim=1).to(dtype).requires_grad_() for t in leaves]
    leaves.append(torch.tensor(3.0, dtype=dtype, requires_grad=True))
    ours, theirs = TiledContrastiveLoss(tile=tile)(*leaves), dense(*leaves)
    assert abs(ours - theirs) < limit
    for a, b in zip(
        torch.autograd.grad(2 * ours, leaves), torch.autograd.grad(2 * theirs, leaves), strict=True
    ):
        assert (a - b).abs().max() < limit


def test_large_similarities_do_not_overflow():
    images = torch.eye(5) * 100
    images.requires_grad_()
    loss = TiledContrastiveLoss(tile=2)(images, images.detach().flip(0), 100.0)
    loss.backward()
    assert loss.isfinite() and images.grad.isfinite().all()
    assert loss.item() == pytest.approx(
        dense(images.detach(), images.detach().flip(0), 100.0).item(), rel=1e-6
    )


def test_no_matrix_is_kept():
    images = torch.randn(300, 4, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        TiledContrastiveLoss(tile=50)(images, images.detach(), 1.0)
    assert max(kept) <= 300 * 4


def test_refuses():
    with pytest.raises(ValueError, match="two sets of features"):
        TiledContrastiveLoss()(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="tile is 0"):
        TiledContrastiveLoss(tile=0)
