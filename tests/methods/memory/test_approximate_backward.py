"""Test ``vario.methods.memory.approximate_backward``."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.special import erf, expit
from torch import nn

from tests.methods.memory.test_few_bit import saved_bytes
from vario.methods.memory import FewBit, ReGELU2, ReSiLU2

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


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["ReGELU2", "ReSiLU2", "three bits"])
def test_fine_tunes_a_character_model_as_well(kind):
    """P158, P152, accept: loss within 1 % of exact; trained on prose, then tuned on code (5 seeds)."""
    import argparse
    import inspect
    from pydoc_data import topics

    texts = ["\n".join(topics.topics.values())[:60_000], inspect.getsource(argparse)[:60_000]]
    held = [torch.tensor([min(ord(c), 127) for c in text]) for text in texts]
    plain = nn.SiLU if kind == "ReSiLU2" else nn.GELU
    ours = {"ReGELU2": ReGELU2, "ReSiLU2": ReSiLU2}.get(kind, functools.partial(FewBit, "gelu", bits=3))
    ratios = []
    for seed in range(611, 616):
        losses = []
        for act in (None, ours(compile=False)):
            torch.manual_seed(seed)
            first = nn.Sequential(nn.Embedding(128, 16), nn.Flatten(), nn.Linear(160, 128))
            model = nn.Sequential(*first, plain(), nn.Linear(128, 128))
            draw = torch.Generator().manual_seed(seed)
            for text, lr in zip(held, (2e-3, 5e-4), strict=True):
                optimizer = torch.optim.Adam(model.parameters(), lr=lr)
                windows = text.unfold(0, 11, 1)
                for _ in range(400):
                    pick = windows[torch.randint(len(windows), (128,), generator=draw)]
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(pick[:, :10]), pick[:, 10]).backward()
                    optimizer.step()
                if act is not None:
                    model[3] = act
            with torch.no_grad():
                losses.append(nn.functional.cross_entropy(model(windows[:, :10]), windows[:, 10]).item())
        ratios.append(losses[1] / losses[0])
    assert abs(sum(ratios) / 5 - 1) < 0.01, ratios
