"""Test ``vario.methods.posthoc.delta_editing``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.posthoc import bit_delta, dare, expo, loss_change, low_rank, ties


def pair(seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a": (7,), "b": (6, 5), "c": (4, 3, 2, 2)}
    return tuple(
        {k: torch.randn(v, generator=draw, dtype=torch.float64) for k, v in shapes.items()} for _ in range(2)
    )


def test_dare_is_unbiased():
    """P336, accept: the mean over draws is the delta, within 3 standard errors."""
    before, after = pair()
    draws = torch.stack([dare(before, after, drop=0.9, seed=s)["b"] - before["b"] for s in range(2000)])
    error = draws.std(0) / 2000**0.5
    assert ((draws.mean(0) - (after["b"] - before["b"])).abs() / error).square().mean() < 1.8
    assert ((draws.mean(0) - (after["b"] - before["b"])).abs() < 4 * error).all()
    one, delta = draws[0], after["b"] - before["b"]
    kept = one.abs() > 1e-12
    torch.testing.assert_close(one[kept], 10 * delta[kept])
    plain = dare(before, after, drop=0.9, factor=0.1, seed=0)["b"] - before["b"]
    torch.testing.assert_close(plain[kept], delta[kept])
    assert all(torch.allclose(dare(before, after, drop=0.0)[k], after[k]) for k in after)


def test_bit_delta_has_the_best_scale_and_further_bits_come_closer():
    """P336, accept: the scale of the signs that is best in squared error is the mean size."""
    before, after = pair()
    delta = after["b"] - before["b"]
    sign = delta.sign()
    best = float((delta * sign).sum() / sign.square().sum())
    coded = bit_delta(before, after)["b"] - before["b"]
    torch.testing.assert_close(coded, best * sign)
    errors = [(bit_delta(before, after, bits=b)["b"] - after["b"]).norm().item() for b in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.5 * errors[0]


def test_low_rank_and_expo():
    before, after = pair()
    delta = after["b"] - before["b"]
    left = low_rank(before, after, rank=2)["b"] - after["b"]
    torch.testing.assert_close(left.norm(), torch.linalg.svdvals(delta)[2:].norm())
    assert torch.allclose(low_rank(before, after, rank=5)["b"], after["b"])
    assert torch.equal(low_rank(before, after, rank=0)["a"], before["a"] + (after["a"] - before["a"]))
    torch.testing.assert_close(
        expo(before, after, alpha=0.5)["c"], after["c"] + 0.5 * (after["c"] - before["c"])
    )
    assert torch.allclose(expo(before, after, alpha=-1.0)["c"], before["c"])


def test_ties_worked_by_hand():
    start = {"w": torch.zeros(4)}
    ends = [{"w": torch.tensor([4.0, -1.0, 3.0, 0.1])}, {"w": torch.tensor([-2.0, -3.0, 0.2, 0.1])}]
    # two of four kept: (4, 0, 3, 0) and (-2, -3, 0, 0); signs +, -, +, +
    assert ties(start, ends, density=0.5)["w"].tolist() == [4.0, -3.0, 3.0, 0.0]
    assert ties(start, ends[:1], density=1.0, scale=2.0)["w"].tolist() == pytest.approx([8.0, -2.0, 6.0, 0.2])


@pytest.mark.parametrize(("density", "scale"), [(0.2, 1.0), (0.5, 0.7), (1.0, 1.0)])
def test_ties_entry_by_entry(density, scale):
    """Trimmed by rank, one sign by the larger total, the mean of those that have it."""
    start, *ends = (pair(seed)[0] for seed in range(4))
    new = ties(start, ends, density=density, scale=scale)
    for name, w0 in start.items():
        deltas = [(end[name] - w0).flatten().tolist() for end in ends]
        count = max(1, int(density * w0.numel()))
        least = [sorted(map(abs, d), reverse=True)[count - 1] for d in deltas]
        expected = []
        for k, before in enumerate(w0.flatten().tolist()):
            kept = [d[k] for d, limit in zip(deltas, least, strict=True) if abs(d[k]) >= limit]
            up, down = [v for v in kept if v > 0], [v for v in kept if v < 0]
            chosen = up if sum(up) >= -sum(down) else down
            expected.append(before + scale * sum(chosen) / max(1, len(chosen)))
        torch.testing.assert_close(new[name].flatten(), torch.tensor(expected, dtype=torch.float64))


def merged_by_mergekit(name, start, ends, density, **settings):
    method = pytest.importorskip("mergekit.merge_methods.registry").get(name)
    group = pytest.importorskip("mergekit.merge_methods.base").TensorGroup
    given = {"weight": 1.0, "density": density}
    each = {key: {k: value for k in range(1, len(ends) + 1)} for key, value in given.items()}
    return {
        key: method.merge_group(
            group.from_tensors([w0, *(end[key] for end in ends)], base_index=0),
            **each,
            **{"int8_mask": False, "lambda": 1.0, **settings},
        )
        for key, w0 in start.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties_equals_mergekit(density):
    """P336, accept (mergekit is no dependency of the tests: it brings peft and datasets)."""
    start, *ends = (pair(seed)[0] for seed in range(4))
    theirs = merged_by_mergekit("ties", start, ends, density, normalize=True, rescale=False)
    ours = ties(start, ends, density=density)
    for name in start:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_dare_equals_mergekit_with_the_same_draws(monkeypatch):
    """P336, accept. Its factor is the l1 norm before over that after, not the 1 / (1 - p) of the paper."""
    start, end = pair()
    ours = dare(start, end, drop=0.5, seed=3)
    kept = iter([(ours[name] - start[name]).abs() > 1e-12 for name in start])
    monkeypatch.setattr(torch, "bernoulli", lambda p: next(kept).to(p.dtype))
    plain = merged_by_mergekit("dare_linear", start, [end], 0.5, normalize=False, rescale=False)
    for name in start:
        same = dare(start, end, drop=0.5, factor=0.5, seed=3)[name]
        torch.testing.assert_close(same, plain[name], rtol=1e-6, atol=1e-6)
    kept = iter([(ours[name] - start[name]).abs() > 1e-12 for name in start])
    scaled = merged_by_mergekit("dare_linear", start, [end], 0.5, normalize=False, rescale=True)
    for name in start:
        delta, mine = end[name] - start[name], ours[name] - start[name]
        factor = 2 * delta.abs().sum() / mine.abs().sum()
        torch.testing.assert_close(scaled[name], start[name] + mine / 2 * factor, rtol=1e-6, atol=1e-6)


def test_loss_change_by_the_sum():
    """P336, accept: 50 points within 5 % of the true change, the first order at least 20 % off."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 4)).double()
    x, y = torch.randn(200, 10, dtype=torch.float64), torch.randint(4, (200,))

    def loss(state):
        return nn.functional.cross_entropy(torch.func.functional_call(model, dict(state), (x,)), y)

    start = {k: v.detach() for k, v in model.state_dict().items()}
    end = {k: v + 0.3 * torch.randn(v.shape, dtype=v.dtype) for k, v in start.items()}
    true = float(loss(end) - loss(start))
    assert abs(loss_change(loss, start, end, points=50) / true - 1) < 0.05
    assert abs(loss_change(loss, start, end, points=0) / true - 1) > 0.2


def test_refuses():
    before, after = pair()
    for call in (lambda: dare(before, after, drop=1.0), lambda: bit_delta(before, after, bits=0)):
        with pytest.raises(ValueError, match="must be|it must"):
            call()
    with pytest.raises(ValueError, match="density"):
        ties(before, [after], density=0.0)
    with pytest.raises(ValueError, match="rank is -1"):
        low_rank(before, after, rank=-1)


def moved_digits(seed, step, lr, hidden, *factors):
    """Points on pictures moved by (step, step): tuned on them, and with 90 % of the delta dropped."""
    from tests.methods.digits import accuracy, mnist, network
    from tests.methods.posthoc.fine_tuned import shifted, trained

    x, y, x_test, y_test = mnist()
    start = trained(network(seed, hidden=hidden), x, y, seed=seed, steps=600, lr=1e-3)
    tuned = trained(start, shifted(x, step, step), y, seed=seed + 100, steps=300, lr=lr)
    edited = [dare(start, tuned, drop=0.9, factor=factor, seed=seed) for factor in factors]
    test = shifted(x_test, step, step)
    return [100 * accuracy(model, test, y_test) for model in (tuned, *edited)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [171, 172, 173])
def test_nine_tenths_of_a_small_delta_are_not_needed_but_their_size_is(seed):
    """P336, accept: within 1 point with the factor 1 / (1 - p), at least 3 points worse without.

    A small delta, as that of post-training: pictures moved by one pixel, at a tenth of the rate.
    """
    tuned, edited, plain = moved_digits(seed, 1, 1e-4, 1024, 1.0, 0.1)
    assert tuned - edited <= 1 and tuned - plain >= 3, (tuned, edited, plain)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="measured 6.6 to 11.5 points in five seeds: the start has 13 % right, the tuned network 86 %",
)
def test_nine_tenths_of_a_large_delta_are_needed():
    tuned, edited = moved_digits(161, 3, 3e-4, 256, 1.0)
    assert tuned - edited <= 1
