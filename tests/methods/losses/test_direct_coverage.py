"""Test ``vario.methods.losses.direct_coverage``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vario.methods.losses import DirectCoverageLoss


def factor(p, n):
    return n * p * (1 - p) ** (n - 1) / (1 - (1 - p) ** n)


@pytest.mark.parametrize("n", [1, 2, 16, 300])
def test_gradient_is_f_times_that_of_cross_entropy(n):
    """P067, accept: to 1e-6."""
    draw = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(60, 9, generator=draw, dtype=torch.float64)).requires_grad_()
    right = torch.randint(9, (60,), generator=draw)
    (ours,) = torch.autograd.grad(DirectCoverageLoss(samples=n, reduction="sum")(logits, right), logits)
    (plain,) = torch.autograd.grad(nn.functional.cross_entropy(logits, right, reduction="sum"), logits)
    p = logits.detach().softmax(1).gather(1, right[:, None])
    torch.testing.assert_close(ours, factor(p, n) * plain, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_over_the_whole_range_of_probabilities(dtype):
    """Against Python's own logarithms; p from 1e-35 to 1 - 1e-6."""
    for log_p in (-80.0, -31.0, -17.0, -5.0, -1.0, -0.5, -1e-3, -1e-6):
        logits = torch.tensor([[log_p, math.log(-math.expm1(log_p))]], dtype=dtype, requires_grad=True)
        loss = DirectCoverageLoss(samples=16)(logits, torch.tensor([0]))
        expected = -log_p - math.log(16)  # of N p
        if log_p > -30:
            expected = -math.log(-math.expm1(16 * math.log1p(-math.exp(log_p))))
        limit = 1e-4 if dtype == torch.float32 else 1e-9
        assert loss.item() == pytest.approx(expected, rel=limit, abs=1e-30), log_p
        (grad,) = torch.autograd.grad(loss, logits)
        assert bool(grad.isfinite().all())


def test_one_sample_is_cross_entropy():
    draw = torch.Generator().manual_seed(0)
    logits, right = torch.randn(30, 5, generator=draw), torch.randint(5, (30,), generator=draw)
    torch.testing.assert_close(
        DirectCoverageLoss(samples=1)(logits, right), nn.functional.cross_entropy(logits, right)
    )


def optimum(n, law):
    """Answer probabilities that minimize the expected loss of one question."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-12)
    loss = DirectCoverageLoss(samples=n, reduction="none")

    def closure():
        optimizer.zero_grad()
        value = (law * loss(logits.expand(3, 3), torch.arange(3))).sum()
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach().softmax(0)


def test_one_question():
    """P067, accept: flatter than cross entropy; pass@16 .9988 > .9805 > .600; N = 1 gives q = p in 1e-3."""
    law = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    plain, ours = optimum(1, law), optimum(16, law)
    assert (plain - law).abs().max() < 1e-3
    torch.testing.assert_close(ours, torch.tensor([0.37, 0.34, 0.29], dtype=law.dtype), atol=0.01, rtol=0)
    entropy = lambda q: -(q * q.log()).sum()
    assert entropy(ours) > entropy(plain)
    passed = [float((law * (1 - (1 - q) ** 16)).sum()) for q in (ours, law, torch.tensor([1.0, 0, 0]))]
    assert passed == pytest.approx([0.9988, 0.9805, 0.6], abs=1e-4)


def test_a_sequence_is_one_answer():
    """(n, C, T): p is the product over the positions that are not ignored."""
    draw = torch.Generator().manual_seed(2)
    scores = torch.randn(4, 6, 3, generator=draw, dtype=torch.float64)
    target = torch.randint(6, (4, 3), generator=draw)
    target[0, 2] = -100
    losses = DirectCoverageLoss(samples=5, reduction="none")(scores, target)
    tokens = nn.functional.cross_entropy(scores, target, reduction="none")  # 0 where ignored
    p = (-tokens.sum(1)).exp()
    torch.testing.assert_close(losses, -torch.log(1 - (1 - p) ** 5))


def test_follows_the_authors_factor():
    """allanraventos/refine 31a9e6e: F as a ratio of series below N p = 0.1, which is right to 1e-3 there."""
    n = 16
    for p in (1e-4, 1e-3, 5e-3):
        series = (1 - (n - 1) * p + (n - 1) * (n - 2) * p * p / 2) / (
            1 - (n - 1) / 2 * p + (n - 1) * (n - 2) / 6 * p * p
        )
        logits = torch.tensor([[math.log(p), math.log(1 - p)]], dtype=torch.float64, requires_grad=True)
        (ours,) = torch.autograd.grad(DirectCoverageLoss(samples=n)(logits, torch.tensor([0])), logits)
        assert -ours[0, 0].item() / (1 - p) == pytest.approx(series, rel=1e-3)


def test_refuses():
    with pytest.raises(ValueError, match="samples is 0"):
        DirectCoverageLoss(samples=0)
