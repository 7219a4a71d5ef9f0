"""Test ``vario.methods.layers.orthogonal_init``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vario.methods.layers import ShapedActivation, UncenteredBatchNorm, orthogonal_init


def test_weights_are_orthogonal_with_the_variance_of_the_gaussian_start():
    model = nn.ModuleDict(
        {
            "wide": nn.Linear(6, 24),
            "narrow": nn.Linear(24, 6),
            "conv": nn.Conv2d(2, 5, 3),
            "norm": nn.LayerNorm(3),
        }
    ).double()
    held = {name: id(p) for name, p in model.named_parameters()}
    orthogonal_init(model, seed=1)
    assert held == {name: id(p) for name, p in model.named_parameters()}
    wide, narrow, conv = (model[name].weight.detach() for name in ("wide", "narrow", "conv"))
    torch.testing.assert_close(wide.T @ wide, 4 * torch.eye(6, dtype=wide.dtype))
    torch.testing.assert_close(narrow @ narrow.T, torch.eye(6, dtype=wide.dtype))
    flat = conv.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(5, dtype=wide.dtype))
    for w in (wide, narrow, flat):
        assert w.square().mean().item() == pytest.approx(1 / w.shape[1], rel=1e-9)
    assert not model["wide"].bias.any() and model["norm"].weight.all()


def test_groups_of_a_convolution_are_orthogonal_each():
    conv = nn.Conv2d(6, 12, 3, groups=3).double()
    orthogonal_init(conv, seed=2)
    for part in conv.weight.detach().flatten(1).split(4):
        torch.testing.assert_close(part @ part.T, torch.eye(4, dtype=part.dtype))
    depthwise = nn.Conv2d(16, 16, 2, groups=16).double()
    orthogonal_init(depthwise)
    torch.testing.assert_close(depthwise.weight.detach().flatten(1).norm(dim=1), torch.ones(16).double())


def test_a_weight_that_is_computed_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="skip='1'"):
        orthogonal_init(model)
    assert "0.weight" in orthogonal_init(model, skip=("1",))


def test_uniform_over_all_rotations():
    """Every entry has mean 0, variance 1/n and fourth moment 3 / (n (n + 2)); within 4 standard errors."""
    n, count = 3, 1500
    draws = []
    for seed in range(count):
        layer = nn.Linear(n, n, bias=False, dtype=torch.float64)
        orthogonal_init(layer, seed=seed)
        draws.append(layer.weight.detach())
    w = torch.stack(draws)
    for power, expected in ((1, 0.0), (2, 1 / n), (4, 3 / (n * (n + 2)))):
        moments = w**power
        error = moments.std(0) / math.sqrt(count)
        assert ((moments.mean(0) - expected).abs() < 4 * error).all(), power
    signs = torch.linalg.det(w).sign().mean()
    assert abs(signs) < 4 / math.sqrt(count)


def test_seed_alone_decides_and_it_can_be_undone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.random.get_rng_state()
    old = orthogonal_init(model, seed=7, skip=("1",))
    assert torch.equal(state, torch.random.get_rng_state()) and torch.equal(
        model[1].weight, before["1.weight"]
    )
    first = model[0].weight.detach().clone()
    assert not torch.equal(first, before["0.weight"])
    model.load_state_dict(old, strict=False)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    orthogonal_init(model, seed=7)
    assert torch.equal(model[0].weight, first)
    with pytest.raises(ValueError, match="found no linear"):
        orthogonal_init(nn.ReLU())


def test_a_tied_weight_is_drawn_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert sorted(name for name in orthogonal_init(nn.Sequential(first, second)) if "weight" in name) == [
        "0.weight"
    ]


def test_uncentered_batch_norm():
    norm = UncenteredBatchNorm(3).double()
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2
    torch.testing.assert_close(norm(x), x / x.square().mean(0).sqrt())
    torch.testing.assert_close(norm.mean_square, 0.9 + 0.1 * x.square().mean(0))
    assert torch.autograd.gradcheck(UncenteredBatchNorm(3, affine=True).double(), x.requires_grad_())
    torch.testing.assert_close(norm.eval()(x[:1]), x[:1] / norm.mean_square.sqrt())
    with pytest.raises(ValueError, match="shape"):
        norm(x[:, :2])


def test_uncentered_batch_norm_of_zeros_of_nothing_and_in_half_precision():
    norm = UncenteredBatchNorm(2)
    x = torch.tensor([[0.0, 3.0], [0.0, -4.0]], requires_grad=True)
    y = norm(x)
    y.square().sum().backward()
    assert not y[:, 0].any() and x.grad.isfinite().all()
    held = norm.mean_square.clone()
    assert norm(torch.empty(0, 2)).shape == (0, 2) and torch.equal(norm.mean_square, held)
    large = torch.tensor(
        [[300.0], [-300.0]], dtype=torch.float16
    )  # its square has no place in half precision
    assert UncenteredBatchNorm(1, affine=True)(large).tolist() == [[1.0], [-1.0]]
    assert UncenteredBatchNorm(1, affine=True)(large).dtype == torch.float16


def test_uncentered_batch_norm_from_existing():
    plain = nn.BatchNorm2d(3).eval()
    plain.running_mean.fill_(2.0)
    made = UncenteredBatchNorm.from_existing(plain)
    assert made.weight is plain.weight and not made.training
    assert made.mean_square.tolist() == [5.0] * 3
    with pytest.raises(ValueError, match="takes the place of"):
        UncenteredBatchNorm.from_existing(nn.Linear(2, 2))
    for other in (nn.BatchNorm1d(2, momentum=None), nn.BatchNorm1d(2, track_running_stats=False)):
        with pytest.raises(ValueError, match="Without a momentum or running"):
            UncenteredBatchNorm.from_existing(other)


def test_shaped_activation():
    layer = ShapedActivation(torch.tanh, depth=4)
    assert layer(torch.tensor(2.0)).item() == pytest.approx(math.tanh(1.0))
    with pytest.raises(ValueError, match="depth 0"):
        ShapedActivation(torch.tanh, depth=0)


def gradients(depth, orthogonal, seed, change=None):
    """BatchNorm without its mean, linear, width = batch = 20: of the first weight, and of what it puts out.

    And the batch itself, (20, 20), which ``change`` may have made linearly dependent.
    """
    torch.manual_seed(seed)
    layers = []
    for _ in range(depth):
        linear = nn.Linear(20, 20, bias=False)
        nn.init.normal_(linear.weight, std=20**-0.5)
        layers += [linear, UncenteredBatchNorm(20)]
    model = nn.Sequential(*layers, nn.Linear(20, 2, bias=False)).double()
    if orthogonal:
        orthogonal_init(model, seed=seed)
    draw = torch.Generator().manual_seed(1000 + seed)
    x = torch.randn(20, 20, generator=draw, dtype=torch.float64)
    if change is not None:
        change(x)
    first = model[0](x)
    first.retain_grad()
    nn.functional.cross_entropy(model[1:](first), torch.arange(20) % 2).backward()
    return model[0].weight.grad, first.grad, x


def slopes(orthogonal, seeds, change=None):
    """Mean rise per layer of the log norms of both gradients between depth 50 and 200."""

    def norms(depth, seed):
        return torch.stack([g.norm() for g in gradients(depth, orthogonal, seed, change)[:2]]).log()

    return (torch.stack([norms(200, s) - norms(50, s) for s in seeds]).mean(0) / 150).tolist()


def test_gradients_stay_bounded_with_depth_one_seed():
    assert abs(slopes(True, (70,))[0]) < 0.003 and slopes(False, (70,))[0] > 0.01


@pytest.mark.slow
def test_gradients_stay_bounded_with_depth():
    """P257, accept: 5 seeds: < .003 per layer for orthogonal, > .01 for Gaussian."""
    weights, outputs = slopes(True, range(71, 76))
    assert abs(weights) < 0.003 and abs(outputs) < 0.003
    assert slopes(False, range(71, 76))[0] > 0.01


def twice(x):
    x[1] = x[0]


def sum_of_two(x):
    x[2] = x[0] + x[1]


@pytest.mark.slow
@pytest.mark.parametrize("change", [twice, sum_of_two])
def test_dependent_examples_break_the_bound_of_what_flows_back(change):
    """P257, accept: of the gradients that reach the examples. Those of the weights cannot tell: see below."""
    assert slopes(True, range(82, 87), change)[1] > 0.01


@pytest.mark.parametrize(("change", "weights"), [(twice, {0: 1, 1: -1}), (sum_of_two, {0: 1, 1: 1, 2: -1})])
def test_what_grows_for_dependent_examples_never_reaches_the_weights(change, weights):
    """Why the bound of the weights holds: let v X = 0 for the rows X of a batch.

    Layers mix columns and the norm scales them, so v X = 0 stays true all the way up. On the way down the
    norm takes from each column of G a multiple of that of X, to which v is at right angles: v G only ever
    gets scaled, and grows, while the gradient of the weights, G^T X, does not hold it.
    """
    v = torch.zeros(20, dtype=torch.float64)
    for row, weight in weights.items():
        v[row] = weight / sum(w * w for w in weights.values()) ** 0.5
    of_weights, of_outputs, x = gradients(200, True, 87, change)
    along = torch.outer(v, v @ of_outputs)
    rest = of_outputs - along
    assert (v @ x).norm() < 1e-12 and along.norm() > 30 * rest.norm()
    torch.testing.assert_close(of_weights, rest.T @ x, rtol=1e-6, atol=1e-9)


def squared_lengths(depth, orthogonal, draws):
    """||z||^2 of the last preactivation of a tanh network of width 32, over draws of its weights."""
    draw = torch.Generator().manual_seed(81)
    z = torch.randn(32, generator=draw, dtype=torch.float64).expand(draws, 32)
    for layer in range(depth):
        w = torch.randn(draws, 32, 32, generator=draw, dtype=torch.float64) / 32**0.5
        if orthogonal:
            one = nn.Linear(32, 32, bias=False, dtype=torch.float64)
            rows = []
            for k in range(draws):
                orthogonal_init(one, seed=100_000 * layer + k)
                rows.append(one.weight.detach().clone())
            w = torch.stack(rows)
        z = torch.einsum("nij,nj->ni", w, torch.tanh(z) if layer else z)
    return z.square().sum(1)


def relative_variance(*args):
    lengths = squared_lengths(*args)
    return (lengths.var() / lengths.mean() ** 2).item()


def test_fluctuations_of_few_draws():
    assert relative_variance(40, True, 40) < 0.01
    assert relative_variance(40, False, 400) > 0.3


@pytest.mark.slow
def test_fluctuations_do_not_grow_with_depth():
    """P316, accept: 200 draws: orthogonal < .01 and x < 1.5 from depth 10 to 40; Gaussian > .3 and x > 2."""
    ours = [relative_variance(depth, True, 200) for depth in (10, 40)]
    gaussian = [relative_variance(depth, False, 200) for depth in (10, 40)]
    assert ours[1] < 0.01 and ours[1] / ours[0] < 1.5
    assert gaussian[1] > 0.3 and gaussian[1] / gaussian[0] > 2


def steps_to_learn(orthogonal, seed, lr=0.1, most=1500):
    """Full-batch steps of a tanh network of depth 30 until 90 % of 1,000 digits are right."""
    from tests.methods.digits import mnist

    x, y = (t[:1000] for t in mnist()[:2])
    torch.manual_seed(seed)
    sizes = [784] + [64] * 29
    layers = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    if orthogonal:
        orthogonal_init(model, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x = (x - x.mean()) / x.std()
    for step in range(most):
        out = model(x)
        if (out.argmax(1) == y).float().mean() >= 0.9:
            return step
        optimizer.zero_grad()
        nn.functional.cross_entropy(out, y).backward()
        optimizer.step()
    return most


@pytest.mark.slow
def test_deep_tanh_network_learns_faster():
    """P316, accept: fewer steps to 90 % than the Gaussian start in at least 4 of 5 seeds."""
    pairs = [(steps_to_learn(True, seed), steps_to_learn(False, seed)) for seed in range(91, 96)]
    assert sum(ours < gaussian for ours, gaussian in pairs) >= 4, pairs
