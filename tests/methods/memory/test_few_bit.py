"""Test ``vario.methods.memory.few_bit`` and the step derivatives behind it."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from torch import nn

from vario.methods.memory import FewBit
from vario.methods.memory._quantised_derivative import best_steps
from vario.methods.memory.few_bit import FUNCTIONS, steps_of


def saved_bytes(function, x):
    """Bytes of distinct memory that the forward pass keeps for the backward pass."""
    seen = {}

    def note(t):
        seen[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        function(x)
    return sum(seen.values())


@pytest.mark.parametrize("count", [2, 3])
def test_dynamic_programming_equals_exhaustive_search(count):
    """P152, accept."""
    grid = torch.linspace(-3, 3, 25, dtype=torch.float64)
    values = torch.tanh(3 * (grid[1:] + grid[:-1]) / 2) + 0.3 * torch.sin(4 * grid[1:])
    width, best = grid[1] - grid[0], float("inf")
    for cuts in itertools.combinations(range(1, 24), count - 1):
        parts = [values[a:b] for a, b in itertools.pairwise([0, *cuts, 24])]
        best = min(best, sum(((part - part.mean()).square().sum() * width).item() for part in parts))
    borders, levels, error = best_steps(values, grid, count)
    assert error == pytest.approx(best, rel=1e-10) and len(borders) == count - 1 and len(levels) == count


@pytest.mark.parametrize(("bits", "limit"), [(2, 0.0372), (3, 0.0119)])
def test_error_of_gelu(bits, limit):
    """P152, accept: integral error over [-6, 6] at 2 and 3 bits; uniform bins .141 and .115."""
    assert 0.9 * limit < steps_of("gelu", bits, reach=6.0)[2] < limit


def slope_of(name, x):
    (slope,) = torch.autograd.grad(FUNCTIONS[name](x).sum(), x)
    return slope


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_forward_is_exact_and_backward_is_the_step_function(name, bits):
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64, requires_grad=True)
    layer = FewBit(name, bits=bits, compile=False)
    y = layer(x)
    assert torch.equal(y, FUNCTIONS[name](x))
    weight = torch.randn(1001, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (grad,) = torch.autograd.grad(y, x, weight)
    step = torch.bucketize(x.detach(), torch.tensor(layer.borders, dtype=torch.float64))
    torch.testing.assert_close(grad, weight * torch.tensor(layer.levels, dtype=torch.float64)[step])


def test_more_bits_come_closer():
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64, requires_grad=True)
    errors = []
    for bits in (1, 2, 3, 4):
        (grad,) = torch.autograd.grad(FewBit("gelu", bits=bits, compile=False)(x).sum(), x)
        errors.append((grad - slope_of("gelu", x)).abs().mean().item())
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.02 < errors[0]


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_saves_bits_not_floats(bits):
    """P152, accept: at most bits / 32 of the plain activation, plus packing."""
    x = torch.randn(100, 333, requires_grad=True)
    plain = saved_bytes(nn.functional.gelu, x)
    assert saved_bytes(FewBit("gelu", bits=bits, compile=False), x) <= plain * bits / 32 + bits
    assert plain == x.nbytes


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_kernel_in_c_does_what_torch_does(bits, dtype):
    """Bit for bit, also at the borders themselves, for what is not finite, and where a stretch is cut."""
    fast, slow = (FewBit("gelu", bits=bits, compile=compile) for compile in (True, False))
    draw = torch.Generator().manual_seed(bits)
    for entries in (0, 5, 8 * 1024, 8 * 2500 + 3):
        x = torch.randn(entries, generator=draw) * 4
        special = torch.tensor([*fast.borders, float("nan"), float("inf"), float("-inf"), 0.0])
        x[: len(special)] = special[:entries]
        x, weight = x.to(dtype).requires_grad_(), torch.randn(entries, generator=draw).to(dtype)
        planes, grads = [], []
        for layer in (fast, slow):
            y = layer(x)
            planes.append(y.grad_fn.saved_tensors[0])
            grads += torch.autograd.grad(y, x, weight)
        assert torch.equal(*planes) and torch.equal(*grads) and grads[0].dtype == dtype


def test_the_gradient_can_be_differentiated():
    """Linear in the gradient that comes in, as a gradient penalty needs, with the kernel in C as without."""
    seen = []
    for compile in (True, False):
        torch.manual_seed(0)
        x, w = torch.randn(40, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
        out = FewBit("gelu", compile=compile)(x) @ w
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        seen += torch.autograd.grad(slope.square().sum(), w)
    assert seen[0].any()
    torch.testing.assert_close(*seen)


@pytest.mark.slow
def test_inside_a_compiled_model():
    """In one graph, with the values and gradients of the eager model; the compiler takes long to import."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 9), FewBit("gelu", bits=3), nn.Linear(9, 2))
    x, found = torch.randn(5, 8), []
    for made in (model, torch.compile(model, backend="eager", fullgraph=True)):
        out = made(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), [*model.parameters()])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_from_existing():
    assert FewBit.from_existing(nn.SiLU(), bits=2).activation == "silu"
    assert FewBit.from_existing(nn.SiLU(inplace=True)).activation == "silu"
    assert FewBit.from_existing(nn.Softplus(1, 20)).activation == "softplus"
    for module in (nn.GELU("tanh"), nn.ReLU(), nn.Softplus(beta=2.0), nn.Softplus(beta=20.0)):
        with pytest.raises(ValueError, match="no few-bit twin"):
            FewBit.from_existing(module)
    with pytest.raises(ValueError, match="bits 5"):
        FewBit(bits=5)


@pytest.mark.slow
def test_trains_as_well():
    """P152, accept: MNIST-5k at 3 bits, loss within 1 % of exact (mean of 5 seeds)."""
    from tests.methods.digits import mnist

    x, y, *_ = mnist()
    ratios = []
    for seed in range(161, 166):
        losses = []
        for act in (nn.GELU(), FewBit("gelu", bits=3, compile=False)):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(784, 100), act, nn.Linear(100, 10))
            optimizer, draw = (
                torch.optim.Adam(model.parameters(), lr=1e-3),
                torch.Generator().manual_seed(seed),
            )
            for _ in range(400):
                pick = torch.randint(len(x), (64,), generator=draw)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
                optimizer.step()
            losses.append(nn.functional.cross_entropy(model(x), y).item())
        ratios.append(losses[1] / losses[0])
    assert abs(sum(ratios) / 5 - 1) < 0.01, ratios
