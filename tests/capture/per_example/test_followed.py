"""Test where the examples are followed to, and that rows which are not theirs are not taken for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.capture.per_example.test_probe import B, Model, agree, draw, measure, one_by_one, seeded, tokens

Make = Callable[[], nn.Module]


def net(run: Callable[[nn.Module, Tensor], Tensor], *shape: int, **parts: nn.Module) -> Make:
    """A layer, what is done with its output and a parameter ``w`` of this shape."""
    return lambda: Model(run, lin=nn.Linear(6, 6), w=nn.Parameter(draw(*shape)), **parts)


PICKED = torch.tensor([[0, 2, 1, 0, 3]] * B)
REPLAYED: dict[str, Make] = {
    "divided": net(lambda m, x: m.lin(x) / (3 + m.w), 6),
    "to a power": net(lambda m, x: (m.lin(x).abs() + 0.1) ** m.w, 6),
    "where": net(lambda m, x: torch.where(m.lin(x) > 0, m.lin(x), m.w), 6),
    "larger of two": net(lambda m, x: torch.maximum(m.lin(x), m.w), 6),
    "between two": net(lambda m, x: m.lin(x).lerp(x, m.w), 6),
    "addcmul": net(lambda m, x: torch.addcmul(m.w, m.lin(x), x), 6),
    "a bias in part": net(lambda m, x: torch.addmm(m.w, m.lin(x[:, 0]), x[0].T, beta=0.5), 5),
    "one number": lambda: Model(
        lambda m, x: m.lin(x) * m.w, lin=nn.Linear(6, 6), w=nn.Parameter(torch.tensor(0.7))
    ),
    "rows of a table": net(lambda m, x: m.lin(x) + m.w[PICKED], 4, 6),
    "places of a table": net(lambda m, x: m.lin(x) + m.w[PICKED[0]], 4, 6),
    "less its mean": net(lambda m, x: F.linear(m.lin(x), m.w - m.w.mean(1, keepdim=True)), 3, 6),
    "in standard units": net(lambda m, x: F.linear(m.lin(x), m.w / m.w.std(dim=1, keepdim=True)), 3, 6),
    "in standard units by batch norm": net(
        lambda m, x: F.linear(m.lin(x), F.batch_norm(m.w[None], None, None, training=True)[0]), 3, 6
    ),
    "softmax of weights": net(lambda m, x: m.lin(x) @ m.w.softmax(0), 6, 3),
    "put in place": net(lambda m, x: m.lin(x).masked_fill(x > 0, 0) + torch.where(x > 0, m.w, 0), 6),
}
FOLLOWED: dict[str, Make] = {
    "last word": net(lambda m, x: (m.lin(x) * m.w)[torch.arange(B), torch.tensor([0, 3, 2, 1])], 6),
    "one word of each": net(lambda m, x: (m.lin(x) * m.w)[torch.eye(B, 5, dtype=torch.bool)], 6),
    "gathered": net(lambda m, x: (m.lin(x) * m.w).gather(1, torch.zeros(B, 2, 6, dtype=torch.long)), 6),
    "sorted": net(lambda m, x: (m.lin(x) * m.w).sort(1)[0], 6),
    "largest": net(lambda m, x: (m.lin(x) * m.w).topk(2, 1)[0], 6),
    "spread": net(lambda m, x: (m.lin(x) * m.w).std(1), 6),
    "product": net(lambda m, x: (m.lin(x) * m.w).prod(2), 6),
    "unfolded": net(lambda m, x: (m.lin(x) * m.w).unfold(1, 3, 1), 6),
    "diagonal": net(lambda m, x: (m.lin(x) * m.w).diagonal(dim1=1, dim2=2), 6),
    "lower part": net(lambda m, x: (m.lin(x) * m.w).tril(), 6),
    "distances": net(lambda m, x: torch.cdist(m.lin(x), m.w), 3, 6),
    "scattered": net(lambda m, x: torch.zeros(B, 7, 6).index_add(1, PICKED[0], m.lin(x) * m.w), 6),
    "repeated": net(lambda m, x: m.lin(x).repeat(1, 2, 1) * m.w, 6),
    "by Fourier": net(lambda m, x: torch.fft.irfft(torch.fft.rfft(m.lin(x), dim=1) * (1j + m.w), dim=1), 6),
    "written in, word by word": net(lambda m, x: written(m.lin(x) * m.w), 6),
    "windows that overlap": net(
        lambda m, x: (m.lin(x) * m.w).as_strided((B, 3, 3, 6), (30, 6, 6, 1)).softmax(2), 6
    ),
    "other strides of what is as long as the batch": net(lambda m, x: turned(m.lin(x[:, :B]) * m.w), 6),
    "turned by a quarter": net(lambda m, x: torch.rot90(m.lin(x) * m.w, 1, (1, 2)), 6),
    "circular padding": lambda: nn.Sequential(
        nn.Linear(6, 6), nn.Conv1d(5, 4, 3, padding=1, padding_mode="circular")
    ),
    "instance norm": lambda: nn.Sequential(nn.Conv1d(5, 4, 2), nn.InstanceNorm1d(4, affine=True)),
    "mean over places, channels last": lambda: nn.Sequential(
        nn.Unflatten(2, (2, 3)),
        nn.Conv2d(5, 4, 2).to(memory_format=torch.channels_last),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
    "padding by name": lambda: nn.Sequential(nn.Unflatten(2, (2, 3)), nn.Conv2d(5, 4, 2, padding="valid")),
}


def written(x: Tensor) -> Tensor:
    found = torch.zeros(x.shape[1], B, x.shape[2])
    for place in range(x.shape[1]):
        found[place] = x[:, place]
    return found.transpose(0, 1)


def turned(x: Tensor) -> Tensor:
    """(time, examples, features), whose memory has the examples outermost, written into by a view."""
    view = (2 * x.transpose(0, 1)).transpose(0, 1)
    view.mul_(2)
    return view


@pytest.mark.parametrize("name", REPLAYED)
def test_what_autograd_sums_over_is_summed_over(name: str) -> None:
    """The backward of a broadcast operation gives as many entries as its output has: autograd adds them."""
    agree(seeded(REPLAYED[name]), draw(B, 5, 6))


@pytest.mark.parametrize("name", FOLLOWED)
def test_operations_that_keep_the_examples_apart(name: str) -> None:
    agree(seeded(FOLLOWED[name]), draw(B, 5, 6))


def test_complex_parameters_have_the_norms_of_both_parts() -> None:
    def filtered(m: nn.Module, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.einsum("bki,io->bko", torch.fft.rfft(m.lin(x), dim=1), m.z), dim=1)

    z = nn.Parameter(torch.randn(6, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)))
    model = seeded(lambda: Model(filtered, lin=nn.Linear(6, 6), z=z))
    x = draw(B, 6, 6)
    result = measure(model, model(x).tanh().sum())
    shares = [torch.autograd.grad(model(x).tanh()[k].sum(), z)[0] for k in range(B)]
    assert torch.allclose(result.squares["z"], torch.stack([s.abs().square().sum() for s in shares]))


@pytest.mark.parametrize("count", [8, 9])
def test_a_loss_of_some_tokens_is_followed_below_the_pick_and_nowhere_else(count: int) -> None:
    """Eight of twenty are a multiple of the examples, but not two of each."""
    chosen = torch.zeros(B * 5, dtype=torch.bool)
    chosen[torch.randperm(B * 5, generator=torch.Generator().manual_seed(3))[:count]] = True
    chosen = chosen.view(B, 5)
    model = seeded(lambda: Model(lambda m, x: m.a(x).tanh(), a=nn.Linear(6, 6), b=nn.Linear(6, 3)))
    x, y, whose = draw(B, 5, 6), tokens(count, classes=3), torch.arange(B)[:, None].expand(B, 5)[chosen]

    def losses() -> Tensor:
        each = F.cross_entropy(model.b(model(x)[chosen]), y, reduction="none") / count
        return torch.zeros(B).index_add(0, whose, each)

    result = measure(model, F.cross_entropy(model.b(model(x)[chosen]), y))
    wanted = one_by_one(model, losses)
    assert set(result.squares) == {"a.weight", "a.bias"} and set(result.missed) == {"b.weight", "b.bias"}
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=1e-4)


def picked_rows(rows: list[int]) -> tuple[set[str], set[str]]:
    model = seeded(
        lambda: Model(lambda m, x: m.b(m.a(x)[torch.tensor(rows)]), a=nn.Linear(6, 6), b=nn.Linear(6, 3))
    )
    result = measure(model, F.cross_entropy(model(draw(B, 6)), tokens(len(rows), classes=3)))
    return set(result.squares), set(result.missed)


def test_rows_in_another_order_are_examples_and_rows_taken_twice_are_not() -> None:
    assert "b.weight" in picked_rows([2, 0, 3, 1])[0]
    assert "b.weight" in picked_rows([2, 0, 2, 1])[1]
    assert "b.weight" in picked_rows([2, 0, 2, 1, 3, 3, 1, 0])[1]


def test_tables_alone_have_examples_too_and_a_penalty_on_them_has_none() -> None:
    """Matrix factorisation: every node of the graph has but parameters under it."""
    model = seeded(lambda: Model(lambda m, x: x, u=nn.Embedding(7, 4), v=nn.Embedding(9, 4)))
    users, items, y = tokens(B, classes=7, seed=1), tokens(B, classes=9, seed=2), draw(B)

    def losses() -> Tensor:
        penalty = 0.05 * sum(p.square().sum() for p in model.parameters()) / B
        return ((model.u(users) * model.v(items)).sum(1) - y).square() / B + penalty

    penalty = 0.05 * sum(p.square().sum() for p in model.parameters())
    found = ((model.u(users) * model.v(items)).sum(1) - y).square().mean() + penalty
    result, wanted = measure(model, found), one_by_one(model, losses)
    assert result.missed == {}
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=1e-4)


def lines(m: nn.Module, x: Tensor) -> Tensor:
    """What is told of each word on its own."""
    return m.lin(x).tanh() @ m.w


def waves(m: nn.Module, x: Tensor) -> Tensor:
    return m.lin(m.rnn(x)[0]) @ m.w


def turned_inside(m: nn.Module, x: Tensor) -> Tensor:
    return m.lin(m.rnn((x * m.w[0]).transpose(0, 1))[0]) @ m.w


SQUARE: dict[str, tuple[Make, Callable[[Tensor], Tensor], bool]] = {
    "of each example": (net(lines, 6, 3), lambda e: e.mean((1, 2)).mean(), True),
    "of each word, token by token": (net(lines, 6, 3), lambda e: e.mean((0, 2)).mean(), False),
    "of each word, one after the other": (
        net(waves, 6, 3, rnn=nn.LSTM(6, 6, batch_first=True)),
        lambda e: e.mean((0, 2)).mean(),
        False,
    ),
    "of all, word first": (net(turned_inside, 6, 6, rnn=nn.LSTM(6, 6)), lambda e: e.mean(), False),
    "of each feature": (net(lines, 6, B), lambda e: e.mean((0, 1)).mean(), False),
    "of each channel": (
        lambda: nn.Sequential(nn.Conv1d(B, B, 3), nn.Tanh(), nn.Conv1d(B, B, 1)),
        lambda e: e.mean((0, 2)).mean(),
        False,
    ),
    "of each example, by channel": (
        lambda: nn.Sequential(nn.Conv1d(B, B, 3), nn.Tanh(), nn.Conv1d(B, B, 1)),
        lambda e: e.mean(2).mean(1).mean(),
        True,
    ),
}


@pytest.mark.parametrize("name", SQUARE)
def test_times_and_features_as_many_as_the_examples_are_not_taken_for_them(name: str) -> None:
    make, mean, is_told = SQUARE[name]
    model, x = seeded(make), draw(B, B, 6)
    result = measure(model, mean(model(x).square()))
    assert bool(result.squares) == is_told and ("" in result.missed) != is_told
    wanted = one_by_one(model, lambda: model(x).square().mean((1, 2)) / B)
    for parameter, squares in result.squares.items():
        assert torch.allclose(squares, wanted[parameter], rtol=1e-4), parameter


@pytest.mark.parametrize("first", [0, 1])
def test_nor_are_words_of_a_model_of_nothing_but_tables(first: int) -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 3)))
    x, y = tokens(B, B), tokens(B, B, classes=3, seed=1)
    result = measure(model, F.cross_entropy(model(x).mT, y, reduction="none").mean(first).mean())
    assert bool(result.squares) == (first == 1)
    wanted = one_by_one(model, lambda: F.cross_entropy(model(x).mT, y, reduction="none").mean(1) / B)
    for parameter, squares in result.squares.items():
        assert torch.allclose(squares, wanted[parameter], rtol=1e-4), parameter


EACH: dict[str, Callable[[Tensor], Tensor]] = {
    "cross entropy": lambda o: F.cross_entropy(o.mean(1), tokens(B, classes=3), reduction="none"),
    "cross entropy of words": lambda o: F.cross_entropy(o.mT, tokens(B, 5, classes=3), reduction="none").sum(
        1
    ),
    "squares": lambda o: F.mse_loss(o, draw(B, 5, 3), reduction="none").mean((1, 2)),
    "Huber": lambda o: F.smooth_l1_loss(o, draw(B, 5, 3), reduction="none").mean((1, 2)),
    "two classes": lambda o: F.binary_cross_entropy_with_logits(
        o.sum((1, 2)), torch.ones(B), reduction="none"
    ),
    "margins": lambda o: F.multi_margin_loss(o.mean(1), tokens(B, classes=3), reduction="none"),
}


@pytest.mark.parametrize("name", EACH)
def test_losses_of_each_example_that_the_script_weighs_and_adds(name: str) -> None:
    model, x = seeded(lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))), draw(B, 5, 6)
    weights = torch.tensor([0.5, 2.0, 1.0, 0.1])

    def losses() -> Tensor:
        return EACH[name](model(x)) * weights / weights.sum()

    result, wanted = measure(model, losses().sum()), one_by_one(model, losses)
    assert result.missed == {}
    for parameter, squares in result.squares.items():
        assert torch.allclose(squares, wanted[parameter], rtol=1e-4), parameter


@pytest.mark.parametrize("double", [lambda x: torch.cat([x, -x]), lambda x: x.repeat(2, 1)])
def test_rows_that_a_model_makes_of_its_inputs_are_refused_for_their_order_is_not_told(
    double: Callable[[Tensor], Tensor],
) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    result = measure(model, model(double(draw(B, 5))).square().mean())
    assert result.squares == {} and "no output" in result.missed[""]


def test_what_multiplies_the_loss_has_no_even_part_in_it_and_what_is_added_has() -> None:
    """Weights of two tasks that are learned: what an example gives to them is not the same for all."""
    model = seeded(lambda: Model(lambda m, x: m.lin(x), lin=nn.Linear(6, 6), w=nn.Parameter(draw(2))))
    x = draw(B, 6)
    result = measure(model, (-model.w[0]).exp() * model(x).square().mean() + model.w.sum())
    assert set(result.missed) == {"w"} and "plain sum" in result.missed["w"]
    result = measure(model, 3 * (model(x).square().mean() + model.w.square().sum()) / 2)
    wanted = one_by_one(model, lambda: 1.5 * (model(x).square().mean(1) + model.w.square().sum()) / B)
    assert result.missed == {}
    for parameter, squares in result.squares.items():
        assert torch.allclose(squares, wanted[parameter], rtol=1e-4), parameter
