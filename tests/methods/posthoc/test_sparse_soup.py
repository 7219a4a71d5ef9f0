"""Test ``vario.methods.posthoc.sparse_soup``."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vario.methods.posthoc import magnitude_masks, sparse_soup


def test_masks_keep_the_largest_weights_of_all_layers():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    masks = magnitude_masks(model, sparsity=0.95)
    assert sorted(masks) == ["0.weight", "1.weight"] and sum(int(m.sum()) for m in masks.values()) == 10
    state = model.state_dict()
    kept = torch.cat([state[k].abs()[m] for k, m in masks.items()])
    lost = torch.cat([state[k].abs()[~m] for k, m in masks.items()])
    assert kept.min() >= lost.max()
    with pytest.raises(ValueError, match="sparsity is 1"):
        magnitude_masks(model, sparsity=1.0)


def test_average_keeps_the_mask():
    """P360, accept: equal sparsity; two models pruned on their own are refused, their average is denser."""
    torch.manual_seed(0)
    whole = nn.Linear(40, 30)
    masks = magnitude_masks(whole, sparsity=0.9)
    copies = []
    for seed in range(4):
        one = copy.deepcopy(whole)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            one.weight.add_(torch.randn(30, 40, generator=draw)).mul_(masks["weight"])
        copies.append(one)
    soup = sparse_soup(copies)
    assert torch.equal(soup.weight != 0, masks["weight"])
    torch.testing.assert_close(soup.weight, sum(one.weight for one in copies) / 4)
    with torch.no_grad():
        copies[0].weight[0, 0] = 3.0
    assert torch.equal(sparse_soup(copies, masks=masks).weight != 0, masks["weight"])
    apart = []
    for seed in (7, 8):
        torch.manual_seed(seed)
        one = nn.Linear(40, 30)
        with torch.no_grad():
            one.weight.mul_(magnitude_masks(one, sparsity=0.9)["weight"])
        apart.append(one)
    with pytest.raises(ValueError, match="would be denser"):
        sparse_soup(apart)
    assert ((apart[0].weight + apart[1].weight) == 0).float().mean() < 0.85


def test_one_model_is_itself():
    one = {"w": torch.tensor([[0.0, 1.5]]), "steps": torch.tensor(4)}
    assert torch.equal(sparse_soup([one])["w"], one["w"]) and sparse_soup([one])["steps"] == 4
    with pytest.raises(ValueError, match="no model"):
        sparse_soup([])


def retrain(model, masks, x, y, steps, seed):
    new, draw = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(new.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        pick = torch.randint(len(x), (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(new(x[pick]), y[pick]).backward()
        optimizer.step()
        with torch.no_grad():
            for name, p in new.named_parameters():
                if name in masks:
                    p.mul_(masks[name])
    return new


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="3 of 5 seeds at or above the mean of members; mean gain 0.2 point")
def test_soup_beats_its_members():
    """P360, accept: digits, 95 % sparse, 4 copies: >= mean of members in >= 4 of 5 seeds, mean gain > 0."""
    from tests.methods.digits import accuracy, digits, network

    x, y, x_test, y_test = digits()
    gains = []
    for seed in range(500, 505):
        dense = retrain(network(seed, 64), {}, x, y, 600, seed)
        masks = magnitude_masks(dense, sparsity=0.95)
        with torch.no_grad():
            for name, p in dense.named_parameters():
                if name in masks:
                    p.mul_(masks[name])
        members = [retrain(dense, masks, x, y, 400, 10 * seed + k) for k in range(4)]
        scores = [accuracy(model, x_test, y_test) for model in members]
        gains.append(accuracy(sparse_soup(members, masks=masks), x_test, y_test) - sum(scores) / 4)
    print(gains)
    assert sum(gain >= 0 for gain in gains) >= 4 and sum(gains) > 0, gains
