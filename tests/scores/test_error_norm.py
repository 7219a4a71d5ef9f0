"""Test ``vario.scores.error_norm``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vario.scores import error_norm, keep


def test_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    assert error_norm(logits, torch.tensor([0, 1])).tolist() == pytest.approx([0.5**0.5, 0.75 * 2**0.5])


def test_refuses():
    with pytest.raises(ValueError, match="Flatten"):
        error_norm(torch.zeros(2, 3, 4), torch.zeros(2, 3))


def early_scores(x, y, seed):
    """Mean over three networks after 250 steps."""
    from tests.methods.digits import network

    scores = torch.zeros(len(x))
    for k in range(3):
        model = network(1000 * seed + k)
        fit(model, x, y, 250, seed)
        with torch.no_grad():
            scores += error_norm(model(x), y) / 3
    return scores


def fit(model, x, y, steps, seed):
    optimizer, draw = torch.optim.Adam(model.parameters(), lr=1e-3), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        pick = torch.randint(len(x), (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[pick]), y[pick]).backward()
        optimizer.step()


@pytest.mark.slow
def test_prunes_half_where_random_and_easy_lose():
    """P024, accept: EL2N loses < 1 point, random > 1.5, easiest > 4; three seeds."""
    from tests.methods.digits import accuracy, mnist, network

    x, y, x_test, y_test = mnist()
    losses = {"hard": [], "easy": [], "random": []}
    for seed in (481, 482, 483):
        scores = early_scores(x, y, seed)
        subsets = {
            "all": torch.arange(len(x)),
            "hard": keep(scores, 0.5, which="hard"),
            "easy": keep(scores, 0.5, which="easy"),
            "random": torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: len(x) // 2],
        }
        result = {}
        for name, subset in subsets.items():
            model = network(seed)
            fit(model, x[subset], y[subset], 2000, seed)
            result[name] = accuracy(model, x_test, y_test)
        for name in losses:
            losses[name].append(result["all"] - result[name])
    mean = {name: sum(values) / 3 for name, values in losses.items()}
    assert mean["hard"] < 0.01 and mean["random"] > 0.015 and mean["easy"] > 0.04, mean


@pytest.mark.slow
def test_finds_flipped_labels():
    """P024, accept: AUROC > 0.95 at 10 % flips."""
    from sklearn.metrics import roc_auc_score

    from tests.methods.digits import mnist

    x, y, *_ = mnist()
    draw = torch.Generator().manual_seed(124)
    flipped = torch.rand(len(y), generator=draw) < 0.1
    wrong = torch.where(flipped, (y + torch.randint(1, 10, y.shape, generator=draw)) % 10, y)
    assert roc_auc_score(flipped.numpy(), early_scores(x, wrong, 125).numpy()) > 0.95
