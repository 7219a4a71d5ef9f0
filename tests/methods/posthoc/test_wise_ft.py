"""Test ``vario.methods.posthoc.wise_ft``."""

from __future__ import annotations

import copy
import functools

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


PATCHES, CLASSES = 16, 10


def coloured(images, labels, honest, draw):
    """MultiColorMNIST: a coarse digit (49 numbers) beside patches whose colour tells the class.

    A patch shows its class with probability ``honest``, else the colour of any other class.
    """
    coarse = nn.functional.avg_pool2d(images.view(-1, 1, 28, 28), 4).flatten(1)
    n = len(labels)
    other = (labels[:, None] + torch.randint(1, CLASSES, (n, PATCHES), generator=draw)) % CLASSES
    true = torch.rand(n, PATCHES, generator=draw) < honest
    colours = torch.where(true, labels[:, None], other)
    return torch.cat([coarse, nn.functional.one_hot(colours, CLASSES).flatten(1).float()], 1)


def head(x, y, patches, smoothing=0.0, steps=300):
    """A linear head from zero that sees the digit and some of the patches."""
    seen = torch.cat([torch.ones(49), patches.repeat_interleave(CLASSES)])
    model = nn.Linear(x.shape[1], CLASSES)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    inputs, soft = bang_batch(x * seen, y, classes=CLASSES, smoothing=smoothing)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), soft).backward()
        optimizer.step()
    with torch.no_grad():
        model.weight.mul_(seen)
    return model


def spurious(seed):
    """Training data, test data whose patches lie more often, and two halves of the patches."""
    from tests.methods.digits import mnist

    x, y, x_test, y_test = mnist()
    draw = torch.Generator().manual_seed(seed)
    halves = [(torch.arange(PATCHES) % 2 == k).float() for k in (0, 1)]
    return (
        coloured(x[:1000], y[:1000], 0.9, draw),
        y[:1000],
        coloured(x_test, y_test, 0.3, draw),
        y_test,
        halves,
    )


def rights(x, y, *models):
    with torch.no_grad():
        return [model(x).argmax(1) == y for model in models]


@functools.cache
def gains(seed):
    """Over the better of two heads, out of distribution: of their average, of one with logits x 5, and the
    share of examples that the average alone gets right."""
    x, y, x_test, y_test, halves = spurious(seed)
    one, two = (head(x, y, half) for half in halves)
    loud = copy.deepcopy(two)
    with torch.no_grad():
        for p in loud.parameters():
            p.mul_(5)
    first, second, both, outvoted = rights(x_test, y_test, one, two, wise_ft(one, two), wise_ft(one, loud))
    single = max(first.float().mean(), second.float().mean())
    fixed = both & ~first & ~second
    return both.float().mean() - single, outvoted.float().mean() - single, fixed.float().mean()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [331, 332, 333])
def test_averages_rely_on_the_features_of_both_until_one_is_louder(seed):
    """P063, accept: OOD accuracy >= best single + 2 points; logits x 5 of one lose more than half of it."""
    gain, left, _ = gains(seed)
    assert gain >= 0.02 and left < gain / 2, (gain, left)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="P063 wants 3 % right where both heads are wrong; 3.1, 2.5 and 1.8 %")
def test_averages_are_right_where_both_are_wrong():
    assert all(gains(seed)[2] >= 0.03 for seed in (331, 332, 333))


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="P063 has smoothing restore the gain; a head trained 20 times as long as the other lost none: the "
    "average gains 15.5 points, with smoothed labels 12.9",
)
def test_smoothed_labels_keep_a_head_from_outvoting_the_other():
    """P063, accept: label smoothing restores the gain that a head trained into certainty has lost."""
    x, y, x_test, y_test, halves = spurious(334)
    calm, gained = head(x, y, halves[0], steps=40), []
    for smoothing in (0.0, 0.2):
        sure = head(x, y, halves[1], smoothing, steps=800)
        scores = [r.float().mean().item() for r in rights(x_test, y_test, calm, sure, wise_ft(calm, sure))]
        gained.append(scores[2] - max(scores[:2]))
    print(gained)
    assert gained[1] > gained[0], gained
