"""Sampled labels, the tangent kernel and the Fisher matrix against dense float64 algebra."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, jacrev

from tests.capture.curvature.test_kept import build, ids, matrix
from vario.capture.curvature.kept import KeptGraph
from vario.capture.curvature.lanczos import random_start
from vario.capture.curvature.rows import example_gradients, inverse_fisher, sampled_trace, tangent_kernel
from vario.capture.curvature.trace import hutch_pp
from vario.nouns import NotApplicable

F64 = torch.float64


@pytest.mark.parametrize("name", ["mlp", "conv", "attention", "tied"])
def test_sampled_labels_give_the_trace_of_gauss_newton(name: str) -> None:
    model, x, y = build(name)
    with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
        truth = float(matrix(kept.gauss_newton, kept.zeros()).trace())
        found = sampled_trace(kept, examples=len(x), draws=400)
        spread = (found.high - found.low) / 2
        assert abs(found.value - truth) < 1.5 * spread, "three standard errors"
        assert spread < 0.1 * truth


def test_weights_and_label_smoothing_are_in_the_trace() -> None:
    model, x, y = build("mlp")
    weight = torch.tensor([0.2, 1.0, 3.0], dtype=F64)
    for loss in (
        F.cross_entropy(model(x), y, weight=weight, label_smoothing=0.1),
        F.cross_entropy(model(x), y, reduction="sum"),
        F.nll_loss(F.log_softmax(model(x), -1), y, ignore_index=0),
    ):
        with KeptGraph(loss, ids(model)) as kept:
            truth = float(matrix(kept.gauss_newton, kept.zeros()).trace())
            found = sampled_trace(kept, examples=len(x), draws=300)
            assert abs(found.value - truth) < 0.75 * (found.high - found.low)


def test_other_losses_have_no_labels_to_draw() -> None:
    model, x, y = build("mlp")
    hot = F.one_hot(y, 3).to(x)
    p = F.log_softmax(model(x), -1)
    for loss, reason in (
        (F.mse_loss(model(x), hot), "softmax"),
        (
            -(p.gather(1, y[:, None]) * torch.tensor([1.0, -1, 1, 1, 1, 1], dtype=F64)[:, None]).sum(),
            "negative",
        ),
        ((p * p).sum(), "not a cross entropy"),
    ):
        with KeptGraph(loss, ids(model)) as kept, pytest.raises(NotApplicable, match=reason):
            sampled_trace(kept, examples=6)


def test_rows_are_the_gradients_of_single_examples() -> None:
    model, x, y = build("attention")
    with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
        found = example_gradients(kept, [0, 2], examples=len(x))
        whole = kept.gradient()
        every = example_gradients(kept, range(len(x)), examples=len(x))
    for row, k in zip(found, (0, 2), strict=True):
        alone = torch.autograd.grad(
            F.cross_entropy(model(x[k : k + 1]), y[k : k + 1]), list(model.parameters())
        )
        torch.testing.assert_close(row, torch.cat([g.flatten() for g in alone]))
    torch.testing.assert_close(every.mean(0), whole)


def test_inverse_fisher_solves_with_the_dense_matrix() -> None:
    model, x, y = build("mlp")
    with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
        rows = example_gradients(kept, range(6), examples=6)
        inverse = inverse_fisher(kept, range(6), examples=6, damp=0.01)
        dense = rows.T @ rows / 6 + 0.01 * torch.eye(kept.size, dtype=F64)
        vector = torch.linspace(-1, 1, kept.size, dtype=F64)
        torch.testing.assert_close(inverse @ vector, torch.linalg.solve(dense, vector), rtol=1e-5, atol=1e-9)


def readout(width: int, seed: int) -> nn.Module:
    """Two layers in the parametrisation in which the kernel has a limit, and ten outputs."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(16, width, bias=False), nn.ReLU(), nn.Linear(width, 10, bias=False))
    nn.init.normal_(net[0].weight, std=16**-0.5)
    nn.init.normal_(net[2].weight, std=width**-0.5)
    return net.double()


def kernels(width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact (n, o, n, o) and by sums of logits (n, n)."""
    net = readout(width, seed)
    x = torch.randn(8, 16, dtype=F64, generator=torch.Generator().manual_seed(seed))
    params = {n: p.detach() for n, p in net.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(net, p, (x,)))(params)
    flat = torch.cat([j.flatten(2) for j in jacobian.values()], 2)  # (n, o, size)
    loss = F.cross_entropy(net(x), torch.zeros(8, dtype=torch.long))
    with KeptGraph(loss, ids(net)) as kept:
        pseudo = tangent_kernel(kept, range(8), examples=8)
    return torch.einsum("iap,jbp->iajb", flat, flat), pseudo


def test_the_kernel_of_sums_is_exactly_that_of_the_sums() -> None:
    exact, pseudo = kernels(32, 0)
    torch.testing.assert_close(pseudo, exact.sum((1, 3)) / 10)


def test_the_kernel_nears_the_exact_one_as_the_readout_widens() -> None:
    """P186: the relative distance falls like the width to -1/2, and is not small at width 64."""
    distances = []
    widths = (64, 256, 1024)
    for width in widths:
        each = []
        for seed in range(3):
            exact, pseudo = kernels(width, seed)
            near = torch.einsum("ij,ab->iajb", pseudo, torch.eye(10, dtype=F64))
            each.append(float((exact - near).norm() / exact.norm()))
        distances.append(sum(each) / 3)
    slope = math.log(distances[-1] / distances[0]) / math.log(widths[-1] / widths[0])
    assert distances[0] > 0.1
    assert slope <= -0.35


def test_a_default_device_of_the_script_does_not_matter() -> None:
    model, x, y = build("attention", torch.float32)

    def numbers() -> list[float]:
        with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
            start = random_start(kept.zeros(), 0)
            products = [kept.gauss_newton(start), kept.part([0, 1], examples=3).hessian(start)]
            kernel = tangent_kernel(kept, [0, 1], examples=3)
            traces = sampled_trace(kept, examples=3).value, hutch_pp(kept.hessian, kept.zeros()).value
        return [*traces, *(float(found.norm()) for found in (*products, kernel))]

    plain = numbers()
    torch.set_default_device("meta")  # as scripts set "cuda": no tensor of ours may land there by itself
    try:
        moved = numbers()
    finally:
        torch.set_default_device(None)
    assert moved == pytest.approx(plain, rel=1e-5)
