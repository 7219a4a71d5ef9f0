"""Test ``vario.methods.memory.tiled_contrastive``."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.distributed as dist
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


@pytest.mark.parametrize("mode", ["half precision", "autocast"])
def test_half_precision_leaves_both_passes_with_the_same_similarities(mode):
    """Similar pairs at a scale of 50, where a rounded similarity would move a gradient by its own size."""
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 200, 32, generator=draw)
    images = nn.functional.normalize(noise[0], dim=1)
    texts = nn.functional.normalize(images + 0.5 * noise[1], dim=1)
    if mode == "half precision":
        images, texts = images.bfloat16(), texts.bfloat16()
    held = images.float().requires_grad_()
    exact = dense(held, texts.float(), 50.0)
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
        ours = TiledContrastiveLoss(tile=64)(images, texts, torch.tensor(50.0))
    assert ours.dtype == images.dtype == torch.autograd.grad(ours, images, retain_graph=True)[0].dtype
    torch.testing.assert_close(ours.float(), exact, rtol=0.01, atol=1e-6)
    (expected,) = torch.autograd.grad(exact, held)
    (found,) = torch.autograd.grad(ours, images)
    assert (found.float() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("trained", [(True, True, True), (False, True, False)])
def test_second_derivatives(trained):
    draw = torch.Generator().manual_seed(2)
    leaves = [torch.randn(5, 3, generator=draw, dtype=torch.float64) for _ in range(2)]
    leaves.append(torch.tensor(2.0, dtype=torch.float64))
    leaves = [t.requires_grad_(wants) for t, wants in zip(leaves, trained, strict=True)]
    assert torch.autograd.gradgradcheck(TiledContrastiveLoss(tile=2), leaves)


def encoded(rows=7, ranks=1):
    """Two encoders and a scale, and the inputs of each rank: (ranks, rows, 5) of images and of texts."""
    torch.manual_seed(3)
    model = nn.ModuleDict({k: nn.Linear(5, 4, bias=False).double() for k in ("images", "texts")})
    model.scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    return model, torch.randn(2, ranks, rows, 5, dtype=torch.float64)


def loss_of(model, loss, images, texts):
    return loss(model["images"](images), model["texts"](texts), model.scale)


def _rank(rank, ranks, place):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=ranks)
    model, inputs = encoded(ranks=ranks)
    loss = TiledContrastiveLoss(tile=3, group=dist.group.WORLD)
    value = loss_of(model, loss, *inputs[:, rank])
    (2 * value).backward()
    for p in model.parameters():
        dist.all_reduce(p.grad)
    messages = []
    for attempt in (
        lambda: loss_of(model, loss, *inputs[:, rank, : 3 + rank]),
        lambda: torch.autograd.grad(loss_of(model, loss, *inputs[:, rank]), model.scale, create_graph=True),
    ):
        try:
            attempt()
        except (ValueError, RuntimeError) as refusal:
            messages.append(str(refusal))
    torch.save((value.detach(), [p.grad / ranks for p in model.parameters()], messages), f"{place}/{rank}.pt")
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_ring_of_processes_has_the_loss_of_all_rows(ranks, tmp_path):
    """P209, accept: gloo, ragged tiles, to 1e-12; gradients are averaged as DistributedDataParallel does."""
    torch.multiprocessing.spawn(_rank, (ranks, str(tmp_path)), nprocs=ranks)
    model, inputs = encoded(ranks=ranks)
    whole = loss_of(model, dense, *inputs.flatten(1, 2))
    (2 * whole).backward()
    for rank in range(ranks):
        value, grads, messages = torch.load(tmp_path / f"{rank}.pt")
        assert abs(value - whole) < 1e-12
        for ours, p in zip(grads, model.parameters(), strict=True):
            assert (ours - p.grad).abs().max() < 1e-12
        assert f"have 3 to {2 + ranks} rows" in messages[0] and "first derivatives only" in messages[1]


def test_refuses():
    with pytest.raises(ValueError, match="two sets of features"):
        TiledContrastiveLoss()(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="tile is 0"):
        TiledContrastiveLoss(tile=0)
