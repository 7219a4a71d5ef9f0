"""Test ``vario.methods.posthoc.model_stock``."""

from __future__ import annotations

import math

import pytest
import torch

from vario.methods.posthoc import model_stock


def shell(draw, count):
    """A start, a center and models on a sphere around the center, in 2,000 dimensions."""
    center = torch.randn(2000, generator=draw, dtype=torch.float64)
    center *= 18.0 / center.norm()
    ends = []
    for _ in range(count):
        noise = torch.randn(2000, generator=draw, dtype=torch.float64)
        ends.append(center + noise * (45.0 / noise.norm()))
    return torch.zeros(2000, dtype=torch.float64), center, ends


def test_is_the_best_point_between_start_and_mean_on_a_shell():
    """P354, accept: t within 3 % of the best interpolation, distance <= .65 of plain averaging."""
    shares, best, distances = [], [], []
    for seed in range(40, 50):
        start, center, ends = shell(torch.Generator().manual_seed(seed), 2)
        new = model_stock({"w": start}, [{"w": end} for end in ends])["w"]
        mean = torch.stack(ends).mean(0)
        shares.append(float(new.norm() / mean.norm()))
        best.append(float(center @ mean / (mean @ mean)))
        distances.append(float((new - center).norm() / (mean - center).norm()))
    assert abs(sum(shares) / sum(best) - 1) < 0.03, (shares, best)
    assert sum(distances) / 10 <= 0.65, distances


@pytest.mark.parametrize("count", [2, 3, 5])
def test_follows_the_equation(count):
    draw = torch.Generator().manual_seed(count)
    shapes = {"a": (7,), "b": (6, 5), "c": (4, 3, 2, 2)}
    start = {k: torch.randn(v, generator=draw, dtype=torch.float64) for k, v in shapes.items()}
    push = {k: torch.randn(v, generator=draw, dtype=torch.float64) for k, v in shapes.items()}
    ends = [
        {
            k: v + push[k] + 0.7 * torch.randn(v.shape, generator=draw, dtype=torch.float64)
            for k, v in start.items()
        }
        for _ in range(count)
    ]
    new = model_stock(start, ends)
    for name, w0 in start.items():
        d = [(end[name] - w0).flatten() for end in ends]
        cosines = [
            torch.nn.functional.cosine_similarity(d[i], d[j], dim=0) for i in range(count) for j in range(i)
        ]
        c = sum(cosines).item() / len(cosines)
        t = count * c / (1 + (count - 1) * c)
        torch.testing.assert_close(
            new[name], w0 + t * sum(end[name] - w0 for end in ends) / count, rtol=1e-12, atol=1e-12
        )


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 5])
def test_equals_mergekit(count):
    """P354, accept: to 1e-6 (mergekit is no dependency of the tests: it brings peft and datasets)."""
    package = pytest.importorskip("mergekit.merge_methods.model_stock").model_stock_merge_method
    group = pytest.importorskip("mergekit.merge_methods.base").TensorGroup
    draw = torch.Generator().manual_seed(count)
    for shape in ((7,), (6, 5), (4, 3, 2, 2)):
        start, push = (torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(2))
        ends = [start + push + torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(count)]
        theirs = package.merge_group(group.from_tensors([start, *ends], base_index=0), filter_wise=False)
        ours = model_stock({"w": start}, [{"w": end} for end in ends])["w"]
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_limits():
    start, end = {"w": torch.zeros(3)}, {"w": torch.tensor([1.0, 2.0, 3.0])}
    assert torch.allclose(model_stock(start, [end, end])["w"], end["w"])  # no angle: the models themselves
    right = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, math.pi])}]
    assert not model_stock({"w": torch.zeros(2)}, right)["w"].any()  # a right angle: the start
    assert not model_stock(start, [end, {"w": -end["w"]}])["w"].any()
    with pytest.raises(ValueError, match="two or more"):
        model_stock(start, [end])


@pytest.mark.slow
def test_fine_tuned_digits_stay_better_on_moved_pictures():
    """P354, accept: on pictures moved by (2, -2), at least the mean of the two, in at least 4 of 5 seeds."""
    from tests.methods.digits import accuracy, mnist
    from tests.methods.posthoc.fine_tuned import pretrained, shifted, trained

    x, y, x_test, y_test = mnist()
    moves = (-2, 0, 2)
    many = torch.cat([shifted(x, right, down) for right in moves for down in moves])
    moved, gains = shifted(x_test, 2, -2), []
    for seed in range(171, 176):
        start = pretrained(many, y.repeat(9), seed)
        two = [trained(start, x, y, seed=seed + k, steps=300, lr=1e-3) for k in (100, 200)]
        mean = sum(accuracy(model, moved, y_test) for model in two) / 2
        gains.append(accuracy(model_stock(start, two), moved, y_test) - mean)
    assert sum(gain >= 0 for gain in gains) >= 4, gains
