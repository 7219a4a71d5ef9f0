"""Test the formulas and what finds them: each kind of layer against one backward an example."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.capture.per_example.test_probe import B, Model, agree, draw, measure, seeded, tokens
from vario.capture.per_example import convolutions, formulas
from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.probe import Probe


def merged(m: nn.Module, x: Tensor) -> Tensor:
    return F.linear(x, m.base.weight + 0.5 * (m.up @ m.down))


def positions(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(m.embed(x) + m.place(torch.arange(x.shape[1])))


def looking_up(*rows: int, padding: int | None = None) -> Callable[[], nn.Module]:
    return lambda: Model(
        lambda m, x: m.head(m.embed(x) + m.place(torch.tensor(rows))),
        embed=nn.Embedding(7, 5),
        place=nn.Embedding(9, 5, padding_idx=padding),
        head=nn.Linear(5, 2),
    )


def with_token(m: nn.Module, x: Tensor) -> Tensor:
    return m.head(torch.cat([m.token.expand(len(x), -1, -1), x], dim=1)[:, 0] + m.head.bias.sum())


def lora(m: nn.Module, x: Tensor) -> Tensor:
    return m.base(x) + m.up(m.down(x))


def recurrent(kind: Callable[..., nn.Module], **settings: int | bool) -> nn.Module:
    return Model(
        lambda m, x: m.head(m.cell(m.into(x))[0]),
        into=nn.Linear(5, 4),
        cell=kind(4, 3, **settings),
        head=nn.Linear(3, 2),
    )


def time_first(m: nn.Module, x: Tensor) -> Tensor:
    """(time, examples, features) inside, and as many of the one as of the other."""
    h = m.into(x).transpose(0, 1)
    h = m.layer(h, h, h) if isinstance(m.layer, nn.MultiheadAttention) else m.layer(h)
    return m.head(h[0].transpose(0, 1))


def cross_attention(m: nn.Module, x: Tensor) -> Tensor:
    return m.layer(x, m.other(x), m.other(x))[0]


LAYERS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "group norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), draw(B, 3, 5, 5)),
    "batch norm, eval": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 2)).eval(),
        draw(B, 3, 5, 5),
    ),
    "rms norm": (lambda: nn.Sequential(nn.Linear(6, 6), nn.RMSNorm(6)), draw(B, 3, 6)),
    "prelu": (lambda: nn.Sequential(nn.Linear(6, 5), nn.PReLU(5)), draw(B, 6)),
    "prelu with one slope": (lambda: nn.Sequential(nn.Linear(6, 5), nn.PReLU()), draw(B, 3, 6)),
    "rnn": (lambda: recurrent(nn.RNN, batch_first=True), draw(B, 6, 5)),
    "gru": (lambda: recurrent(nn.GRU, batch_first=True), draw(B, 6, 5)),
    "lstm": (lambda: recurrent(nn.LSTM, batch_first=True), draw(B, 6, 5)),
    "lstm of two layers": (lambda: recurrent(nn.LSTM, batch_first=True, num_layers=2), draw(B, 6, 5)),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 2)
        ),
        draw(B, 5),
    ),
    "weight norm of a convolution": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3))),
        draw(B, 3, 6),
    ),
    "merged low rank": (
        lambda: Model(
            merged,
            base=nn.Linear(5, 4, bias=False),
            up=nn.Parameter(draw(4, 2)),
            down=nn.Parameter(draw(2, 5)),
        ),
        draw(B, 3, 5),
    ),
    "positions": (
        lambda: Model(positions, embed=nn.Embedding(7, 5), place=nn.Embedding(9, 5), head=nn.Linear(5, 2)),
        tokens(B, 6),
    ),
    "positions, sequence as long as the batch": (
        lambda: Model(positions, embed=nn.Embedding(7, 5), place=nn.Embedding(B, 5), head=nn.Linear(5, 2)),
        tokens(B, B),
    ),
    "positions from the middle": (looking_up(3, 4, 7), tokens(B, 3)),
    "positions, some twice": (looking_up(3, 4, 3), tokens(B, 3)),
    "positions, one of them padding": (looking_up(3, 4, 7, padding=4), tokens(B, 3)),
    "a token of its own": (
        lambda: Model(with_token, token=nn.Parameter(draw(1, 1, 5)), head=nn.Linear(5, 2)),
        draw(B, 3, 5),
    ),
    "einsum": (
        lambda: Model(lambda m, x: torch.einsum("bti,io->bto", x, m.w), w=nn.Parameter(draw(5, 2))),
        draw(B, 3, 5),
    ),
    "bilinear": (lambda: Model(lambda m, x: m.layer(x, x), layer=nn.Bilinear(5, 5, 2)), draw(B, 5)),
    "bag of tokens": (lambda: nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, 2)), tokens(B, 5)),
    "lstm, time first": (
        lambda: Model(time_first, into=nn.Linear(5, 4), layer=nn.LSTM(4, 3), head=nn.Linear(3, 2)),
        draw(B, B, 5),
    ),
    "attention, time first": (
        lambda: Model(
            time_first, into=nn.Linear(5, 4), layer=nn.MultiheadAttention(4, 2), head=nn.Linear(4, 2)
        ),
        draw(B, B, 5),
    ),
    "attention across": (
        lambda: Model(
            cross_attention,
            layer=nn.MultiheadAttention(4, 2, batch_first=True),
            other=nn.Linear(4, 4),
        ),
        draw(B, 3, 4),
    ),
    "attention by the fused kernel": (
        lambda: Model(
            lambda m, x: F.scaled_dot_product_attention(
                *m.qkv(x).view(B, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            ).flatten(2),
            qkv=nn.Linear(6, 24),
        ),
        draw(B, 5, 6),
    ),
    "transposed 1d": (lambda: nn.Sequential(nn.ConvTranspose1d(3, 2, 3, stride=2)), draw(B, 3, 5)),
    "strided 1d": (lambda: nn.Sequential(nn.Conv1d(12, 2, 3, stride=2, padding=1)), draw(B, 12, 9)),
    "wide and padded": (lambda: nn.Sequential(nn.Conv2d(9, 4, (3, 2), padding=(2, 1))), draw(B, 9, 6, 5)),
    "one by one": (lambda: nn.Sequential(nn.Conv2d(9, 4, 1)), draw(B, 9, 6, 5)),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)), draw(B, 4, 6, 5)),
    "dilated groups, by rows": (
        lambda: nn.Sequential(nn.Conv2d(12, 4, 3, padding=(2, 1), dilation=(2, 1), groups=2)),
        draw(B, 12, 6, 5),
    ),
    "strided, dilated groups": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=2, dilation=(1, 2), groups=2)),
        draw(B, 4, 7, 6),
    ),
    "3d": (lambda: nn.Sequential(nn.Conv3d(3, 2, (2, 3, 2), padding=1)), draw(B, 3, 4, 3, 5)),
    "transposed 2d": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)
        ),
        draw(B, 4, 4, 3),
    ),
    "transposed 2d, by rows": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3)), draw(B, 3, 4, 3)),
    "a kernel that is mostly outside": (
        lambda: nn.Sequential(nn.Conv2d(9, 2, 5, padding=4, dilation=2)),
        draw(B, 9, 3, 2),
    ),
    "same padding": (lambda: nn.Sequential(nn.Conv2d(9, 4, 3, padding="same")), draw(B, 9, 6, 5)),
    "a matrix over the examples": (
        lambda: Model(lambda m, x: x @ m.w.expand(B, 5, 2), w=nn.Parameter(draw(5, 2))),
        draw(B, 3, 5),
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(2, 1, 3)),
        draw(B, 3, 4, 4),
    ),
    "interpolated": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 3)),
        draw(B, 3, 4, 4),
    ),
    "rolled windows": (
        lambda: Model(
            lambda m, x: m.b(m.a(x).roll((1, 1), (1, 2))[:, 1:, ::2]), a=nn.Linear(3, 4), b=nn.Linear(4, 2)
        ),
        draw(B, 4, 4, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer(name: str) -> None:
    make, x = LAYERS[name]
    agree(seeded(make), x, tolerance=2e-3 if "attention" in name or "lstm" in name else 1e-4)


@pytest.mark.parametrize("name", [name for name in LAYERS if "Conv" in repr(seeded(LAYERS[name][0]))])
def test_convolutions_in_many_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two or three examples at a time, and inner products of a few outputs at a time."""
    make, x = LAYERS[name]
    model = seeded(make)
    whole = both(model, x)
    monkeypatch.setattr(convolutions, "_ROOM", {"cpu": 500})
    monkeypatch.setattr(convolutions, "_TABLE", 50)
    parts = both(model, x)
    for parameter in whole.squares:
        for kind in ("squares", "products", "spreads"):
            one, other = getattr(whole, kind)[parameter], getattr(parts, kind)[parameter]
            # an inner product of nearly orthogonal gradients is as exact as their lengths are
            least = 1e-6 * float(one.abs().max()) if kind == "products" else 1e-9
            assert torch.allclose(one, other, rtol=1e-5, atol=least), (parameter, kind)


def both(model: nn.Module, x: Tensor) -> ExampleGradients:
    loss = model(x).tanh().sum()
    names = {id(p): n for n, p in model.named_parameters()}
    probe = Probe(loss, names, examples=B, products=True, spreads={})
    loss.backward()
    return probe.close()


@pytest.mark.parametrize("name", [*LAYERS])
def test_some_of_the_examples_are_those_of_all(name: str) -> None:
    make, x = LAYERS[name]
    model = seeded(make)
    whole = measure(model, model(x).tanh().sum())
    names = {id(p): n for n, p in model.named_parameters()}
    loss = model(x).tanh().sum()
    probe = Probe(loss, names, examples=B, picked=[3, 1], check=3)
    loss.backward()
    part = probe.close()
    assert set(part.squares) == set(whole.squares) and part.missed == {}
    for parameter, squares in part.squares.items():
        assert torch.allclose(squares, whole.squares[parameter][[3, 1]], rtol=1e-4, atol=1e-9), parameter


@pytest.mark.parametrize("name", [*LAYERS])
def test_products_and_spreads_are_those_of_the_shares(name: str) -> None:
    make, x = LAYERS[name]
    model = seeded(make)
    params = dict(model.named_parameters())
    rows: dict[str, list[Tensor]] = {}
    for k in range(B):
        grads = torch.autograd.grad(model(x).tanh()[k].sum(), list(params.values()), allow_unused=True)
        for parameter, grad in zip(params, grads, strict=True):
            rows.setdefault(parameter, []).append(torch.zeros(()) if grad is None else grad)
    loss = model(x).tanh().sum()
    probe = Probe(loss, {id(p): n for n, p in params.items()}, examples=B, products=True, spreads={})
    loss.backward()
    found = probe.close()
    assert found.missed == {}
    for parameter in found.squares:
        shares = torch.stack(rows[parameter])
        wanted = shares.flatten(1) @ shares.flatten(1).T
        assert torch.allclose(found.products[parameter], wanted, rtol=2e-3, atol=1e-5), parameter
        assert found.spreads[parameter].shape == params[parameter].shape
        assert torch.allclose(found.spreads[parameter], shares.square().sum(dim=0), rtol=2e-3, atol=1e-5), (
            parameter
        )


def test_low_rank_weights_beside_a_frozen_base() -> None:
    parts = {"base": nn.Linear(5, 6), "up": nn.Linear(2, 6, bias=False), "down": nn.Linear(5, 2, bias=False)}
    model, x = seeded(lambda: Model(lora, **parts)), draw(B, 5)
    model.base.requires_grad_(False)
    found = measure(model, model(x).tanh().sum())
    mine = [model.up.weight, model.down.weight]
    alone = [torch.autograd.grad(model(x[k : k + 1]).tanh().sum(), mine) for k in range(B)]
    assert found.missed == {} and set(found.squares) == {"up.weight", "down.weight"}
    for place, name in enumerate(("up.weight", "down.weight")):
        wanted = torch.stack([grads[place].square().sum() for grads in alone])
        assert torch.allclose(found.squares[name], wanted, rtol=1e-4)


@pytest.mark.parametrize("wanted", [False, True])
def test_a_penalty_in_the_loss_belongs_to_all_examples_alike(wanted: bool) -> None:
    model = seeded(lambda: nn.Linear(5, 3))
    x = draw(B, 5)

    def loss(k: slice) -> Tensor:
        penalty = 0.1 * sum(p.square().sum() for p in model.parameters()) + 0.1 * model.weight.norm()
        return model(x)[k].tanh().sum() + penalty * (len(range(*k.indices(B))) / B)

    alone = [torch.autograd.grad(loss(slice(k, k + 1)), list(model.parameters())) for k in range(B)]
    probe = Probe(
        whole := loss(slice(None)),
        {id(p): n for n, p in model.named_parameters()},
        examples=B,
        check=2,
        products=wanted,
    )
    whole.backward()
    found = probe.close()
    assert found.missed == {} and found.checked
    for place, name in enumerate(("weight", "bias")):
        squares = torch.stack([grads[place].square().sum() for grads in alone])
        assert torch.allclose(found.squares[name], squares, rtol=1e-4)


def test_label_smoothing_reads_the_logits_by_two_ways() -> None:
    model, x, y = seeded(lambda: nn.Linear(5, 3)), draw(B, 5), tokens(B, classes=3)
    each = F.cross_entropy(model(x), y, label_smoothing=0.2, reduction="none")
    squares = [torch.autograd.grad(e, model.weight, retain_graph=True)[0].square().sum() / B**2 for e in each]
    found = measure(model, F.cross_entropy(model(x), y, label_smoothing=0.2))
    assert found.missed == {} and torch.allclose(found.squares["weight"], torch.stack(squares), rtol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_classes_and_ignored_tokens(reduction: str) -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7)))
    x, y = tokens(B, 6), tokens(B, 6, seed=1)
    y[0, 2:] = -100
    y[2] = -100
    settings = {"weight": torch.linspace(0.5, 2.0, 7), "reduction": reduction}
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), **settings)
    size = settings["weight"][y[y >= 0]].sum() if reduction == "mean" else 1.0
    wanted = []
    for k in range(B):
        part = F.cross_entropy(model(x)[k], y[k], weight=settings["weight"], reduction="sum") / size
        wanted.append(torch.autograd.grad(part, model[1].weight)[0].square().sum())
    found = measure(model, loss)
    assert torch.allclose(found.squares["1.weight"], torch.stack(wanted), rtol=1e-4)
    assert found.squares["1.weight"][2] == 0


def test_spreads_of_several_steps_add_up_and_what_is_left_out_loses_them() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)))
    names, totals = {id(p): n for n, p in model.named_parameters()}, {"0.weight": torch.ones(3, 5)}
    squares = []
    for seed in (0, 1):
        loss = model(draw(B, 5, seed=seed)).tanh().sum()
        probe = Probe(loss, names, examples=B, spreads=totals)
        loss.backward()
        squares.append(probe.close().squares)
    assert set(totals) == {"1.weight", "1.bias", "2.weight", "2.bias"}  # nothing is known below the norm
    for name, total in totals.items():
        assert torch.allclose(total.sum(), sum(found[name].sum() for found in squares)), name


@pytest.mark.parametrize("ghost", [0.0, 1e9], ids=["formed", "by rows"])
def test_products_by_either_way_and_in_pieces_are_the_same(
    ghost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lambda m, x: m.head(m.layer(m.embed(x)))  # noqa: E731
    parts = {"embed": nn.Embedding(7, 6), "layer": nn.Linear(6, 5), "head": nn.Linear(5, 3, bias=False)}
    model, x = seeded(lambda: Model(run, **parts)), tokens(B, 3)
    names = {id(p): n for n, p in model.named_parameters()}
    found = []
    for changed in (False, True):
        if changed:
            for name, value in (("_GHOST_PRODUCTS", ghost), ("_GHOST", ghost), ("_BLOCK", 50)):
                monkeypatch.setattr(formulas, name, value)
        loss = model(x).tanh().sum()
        probe = Probe(loss, names, examples=B, products=True)
        loss.backward()
        found.append(probe.close())
    assert found[1].missed == {} and set(found[1].products) == set(names.values())
    for name, products in found[1].products.items():
        assert torch.allclose(products, found[0].products[name], rtol=1e-4, atol=1e-6), name


def test_one_backward_of_an_lstm_serves_its_four_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed, once = [], formulas.Replay._backward
    monkeypatch.setattr(
        formulas.Replay, "_backward", lambda self, *given: replayed.append(given[1]) or once(self, *given)
    )
    model = seeded(lambda: recurrent(nn.LSTM, batch_first=True))
    found = measure(model, model(draw(B, 6, 5)).square().sum())
    assert len(found.squares) >= 4
    assert sorted(replayed) == list(range(B))
