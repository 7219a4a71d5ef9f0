"""Test ``vario.methods.memory.shared_norm``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.memory.test_few_bit import saved_bytes
from vario.methods.memory import SharedNorm


def test_is_torchs_norm():
    x = torch.randn(
        4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    weight = torch.randn(4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in (
        (SharedNorm(8), nn.LayerNorm(8, elementwise_affine=False)),
        (SharedNorm(8, eps=1e-6, center=False), nn.RMSNorm(8, eps=1e-6, elementwise_affine=False)),
    ):
        torch.testing.assert_close(ours(x), theirs.double()(x))
        grads = [torch.autograd.grad(norm(x), x, weight)[0] for norm in (ours, theirs)]
        torch.testing.assert_close(*grads)
        assert torch.autograd.gradcheck(ours, x)
        assert torch.autograd.gradgradcheck(ours, x)


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_merge_keeps_the_function_and_the_parameters(kind):
    torch.manual_seed(0)
    norm, readers = kind(8).double(), [nn.Linear(8, 5).double(), nn.Linear(8, 3).double()]
    with torch.no_grad():
        for p in norm.parameters():
            p.normal_()
    x = torch.randn(7, 8, dtype=torch.float64)
    before, names = [r(norm(x)) for r in readers], [id(r.weight) for r in readers]
    old = [r.weight.detach().clone() for r in readers]
    shared = SharedNorm.from_existing(norm, *readers)
    for r, expected in zip(readers, before, strict=True):
        torch.testing.assert_close(r(shared(x)), expected)
    assert names == [id(r.weight) for r in readers]
    shared.undo()
    assert all(torch.equal(r.weight, w) for r, w in zip(readers, old, strict=True))


def test_norm_and_linear_save_one_tensor_instead_of_two():
    """P158, accept."""
    x = torch.randn(64, 256, requires_grad=True)
    linear = nn.Linear(256, 32)
    base = linear.weight.nbytes
    plain, shared = nn.Sequential(nn.LayerNorm(256), linear), nn.Sequential(SharedNorm(256), linear)
    assert saved_bytes(plain, x) - base >= 2 * x.nbytes
    assert saved_bytes(shared, x) - base <= x.nbytes + 64 * 4


def test_refuses():
    with pytest.raises(ValueError, match="0 layers"):
        SharedNorm.from_existing(nn.LayerNorm(8))
    with pytest.raises(ValueError, match="does not read"):
        SharedNorm.from_existing(nn.LayerNorm(8), nn.Linear(4, 4))
    linear, tied = nn.Linear(8, 4), nn.Linear(8, 4)
    tied.weight = linear.weight
    for other in (linear, tied):
        with pytest.raises(ValueError, match="share a weight"):
            SharedNorm.from_existing(nn.LayerNorm(8), linear, other)
    with pytest.raises(ValueError, match="no bias"):
        SharedNorm.from_existing(nn.LayerNorm(8), nn.Linear(8, 4, bias=False))
    with pytest.raises(ValueError, match="has 4 features"):
        SharedNorm(8)(torch.zeros(2, 4))
