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
def domains(small=1500):
    """Windows of 10 characters and the next one: of prose, of a fiftieth of code, of code to validate on.

    The code has letters of its own, as a small language with its own script: what prose teaches is no help.
    """
    import argparse
    import configparser
    import difflib
    import inspect
    from pydoc_data import topics

    prose = "\n".join(topics.topics.values())[: 50 * small]
    code = "\n".join(inspect.getsource(module) for module in (argparse, configparser, difflib))
    texts = {"prose": prose, "code": code[: small + CONTEXT], "held out": code[small + CONTEXT :][:6000]}
    first = {"prose": 0, "code": 128, "held out": 128}
    held = {
        kind: torch.tensor([first[kind] + min(ord(c), 127) for c in text]) for kind, text in texts.items()
    }
    return {kind: (t.unfold(0, CONTEXT, 1)[:-1], t[CONTEXT:]) for kind, t in held.items()}


def code_losses(seed, start, cooldown=None, *, batches=18, epochs=40):
    """Validation loss on code after each epoch of a character model."""
    both = domains()
    x_test, y_test = both["held out"]
    x, y = (torch.cat([both[kind][k] for kind in ("prose", "code")]) for k in (0, 1))
    groups = torch.tensor([0] * len(both["prose"][0]) + [1] * len(both["code"][0]))
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Embedding(256, 16),
        nn.Flatten(),
        nn.Linear(16 * CONTEXT, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    sampler = TemperatureSampler(groups, start=start, cooldown=cooldown, draws=128 * batches, seed=seed)
    losses = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for pick in torch.tensor(list(sampler)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(nn.functional.cross_entropy(model(x_test), y_test).item())
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("seed", [581, 582, 583])
def test_high_temperature_overfits_the_small_domain_and_cooldown_ends_below_both(seed):
    """P076, accept: the lowest loss on the small domain earlier and the last one higher for tau = 5 than for
    tau = 1; Cooldown from 5 to 1 ends lowest, at equal steps; three seeds, one setting.
    """
    hot, plain, cooled = code_losses(seed, 5.0), code_losses(seed, 1.0), code_losses(seed, 5.0, 6)
    assert hot.index(min(hot)) < plain.index(min(plain)) and hot[-1] > plain[-1], (hot, plain)
    assert cooled[-1] <= min(hot[-1], plain[-1]), (cooled[-1], hot[-1], plain[-1])
