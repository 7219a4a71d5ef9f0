"""Test ``vario.methods.samplers.importance``."""

from __future__ import annotations

import pytest
import torch

from vario.methods.samplers import ImportanceSampler


def spread_gradients(count=200, size=12, seed=2):
    draw = torch.Generator().manual_seed(seed)
    scale = torch.rand(count, 1, generator=draw, dtype=torch.float64) ** 4
    return scale * torch.randn(count, size, generator=draw, dtype=torch.float64)


def estimate(grads, uniform, draws=200_000):
    sampler = ImportanceSampler(len(grads), uniform=uniform, draws=draws, seed=6)
    sampler.update(range(len(grads)), grads.norm(dim=1))
    sampler.set_epoch(1)
    drawn = torch.tensor(list(sampler))
    samples = grads[drawn] * sampler.weights(drawn)[:, None].double()
    return samples, sampler


@pytest.mark.parametrize("uniform", [0.0, 0.2])
def test_is_unbiased(uniform):
    """P010, accept: z < 3 (here for the 12 coordinates together, so 3.7 each)."""
    grads = spread_gradients()
    samples, _ = estimate(grads, uniform)
    z = (samples.mean(0) - grads.mean(0)).abs() / (samples.std(0) / len(samples) ** 0.5)
    assert z.max() < 3.7


def test_variance_is_the_closed_form_and_below_uniform():
    """P010, accept: within 5 %."""
    grads = spread_gradients()
    samples, _ = estimate(grads, 0.0)
    norms, mean_sq = grads.norm(dim=1), grads.mean(0).square().sum()
    closed = norms.mean() ** 2 - mean_sq
    measured = (samples - grads.mean(0)).square().sum(1).mean()
    assert abs(measured - closed) < 0.05 * closed
    assert measured < norms.square().mean() - mean_sq


def test_more_examples_than_multinomial_takes():
    """``torch.multinomial`` ends at 2^24 categories; every index is drawn alike, the last ones too."""
    size = 2**24 + 2
    sampler = ImportanceSampler(size, draws=2000, seed=1)
    order = torch.tensor(list(sampler))
    assert 0 <= order.min() and order.max() < size
    assert (order >= size // 2).double().mean() == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)


@pytest.mark.slow
def test_on_per_example_gradients_of_digits():
    """P010, accept: 1,000 per-example gradients of MNIST-5k."""
    from tests.methods.digits import mnist, network

    x, y, *_ = mnist()
    model = network(1)
    params = {k: p.detach() for k, p in model.named_parameters()}

    def loss(weights, one, label):
        out = torch.func.functional_call(model, weights, (one[None],))
        return torch.nn.functional.cross_entropy(out, label[None])

    grads = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(params, x[:1000], y[:1000])
    flat = torch.cat([g.flatten(1) for g in grads.values()], dim=1).double()
    norms, mean = flat.norm(dim=1), flat.mean(0)
    sampler = ImportanceSampler(1000, uniform=0.0, draws=20_000, seed=7)
    sampler.update(range(1000), norms)
    sampler.set_epoch(1)
    drawn = torch.tensor(list(sampler))
    counts, weights = torch.bincount(drawn, minlength=1000).double(), sampler.weights(range(1000)).double()
    closed = norms.mean() ** 2 - mean.square().sum()
    lengths = (flat * weights[:, None] - mean).square().sum(1)
    measured = (counts * lengths).sum() / counts.sum()
    assert abs(measured - closed) < 0.05 * closed
    assert measured < norms.square().mean() - mean.square().sum()


def test_unseen_examples_count_as_average():
    sampler = ImportanceSampler(4, uniform=0.0)
    assert sampler.probabilities().tolist() == [0.25] * 4
    sampler.update([0, 1], torch.tensor([3.0, 1.0]))
    assert sampler.probabilities().tolist() == pytest.approx([3 / 8, 1 / 8, 2 / 8, 2 / 8])


def test_weights_are_those_of_the_running_epoch():
    sampler = ImportanceSampler(4, uniform=0.0)
    sampler.set_epoch(0)
    list(sampler)
    sampler.update(range(4), torch.tensor([3.0, 1.0, 1.0, 1.0]))
    assert sampler.weights(range(4)).tolist() == [1.0] * 4
    sampler.set_epoch(1)
    list(sampler)
    assert sampler.weights([0]).item() == pytest.approx(0.5)


def test_refuses():
    with pytest.raises(ValueError, match="share"):
        ImportanceSampler(4, uniform=1.5)
    with pytest.raises(ValueError, match="negative"):
        ImportanceSampler(4).update([0], torch.tensor([-1.0]))


WIDTHS = (4, 8, 16, 32)


def narrowed(weights, width, x):
    """The first ``width`` hidden units of a network that all widths share."""
    w1, b1, w2, b2 = weights
    return torch.relu(x @ w1[:width].T + b1[:width]) @ w2[:, :width].T + b2


EPOCHS = 40


def trained(weights, forward, batches, measure=lambda *batch: None):
    """SGD with momentum, the rate on a cosine to zero; ``batches(epoch)`` gives what ``forward`` takes.

    ``measure`` sees each batch when its gradients are there, before they are clipped.
    """
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        for batch in batches(epoch):
            optimizer.zero_grad()
            forward(*batch).backward()
            measure(*batch)
            torch.nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()
        schedule.step()


def supernet(seed, by_gradient):
    """Shared weights, one path and one batch a step, both drawn by gradient norms or uniformly.

    As the authors do (ShunLu91/PA-DA e65ad62): new probabilities once per epoch, from running means of the
    norms, and a share of uniform draws that falls from 1 to 0 over the run.
    """
    from tests.methods.digits import digits

    x, y, *_ = digits()
    torch.manual_seed(seed)
    layers = torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
    weights = [p for layer in layers for p in layer.parameters()]
    data = ImportanceSampler(len(x), uniform=1.0, seed=seed)
    paths = ImportanceSampler(len(WIDTHS), uniform=1.0, draws=-(-len(x) // 64), seed=seed + 1000)
    norms = {}

    def batches(epoch):
        data.uniform = paths.uniform = 1 - epoch / EPOCHS if by_gradient else 1.0
        data.set_epoch(epoch)
        paths.set_epoch(epoch)
        norms.clear()
        yield from zip(torch.tensor(list(data)).split(64), list(paths), strict=True)
        for path, size in norms.items():
            paths.update([path], size)

    def measure(pick, path):
        size = torch.stack([w.grad.norm() for w in weights]).norm() / paths.weights([path])
        norms[path] = (norms[path] + size) / 2 if path in norms else size

    def forward(pick, path):
        logits = narrowed(weights, WIDTHS[path], x[pick])
        losses = torch.nn.functional.cross_entropy(logits, y[pick], reduction="none")
        data.update(pick, (logits.softmax(1) - torch.nn.functional.one_hot(y[pick], 10)).norm(dim=1))
        return (losses * data.weights(pick) * paths.weights([path])).mean()

    trained(weights, forward, batches, measure)
    return weights


def alone(width, seed):
    from tests.methods.digits import accuracy, digits, network

    x, y, x_test, y_test = digits()
    model, draw = network(seed, 64, width), torch.Generator().manual_seed(seed)
    trained(
        list(model.parameters()),
        lambda pick: torch.nn.functional.cross_entropy(model(x[pick]), y[pick]),
        lambda epoch: [(pick,) for pick in torch.randint(len(x), (len(x),), generator=draw).split(64)],
    )
    return accuracy(model, x_test, y_test)


@pytest.mark.slow
def test_ranks_the_paths_of_a_supernet():
    """P010, accept: Kendall's tau to stand-alone accuracies not below that of uniform draws, 4 of 5 seeds."""
    from scipy.stats import kendalltau

    from tests.methods.digits import digits

    *_, x_test, y_test = digits()
    truth, taus = [sum(alone(w, s) for s in (311, 312, 313)) for w in WIDTHS], []
    for seed in range(421, 426):
        taus.append([])
        for by_gradient in (True, False):
            weights = supernet(seed, by_gradient)
            with torch.no_grad():
                right = [
                    (narrowed(weights, w, x_test).argmax(1) == y_test).float().mean().item() for w in WIDTHS
                ]
            taus[-1].append(kendalltau(truth, right).statistic)
    print(truth, taus)
    assert sum(ours >= uniform for ours, uniform in taus) >= 4, taus
