"""Test ``vario.methods.optimizers.shampoo``."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy.linalg import fractional_matrix_power
from torch import nn

from vario.methods.optimizers import shampoo

pytest.importorskip("pytorch_optimizer")


def moves(steps=1, shape=(5, 4), graft="rmsprop", **settings):
    """The step of a weight at zero, and the gradients that led to it."""
    p = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = shampoo([p], lr=1.0, betas=(0.0, 0.9), root_every=1, graft=graft, **settings)
    draw, grads = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        grads.append(torch.randn(shape, generator=draw, dtype=torch.float64))
        p.grad = grads[-1].clone()
        before = p.detach().clone()
        optimizer.step()
    return (p - before).detach(), grads


def test_direction_is_the_fourth_root_of_both_sides():
    """P281, accept: one step against scipy's fractional_matrix_power (float32 roots: to 1e-4).

    With blocks of 8 the sides of 5 and 4 are not merged into one of 20, which is done when it fits.
    """
    step, grads = moves(steps=8, block_size=8)
    left, right = 1e-6 * np.eye(5), 1e-6 * np.eye(4)
    for g in (g.numpy() for g in grads):
        left, right = 0.9 * left + 0.1 * g @ g.T, 0.9 * right + 0.1 * g.T @ g
    whole = fractional_matrix_power(left, -0.25) @ grads[-1].numpy() @ fractional_matrix_power(right, -0.25)
    whole = torch.as_tensor(whole)
    torch.testing.assert_close(-step / step.norm(), whole / whole.norm(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("graft", ["rmsprop", "adagrad"])
def test_length_is_that_of_the_grafted_step(graft):
    step, grads = moves(steps=6, graft=graft)
    square = torch.zeros(5, 4, dtype=torch.float64)
    for g in grads:
        square = 0.9 * square + 0.1 * g * g if graft == "rmsprop" else square + g * g
    assert step.norm().item() == pytest.approx((grads[-1] / square.sqrt()).norm().item(), rel=1e-5)


def test_large_sizes_are_cut_into_blocks():
    p = nn.Parameter(torch.zeros(300, 8))
    p.grad = torch.ones_like(p)
    optimizer = shampoo([p], block_size=64, root_every=1)
    optimizer.step()
    held = optimizer.state[p]["pre_conditioner"].statistics
    assert max(max(s.shape) for s in held) <= 64 and len(held) > 2


def test_weights_move_from_the_first_step():
    """Plain Shampoo of the package stands still until its first roots; grafting does not."""
    p = nn.Parameter(torch.zeros(4, 4))
    optimizer = shampoo([p], lr=0.1, root_every=10)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.abs().min() > 0


def test_refuses():
    with pytest.raises(ValueError, match="graft is 'sgd'"):
        shampoo([nn.Parameter(torch.zeros(2, 2))], graft="sgd")


def trained(average, steps=6):
    """Two weights after steps on whole-numbered gradients, whose mean over ranks has no rounding."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(12, 8)), nn.Parameter(torch.randn(8))]
    optimizer = shampoo(params, lr=0.01, root_every=2)
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in params:
            p.grad = average(torch.randint(-8, 9, (2, *p.shape), generator=draw).float())
        optimizer.step()
    return [p.detach() for p in params]


def _rank(rank, place):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=2)

    def average(parts):
        mine = parts[rank]
        dist.all_reduce(mine)
        return mine / 2

    torch.save(trained(average), f"{place}/rank{rank}.pt")
    dist.barrier()
    gc.collect()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_are_one(tmp_path):
    """P281, accept: two processes that share gradients over gloo, bit for bit the weights of one."""
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    one = trained(lambda parts: parts.mean(0))
    for rank in range(2):
        assert all(map(torch.equal, torch.load(tmp_path / f"rank{rank}.pt"), one))
