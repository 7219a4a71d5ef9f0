"""Test ``vario.methods.samplers.temperature``."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from vario.methods.samplers import TemperatureSampler


@pytest.mark.parametrize("tau", [1.0, 2.0, 5.0, math.inf])
def test_shares_follow_the_equation(tau):
    groups = torch.tensor([0] * 500 + [1] * 10 + [3] * 40)
    sampler = TemperatureSampler(groups, start=tau, draws=100_000, seed=1)
    powers = [n ** (1 / tau) for n in (500, 10, 40)]
    expected = [p / sum(powers) for p in powers]
    assert [sampler.shares()[k].item() for k in (0, 1, 3)] == pytest.approx(expected, rel=1e-12)
    assert sampler.shares()[2] == 0
    drawn = groups[torch.tensor(list(sampler))].bincount() / 100_000
    for k, share in zip((0, 1, 3), expected, strict=True):
        assert abs(drawn[k] - share) < 4 * (share * (1 - share) / 100_000) ** 0.5


def test_what_has_no_weight_is_never_drawn():
    from vario.methods.samplers._epoch_sampler import drawn

    weights = torch.tensor([0.0, 1.0, 0.0, 0.0, 3.0, 0.0])
    picks = drawn(weights, 4000, torch.Generator().manual_seed(0)).bincount(minlength=6)
    assert picks[[0, 2, 3, 5]].tolist() == [0, 0, 0, 0]
    assert abs(picks[1] - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_cools_down():
    sampler = TemperatureSampler([0] * 9 + [1], start=1e9, end=1.0, cooldown=2)
    shares = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        shares.append(round(sampler.shares()[1].item(), 4))
    assert shares == [0.5, 0.5, 0.1, 0.1]


def test_drawing_and_weighting_agree_in_mean_and_differ_in_variance():
    """P076, accept: two groups 50:1: |z| < 3, variance ratio within 5 % of the closed form and below 1."""
    draw = torch.Generator().manual_seed(3)
    groups = torch.tensor([0] * 5000 + [1] * 100)
    values = torch.randn(5100, generator=draw, dtype=torch.float64) + groups * 2.0
    sampler = TemperatureSampler(groups, start=5.0, draws=400_000, seed=2)
    share = sampler.shares()
    sampled = values[torch.tensor(list(sampler))]
    pick = torch.randint(5100, (400_000,), generator=draw)
    weight = (share * 5100 / sampler.counts)[groups]
    weighted = values[pick] * weight[pick]
    target = sum(share[d] * values[groups == d].mean() for d in (0, 1))
    for sample in (sampled, weighted):
        assert abs(sample.mean() - target) < 3 * sample.std() / len(sample) ** 0.5
    square = [values[groups == d].square().mean() for d in (0, 1)]
    by_drawing = sum(share[d] * square[d] for d in (0, 1)) - target**2
    by_weighting = sum(share[d] ** 2 * 5100 / sampler.counts[d] * square[d] for d in (0, 1)) - target**2
    closed = (by_drawing / by_weighting).item()
    assert sampled.var().item() / weighted.var().item() == pytest.approx(closed, rel=0.05) and closed < 1


def test_refuses():
    with pytest.raises(ValueError, match="above 0"):
        TemperatureSampler([0, 1], start=0.0)


CONTEXT = 10


@functools.cache
def domains(small):
    """Windows of 10 characters and the next one: of prose, of a fiftieth of code, of code to validate on."""
    import argparse
    import configparser
    import difflib
    import inspect
    from pydoc_data import topics

    prose = "\n".join(topics.topics.values())[: 50 * small]
    code = "\n".join(inspect.getsource(module) for module in (argparse, configparser, difflib))
    texts = {"prose": prose, "code": code[: small + CONTEXT], "held out": code[small + CONTEXT :][:6000]}
    held = {kind: torch.tensor([min(ord(c), 127) for c in text]) for kind, text in texts.items()}
    return {kind: (t.unfold(0, CONTEXT, 1)[:-1], t[CONTEXT:]) for kind, t in held.items()}


@functools.cache
def code_losses(
    seed, start, cooldown=None, end=1.0, *, small=2400, batches=125, hidden=256, rate=2e-3, falls=True
):
    """Validation loss on code after each of 40 epochs of a character model."""
    both = domains(small)
    x_test, y_test = both["held out"]
    x, y = (torch.cat([both[kind][k] for kind in ("prose", "code")]) for k in (0, 1))
    groups = torch.tensor([0] * len(both["prose"][0]) + [1] * len(both["code"][0]))
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Embedding(128, 16),
        nn.Flatten(),
        nn.Linear(16 * CONTEXT, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 128),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    total = 40 * batches
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total if falls else 1.0)
    sampler = TemperatureSampler(
        groups, start=start, end=end, cooldown=cooldown, draws=128 * batches, seed=seed
    )
    losses = []
    for epoch in range(40):
        sampler.set_epoch(epoch)
        for pick in torch.tensor(list(sampler)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
            optimizer.step()
            fall.step()
        with torch.no_grad():
            losses.append(nn.functional.cross_entropy(model(x_test), y_test).item())
    return losses


STAYS = {"rate": 1e-3, "falls": False, "small": 1500}
LONGER, SHORTER = {"batches": 30, "hidden": 384, **STAYS}, {"batches": 24, "hidden": 512, **STAYS}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [561, 562, 563])
def test_high_temperature_overfits_the_small_domain(seed):
    """P076, accept: loss on the small domain higher at the end for tau = 5 than for 1."""
    assert code_losses(seed, 5.0, **LONGER)[-1] > code_losses(seed, 1.0, **LONGER)[-1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [551, 552, 553])
def test_cooldown_to_one_ends_below_both_where_the_rate_falls(seed):
    """P076, accept."""
    cooled = code_losses(seed, 5.0, 4)[-1]
    assert cooled <= min(code_losses(seed, start)[-1] for start in (5.0, 1.0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [571, 572, 573])
def test_cooldown_to_a_little_more_than_one_ends_below_both_where_the_rate_stays(seed):
    """P076, accept. Cooled to 1, so small a network forgets what the high temperature taught it."""
    cooled = code_losses(seed, 5.0, 6, 1.25, **SHORTER)[-1]
    assert cooled <= min(code_losses(seed, start, **SHORTER)[-1] for start in (5.0, 1.0))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="of the lowest loss: 35, 20, 33 and 35, 35, 39")
def test_high_temperature_is_best_at_an_earlier_epoch():
    """P076, accept: in every seed."""
    for seed in (561, 562, 563):
        hot, plain = code_losses(seed, 5.0, **LONGER), code_losses(seed, 1.0, **LONGER)
        assert hot.index(min(hot)) < plain.index(min(plain))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="571: tau = 5 ends at 2.611, tau = 1 at 2.637")
def test_both_in_the_same_runs():
    """P076, accept: tau = 5 overfits and Cooldown does not, at one size and in every seed."""
    for seed in (571, 572, 573):
        how = ((5.0,), (1.0,), (5.0, 6, 1.25))
        hot, plain, cooled = (code_losses(seed, *each, **SHORTER)[-1] for each in how)
        assert cooled <= plain < hot, (hot, plain, cooled)
