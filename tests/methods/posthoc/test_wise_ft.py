"""Test ``vario.methods.posthoc.wise_ft``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.posthoc import bang_batch, wise_ft


def test_averaged_linear_heads_average_logits():
    """P063, accept: to 1e-6."""
    before, after = nn.Linear(20, 5).double(), nn.Linear(20, 5).double()
    x = torch.randn(50, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for alpha in (0.0, 0.3, 1.0):
        expected = (1 - alpha) * before(x) + alpha * after(x)
        torch.testing.assert_close(wise_ft(before, after, alpha=alpha)(x), expected, rtol=1e-12, atol=1e-12)


def test_state_dicts_of_many_shapes_and_counters():
    draw = torch.Generator().manual_seed(1)
    shapes = {"a": (7,), "b": (6, 5), "c": (4, 3, 2, 2)}
    before, after = (
        {k: torch.randn(v, generator=draw, dtype=torch.float64) for k, v in shapes.items()} for _ in range(2)
    )
    before["count"], after["count"] = torch.tensor(3), torch.tensor(8)
    new = wise_ft(before, after, alpha=0.25)
    assert new["count"] == 8 and new["count"].dtype == torch.int64
    for name in shapes:
        torch.testing.assert_close(new[name], 0.75 * before[name] + 0.25 * after[name], rtol=1e-15, atol=0)


def test_bang_smooths_and_mixes():
    x, y = torch.eye(4), torch.tensor([0, 1, 2, 1])
    same, soft = bang_batch(x, y, classes=3, smoothing=0.3)
    assert torch.equal(same, x)
    torch.testing.assert_close(soft[0], torch.tensor([0.8, 0.1, 0.1]))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        nn.functional.cross_entropy(logits, soft), nn.CrossEntropyLoss(label_smoothing=0.3)(logits, y)
    )
    mixed, soft = bang_batch(
        x, y, classes=3, smoothing=0.0, mixup=1.0, generator=torch.Generator().manual_seed(5)
    )
    share = mixed.diagonal().min()
    assert (
        0 < share < 1
        and torch.allclose(soft.sum(1), torch.ones(4))
        and torch.allclose(mixed.sum(1), soft.sum(1))
    )


def test_refuses():
    with pytest.raises(ValueError, match="alpha is 2"):
        wise_ft({"w": torch.ones(1)}, {"w": torch.ones(1)}, alpha=2.0)
    with pytest.raises(ValueError, match="w is"):
        wise_ft({"w": torch.ones(1)}, {"w": torch.ones(2)})
    with pytest.raises(ValueError, match="smoothing"):
        bang_batch(torch.ones(1, 1), torch.zeros(1).long(), classes=2, smoothing=1.0)
