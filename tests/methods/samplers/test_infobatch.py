"""Test ``vario.methods.samplers.infobatch``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.samplers import InfoBatch


def told(scores, **settings):
    sampler = InfoBatch(len(scores), epochs=10, **settings)
    sampler.update(range(len(scores)), scores)
    return sampler


def test_drops_a_share_of_the_easy_and_nothing_of_the_hard():
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 5.0, 6.0, 7.0, 8.0])
    sampler = told(scores, ratio=0.75)
    sampler.set_epoch(1)
    kept = list(sampler)
    assert len(kept) == 5 and set(kept) >= {4, 5, 6, 7}
    (easy,) = set(kept) - {4, 5, 6, 7}
    assert sampler.weights([easy, 4]).tolist() == [4.0, 1.0]


def test_last_epochs_see_everything():
    sampler = told(torch.rand(40, generator=torch.Generator().manual_seed(0)))
    lengths = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    assert max(lengths[:9]) < 40 and lengths[9] == 40
    assert sampler.weights(range(40)).tolist() == [1.0] * 40


def test_no_ratio_is_plain_training():
    sampler = told(torch.rand(20, generator=torch.Generator().manual_seed(0)), ratio=0.0)
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(20)) and sampler.weights(range(20)).tolist() == [1.0] * 20


def test_two_ranks_cover_without_overlap():
    """P251, accept."""
    scores, parts = torch.rand(41, generator=torch.Generator().manual_seed(0)), []
    for rank in (0, 1):
        sampler = told(scores, rank=rank, ranks=2)
        sampler.set_epoch(3)
        parts.append(set(sampler))
    whole = told(scores)
    whole.set_epoch(3)
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(whole)


def test_weighted_epoch_gradient_is_the_full_gradient():
    """P251, accept: 5,000 prunings, within 3 standard errors for every parameter; unweighted must fail."""
    draw = torch.Generator().manual_seed(4)
    x, y, w = (
        torch.randn(60, 6, generator=draw),
        torch.randn(60, generator=draw),
        torch.randn(6, generator=draw),
    )
    error = x @ w - y
    grads = (x * error[:, None]).double()  # per example
    sampler = told(error.square(), seed=8)
    sampler.epochs = 10**6
    weighted, plain = [], []
    for epoch in range(1, 5001):
        sampler.set_epoch(epoch)
        kept = torch.tensor(list(sampler))
        weighted.append((grads[kept] * sampler.weights(kept)[:, None]).sum(0) / 60)
        plain.append(grads[kept].mean(0))
    full = grads.mean(0)

    def z(samples):
        samples = torch.stack(samples)
        return (samples.mean(0) - full).abs() / (samples.std(0) / len(samples) ** 0.5)

    assert (z(weighted) < 3).all() and (z(plain) > 3).any()


def train(prune, seed, data, epochs=30, batch=32):
    from tests.methods.digits import accuracy, network

    x, y, x_test, y_test = data
    model = network(seed, inputs=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    sampler = InfoBatch(len(x), epochs=epochs, ratio=0.5 if prune else 0.0, seed=seed)
    passes = 0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for index in torch.tensor(list(sampler)).split(batch):
            losses = nn.functional.cross_entropy(model(x[index]), y[index], reduction="none")
            sampler.update(index, losses)
            optimizer.zero_grad()
            (losses * sampler.weights(index)).mean().backward()
            optimizer.step()
            passes += len(index)
    return accuracy(model, x_test, y_test), passes


@pytest.mark.slow
def test_a_third_fewer_passes_at_the_same_accuracy():
    """P251, accept: digits, 30 epochs, 5 seeds: >= 30 % fewer passes, accuracy within +-0.5 point (TOST)."""
    from scipy import stats

    from tests.methods.digits import digits

    data = digits()
    pairs = [(train(True, seed, data), train(False, seed, data)) for seed in range(101, 106)]
    saved = 1 - sum(ours[1] for ours, _ in pairs) / sum(plain[1] for _, plain in pairs)
    gaps = [ours[0] - plain[0] for ours, plain in pairs]
    low = stats.ttest_1samp([gap + 0.005 for gap in gaps], 0, alternative="greater").pvalue
    high = stats.ttest_1samp([gap - 0.005 for gap in gaps], 0, alternative="less").pvalue
    assert saved >= 0.3
    assert max(low, high) < 0.05, gaps


def test_refuses():
    with pytest.raises(ValueError, match="ratio 1"):
        InfoBatch(4, epochs=2, ratio=1.0)
