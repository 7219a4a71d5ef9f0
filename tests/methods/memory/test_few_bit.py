"""Test ``vario.methods.memory.few_bit`` and the step derivatives behind it."""

from __future__ import annotations

import itertools

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


def test_from_existing():
    assert FewBit.from_existing(nn.SiLU(), bits=2).activation == "silu"
    for module in (nn.GELU("tanh"), nn.ReLU(), nn.Softplus(beta=2.0)):
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
