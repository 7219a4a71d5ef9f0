"""Test ``vario.methods.samplers.imbalance``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.samplers import ImbalanceSampler, PriorThreshold

LABELS = torch.tensor([0] * 50 + [1] * 5 + [2] * 20)


def test_modes():
    over = LABELS[torch.tensor(list(ImbalanceSampler(LABELS, mode="over")))]
    under = LABELS[torch.tensor(list(ImbalanceSampler(LABELS, mode="under")))]
    plain = list(ImbalanceSampler(LABELS, mode="plain"))
    assert over.bincount().tolist() == [50] * 3 and under.bincount().tolist() == [5] * 3
    assert sorted(plain) == list(range(75))


def test_every_example_is_repeated_equally_often_up_to_one():
    drawn = torch.tensor(list(ImbalanceSampler(LABELS, mode="over", seed=4))).bincount(minlength=75)
    assert drawn[:50].tolist() == [1] * 50 and drawn[50:55].tolist() == [10] * 5
    assert set(drawn[55:].tolist()) == {2, 3}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name"), [("over", "RandomOverSampler"), ("under", "RandomUnderSampler")])
def test_draws_as_often_as_imbalanced_learn(mode, name):
    """P086, accept: the same number of each class, and of each example when all are taken equally often."""
    package = pytest.importorskip(f"imblearn.{mode}_sampling")
    taken = getattr(package, name)(random_state=0)
    _, labels = taken.fit_resample(torch.arange(len(LABELS))[:, None].numpy(), LABELS.numpy())
    ours = LABELS[torch.tensor(list(ImbalanceSampler(LABELS, mode=mode, seed=4)))]
    assert torch.equal(ours.bincount(), torch.as_tensor(labels).bincount())


def test_no_example_is_preferred_over_epochs():
    """P086, accept: frequencies uniform, chi-squared p > .01."""
    from scipy import stats

    sampler, counts = ImbalanceSampler(LABELS, mode="under", seed=5), torch.zeros(75)
    for epoch in range(400):
        sampler.set_epoch(epoch)
        counts += torch.tensor(list(sampler)).bincount(minlength=75)
    for c in (0, 2):
        assert stats.chisquare(counts[LABELS == c].numpy()).pvalue > 0.01


def test_threshold_is_bayes_for_a_balanced_world():
    """Logits log p(x|c) + log prior, minus log prior, leave log p(x|c)."""
    likelihood = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]]).log()
    prior = (LABELS.bincount() / 75).log()
    threshold = PriorThreshold(LABELS)
    torch.testing.assert_close(threshold(likelihood + prior), likelihood)
    assert "log_prior" in threshold.state_dict()


@pytest.mark.slow
def test_both_lift_the_balanced_accuracy():
    """P086, accept: MNIST-5k, five classes at 8 examples: each at least 5 points above the baseline."""
    from tests.methods.digits import mnist, network

    x, y, x_test, y_test = mnist()
    keep = torch.cat([(y == c).nonzero()[: (8 if c < 5 else 350), 0] for c in range(10)])
    x, y = x[keep], y[keep]

    def balanced(predict):
        right = predict(x_test).argmax(1) == y_test
        return sum(right[y_test == c].float().mean().item() for c in range(10)) / 10

    gains = {"threshold": [], "over": []}
    for seed in (111, 112, 113):
        results = {}
        for mode in ("plain", "over"):
            model, sampler = network(seed), ImbalanceSampler(y, mode=mode, seed=seed)
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            for step in range(10**6):
                if step % max(1, len(sampler) // 64) == 0:
                    sampler.set_epoch(step)
                    batches = torch.tensor(list(sampler)).split(64)
                if step == 400:
                    break
                index = batches[step % len(batches)]
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
            with torch.no_grad():
                results[mode] = balanced(model)
                if mode == "plain":
                    threshold = PriorThreshold(y)
                    results["threshold"] = balanced(lambda z, m=model, t=threshold: t(m(z)))
        for name in gains:
            gains[name].append(results[name] - results["plain"])
    assert all(sum(gain) / 3 >= 0.05 for gain in gains.values()), gains


def test_refuses():
    with pytest.raises(ValueError, match="mode is 'some'"):
        ImbalanceSampler(LABELS, mode="some")
    with pytest.raises(ValueError, match="no label of class 3"):
        PriorThreshold(LABELS, classes=4)
