"""Test ``vario.methods.layers.nested_dropout``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vario.methods.layers import NestedDropout


def widths(layer, size, count):
    torch.manual_seed(0)
    return torch.stack([layer(torch.ones(size)).sum() for _ in range(count)]).long()


@pytest.mark.parametrize(("size", "spread"), [(10, 3.0), (6, 100.0)])
def test_widths_follow_the_law(size, spread):
    """Chi-square over 4,000 draws below its 99.9 % point (df up to 9: 27.9)."""
    seen = torch.bincount(widths(NestedDropout(spread=spread), size, 4000), minlength=size + 1)[1:]
    k = torch.arange(1, size + 1, dtype=torch.float64)
    law = torch.exp(-((k / spread) ** 2))
    expected = 4000 * law / law.sum()
    assert ((seen - expected) ** 2 / expected.clamp(min=1)).sum() < 27.9


def test_a_tiny_spread_keeps_one_and_a_huge_one_keeps_any():
    assert set(widths(NestedDropout(spread=0.05), 9, 50).tolist()) == {1}
    assert set(widths(NestedDropout(spread=1e6), 4, 200).tolist()) == {1, 2, 3, 4}


def test_first_features_pass_unscaled_for_the_whole_batch():
    torch.manual_seed(1)
    x = torch.randn(5, 7)
    y = NestedDropout(spread=3.0)(x)
    k = int((y != 0).any(0).sum())
    assert 0 < k < 7 and torch.equal(y[:, :k], x[:, :k]) and not y[:, k:].any()


def test_channels():
    torch.manual_seed(1)
    y = NestedDropout(spread=2.0, channels=True)(torch.ones(2, 6, 3, 3))
    assert y[0, :, 0, 0].tolist() == y[1, :, 2, 2].tolist() and 0 < y[0, :, 0, 0].sum() < 6
    assert NestedDropout.from_existing(nn.Dropout2d()).channels


def test_choose_takes_the_smallest_of_the_best():
    layer = NestedDropout().eval()
    scores = {2: 0.5, 4: 0.9, 6: 0.9, 8: 0.7}
    assert layer.choose(lambda: scores[layer.keep], widths=(8, 6, 4, 2)) == 4 == layer.keep
    with pytest.raises(ValueError, match="widths is empty"):
        layer.choose(lambda: 0.0, widths=())


def test_files_of_a_model_with_plain_dropout_fit_both_ways():
    plain, nested, chosen = (
        nn.Sequential(nn.Linear(2, 2), drop)
        for drop in (nn.Dropout(), NestedDropout(), NestedDropout(keep=1))
    )
    nested.load_state_dict(plain.state_dict())
    plain.load_state_dict(nested.state_dict())
    nested.load_state_dict(chosen.state_dict())
    assert nested[1].keep == 1
    chosen.load_state_dict(plain.state_dict())
    assert chosen[1].keep == 1


def test_refuses():
    for wrong in ({"spread": 0.0}, {"keep": 0}):
        with pytest.raises(ValueError, match="above 0"):
            NestedDropout(**wrong)


def train(drop, noise, seed, steps=3000):
    """MNIST-5k MLP with ``drop`` before the last layer; 500 noisy labels choose the width."""
    from tests.methods.digits import accuracy, mnist

    x, y, x_test, y_test = mnist()
    draw = torch.Generator().manual_seed(seed)
    labels = y.clone()
    wrong = torch.randperm(len(y), generator=draw)[: int(noise * len(y))]
    labels[wrong] = (y[wrong] + torch.randint(1, 10, (len(wrong),), generator=draw)) % 10
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), drop(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        index = 500 + torch.randint(3500, (128,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[index]), labels[index]).backward()
        optimizer.step()
    model.eval()
    if isinstance(model[2], NestedDropout):
        model[2].choose(lambda: accuracy(model, x[:500], labels[:500]), widths=range(1, 257))
    return 100 * accuracy(model, x_test, y_test)


KINDS = {
    "plain": nn.Identity,
    "nested": lambda: NestedDropout(spread=SPREAD),
    "dropout": lambda: nn.Dropout(0.8),
}
SPREAD = 80.0  # of 256 features: 20, 30, 50 and 80 were compared on seeds 1 and 2, which judge nothing here


def means(noise, seeds, *kinds):
    return [sum(train(KINDS[kind], noise, s) for s in seeds) / len(seeds) for kind in kinds]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_noisy_labels():
    """P060, accept: 40 % symmetric noise: nested >= plain + 8 points."""
    plain, nested = means(0.4, (461, 462, 463), "plain", "nested")
    assert nested >= plain + 8, (plain, nested)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_noisy_labels_with_plain_dropout():
    """P060, accept: 40 % symmetric noise: dropout(0.8) >= plain + 12 points."""
    plain, dropout = means(0.4, (61, 62, 63), "plain", "dropout")
    assert dropout >= plain + 12, (plain, dropout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "seeds"), [("nested", (464, 465, 466)), ("dropout", (64, 65, 66))])
def test_clean_labels_do_not_mind(kind, seeds):
    """P060, accept: within 2 points of plain without noise."""
    plain, dropped = means(0.0, seeds, "plain", kind)
    assert plain - dropped < 2, (plain, dropped)
