"""Test ``vario.scores.gradient_norm``."""

from __future__ import annotations

import torch
from torch import nn

from vario.scores import gradient_norm


def test_equals_one_backward_per_example():
    """P024, accept: to 1e-5; a convolution, a frozen layer, a batch that is no multiple of the chunk."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 4))
    model[0].bias.requires_grad_(False)
    x, y = torch.randn(11, 1, 6, 6), torch.randint(4, (11,))
    scores = gradient_norm(model, nn.functional.cross_entropy, x, y, chunk=4)
    for k in range(11):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1]).backward()
        total = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None)
        torch.testing.assert_close(scores[k], total.sqrt(), rtol=1e-5, atol=1e-6)
    assert scores.std() > 0 and not scores.requires_grad


def test_a_parameter_that_is_one_number_and_half_precision():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(2, 1, bias=False)
            self.scale = nn.Parameter(torch.tensor(300.0))

        def forward(self, x):
            return self.scale * super().forward(x)

    model = Scaled()
    nn.init.ones_(model.weight)
    x, y = torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.zeros(2, 1)
    found = gradient_norm(model, lambda out, _: out.sum(), x, y)
    expected = torch.tensor([[300.0, 300.0, 2.0], [600.0, 0.0, 2.0]]).norm(dim=1)  # of weight and of scale
    torch.testing.assert_close(found, expected)
    half = gradient_norm(model.half(), lambda out, _: out.sum(), x.half(), y.half())  # 300^2 is beyond half
    torch.testing.assert_close(half, expected, rtol=1e-3, atol=0)
