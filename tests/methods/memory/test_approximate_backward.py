"""Test ``vario.methods.memory.approximate_backward``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf, expit
from torch import nn

from tests.methods.memory.test_few_bit import saved_bytes
from vario.methods.memory import ReGELU2, ReSiLU2

CASES = [
    (ReGELU2, nn.functional.gelu, lambda x: x * (1 + erf(x / 2**0.5)) / 2),
    (ReSiLU2, nn.functional.silu, lambda x: x * expit(x)),
]


@pytest.mark.parametrize(("layer", "exact", "function"), CASES)
def test_coefficients_are_stationary(layer, exact, function):
    """P158, accept: sum a = 1, and no perturbation of the coefficients lowers the integral.

    Over the whole line it is finite only where sum a c = 0 too, so the middle border follows the others.
    """
    x = np.linspace(-60, 60, 600_001)
    target, relu = function(x), lambda t: np.maximum(t, 0)

    def integral(a1, a3, c1, c3):
        c2 = -(a1 * c1 + a3 * c3) / (1 - a1 - a3)
        return (
            np.sum((a1 * relu(x - c1) + (1 - a1 - a3) * relu(x - c2) + a3 * relu(x - c3) - target) ** 2)
            * 2e-4
        )

    a, c = layer.fit
    best, place = integral(a, a, -c, c), [a, a, -c, c]
    for k, size in enumerate((1e-3, 1e-3, 1e-2, 1e-2)):
        for sign in (1, -1):
            moved = list(place)
            moved[k] += sign * size
            assert integral(*moved) > best
    assert layer().levels[-1] == 1.0


@pytest.mark.parametrize(("layer", "exact", "function"), CASES)
def test_forward_is_bit_identical_and_backward_has_four_levels(layer, exact, function):
    x = torch.randn(999, generator=torch.Generator().manual_seed(0)) * 4
    x.requires_grad_()
    module = layer(compile=False)
    y = module(x)
    assert torch.equal(y, exact(x))
    (grad,) = torch.autograd.grad(y.sum(), x)
    expected = torch.tensor(module.levels)[torch.bucketize(x.detach(), torch.tensor(module.borders))]
    assert torch.equal(grad, expected) and len(set(grad.tolist())) == 4


def test_two_bits_per_entry():
    """P158, accept."""
    x = torch.randn(64, 512, requires_grad=True)
    assert saved_bytes(ReGELU2(compile=False), x) == x.numel() // 4


@pytest.mark.slow
@pytest.mark.parametrize("layer", [ReGELU2, ReSiLU2])
def test_fine_tunes_as_well(layer):
    """P158, accept: loss within 1 % after fine-tuning from an exactly trained network (MNIST-5k, 5 seeds)."""
    from tests.methods.digits import mnist

    x, y, *_ = mnist()
    ratios = []
    for seed in range(171, 176):
        losses = []
        for act in (None, layer(compile=False)):
            torch.manual_seed(seed)
            plain = nn.GELU() if layer is ReGELU2 else nn.SiLU()
            model = nn.Sequential(nn.Linear(784, 100), plain, nn.Linear(100, 10))
            draw = torch.Generator().manual_seed(seed)
            for phase in range(2):
                optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 if phase == 0 else 2e-4)
                for _ in range(200):
                    pick = torch.randint(len(x), (64,), generator=draw)
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
                    optimizer.step()
                if act is not None:
                    model[1] = act
            losses.append(nn.functional.cross_entropy(model(x), y).item())
        ratios.append(losses[1] / losses[0])
    assert abs(sum(ratios) / 5 - 1) < 0.01, ratios
