"""Test the masked check and all that a model may hold which no formula expects: right, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.capture.per_example.test_probe import B, Model, agree, draw, measure, seeded, tokens
from vario.capture.graph import bottom_up
from vario.capture.per_example.masked import between, unsafe
from vario.capture.per_example.probe import Probe


def reason(loss: Tensor, model: nn.Module) -> str:
    order = bottom_up([loss.grad_fn])[::-1]
    leaves = {node for node in order if type(node).__name__ == "AccumulateGrad"}
    return unsafe(between(order, [order[0]], leaves))


def test_a_plain_graph_may_be_run_again_and_these_may_not() -> None:
    model, x = seeded(lambda: nn.Linear(5, 5)), draw(B, 5)
    assert reason(model(x).sum(), model) == ""
    again = checkpoint(lambda h: torch.relu(model(h)), model(x), use_reentrant=False)
    assert reason(again.sum(), model) == "tensors are saved by hooks"
    reentrant = checkpoint(lambda h: torch.relu(model(h)), model(x), use_reentrant=True)
    assert "written in Python" in reason(reentrant.sum(), model)
    handle = model.weight.register_hook(lambda g: g)
    assert reason(model(x).sum(), model) == "a parameter has a hook"
    handle.remove()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts_run_as_often_as_without_us(reentrant: bool) -> None:
    runs: list[int] = []
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)))

    def part(h: Tensor) -> Tensor:
        runs.append(1)
        return torch.relu(model[1](h))

    hidden = checkpoint(part, model[0](draw(B, 5)), use_reentrant=reentrant)
    found = measure(model, model[2](hidden).square().sum())
    assert len(runs) == 2
    assert set(found.squares) <= {"2.weight", "2.bias"} and "1.weight" not in found.squares
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_hooks_that_change_a_gradient_are_heard_after_it_was_changed() -> None:
    model, x = seeded(lambda: nn.Linear(5, 3)), draw(B, 5)
    output = model(x)
    output.register_hook(lambda g: 2 * g)
    found = measure(model, output.tanh().sum(), check=None)
    plain = measure(model, model(x).tanh().sum(), check=None)
    assert torch.allclose(found.squares["weight"], 4 * plain.squares["weight"])


def test_the_check_fails_where_its_own_backward_does_and_the_script_does_not() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3)))
    names = {id(p): n for n, p in model.named_parameters()}
    loss = model(draw(B, 5)).square().sum()
    probe = Probe(loss, names, examples=B, check=0)
    assert probe._alone is not None

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    probe._alone._send = fail  # type: ignore[method-assign]
    loss.backward()
    found = probe.close()
    assert found.squares == {} and "no" in found.missed["0.weight"] and len(found.batch_squares) == 4
    assert all(parameter.grad is not None for parameter in model.parameters())


ODD: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "half precision": lambda: (m := nn.Linear(5, 3).half(), m(draw(B, 5).half()).float().square().sum()),
    "bfloat16": lambda: (m := nn.Linear(5, 3).bfloat16(), m(draw(B, 5).bfloat16()).float().square().sum()),
    "double": lambda: (m := nn.Linear(5, 3).double(), m(draw(B, 5).double()).square().sum()),
    "mixed": lambda: (
        m := nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2).double()),
        m[1](m[0](draw(B, 5)).double()).square().sum(),
    ),
    "complex": lambda: (
        m := nn.Linear(5, 3, dtype=torch.complex64),
        torch.view_as_real(m(draw(B, 5).to(torch.complex64))).square().sum(),
    ),
    "sparse gradients": lambda: (m := nn.Embedding(7, 3, sparse=True), m(tokens(B, 4)).square().sum()),
    "scaled by frequency": lambda: (
        m := nn.Embedding(7, 3, scale_grad_by_freq=True),
        m(tokens(B, 4)).square().sum(),
    ),
    "not finite": lambda: (m := nn.Linear(5, 3), (m(draw(B, 5)) / 0).square().sum()),
    "meta": lambda: (m := nn.Linear(5, 3, device="meta"), m(draw(B, 5).to("meta")).square().sum()),
    "empty batch": lambda: (m := nn.Linear(5, 3), m(draw(0, 5)).square().sum()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ODD)
def test_odd_models_have_an_answer_or_a_reason_and_the_same_gradients(kind: str) -> None:
    model, loss = seeded(lambda: ODD[kind]())  # type: ignore[arg-type, return-value, misc]
    again, other = seeded(lambda: ODD[kind]())  # type: ignore[arg-type, return-value, misc]
    other.backward()
    found = measure(model, loss)
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        if kind != "meta":
            assert p.grad is not None and q.grad is not None
            assert torch.equal(p.grad.to_dense().nan_to_num(7.0), q.grad.to_dense().nan_to_num(7.0))
        if name in found.squares:
            wanted = p.grad.to_dense().abs().float().square().sum()
            assert torch.allclose(found.batch_squares[name].float(), wanted, rtol=1e-2, equal_nan=True)
        else:
            assert found.missed.get(name) or found.missed.get("")


def test_a_quantised_layer_is_passed_and_what_trains_around_it_is_seen() -> None:
    """As under an adapter: whole numbers and a scale are kept, and have no gradient."""

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("whole", (draw(6, 5) * 20).to(torch.int8))
            self.down, self.up = nn.Linear(5, 2, bias=False), nn.Linear(2, 6, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.whole.float() / 20) + self.up(self.down(x))

    model = seeded(lambda: nn.Sequential(nn.Linear(4, 5), Quantised(), nn.Linear(6, 2)))
    agree(model, draw(B, 4))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_torch_compiled_is_a_gap_and_what_surrounds_it_is_seen() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)))
    model[1] = torch.compile(model[1], backend="aot_eager")
    x = draw(B, 5)
    found = measure(model, model(x).square().sum())
    assert {"2.weight", "2.bias"} <= set(found.squares)  # nearer to the loss than the region
    missed = set(found.batch_squares) - set(found.squares)
    assert missed and all(found.missed[name] for name in missed)
    assert all("Compiled" in found.missed[name] for name in missed if "_orig_mod" in name)


def test_a_loss_that_needs_no_gradient_has_a_reason() -> None:
    assert "no output" in Probe(torch.ones(()), {}, examples=B).close().missed[""]


def test_experts_that_rows_are_routed_to_are_followed() -> None:
    """As many rows to each expert as there are examples, but not one of each."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        rows = m.into(x).reshape(-1, 5)
        order = x.reshape(-1, 5)[:, 0].argsort()
        first, second = order.chunk(2)
        mixed = torch.zeros_like(rows)
        mixed = mixed.index_add(0, first, m.first(rows[first])).index_add(0, second, m.second(rows[second]))
        return m.head(mixed.view(x.shape))

    parts = {name: nn.Linear(5, 5) for name in ("into", "first", "second", "head")}
    assert agree(seeded(lambda: Model(run, **parts)), draw(B, 2, 5)).checked


@pytest.mark.parametrize("length", [B, B + 2])
def test_time_first_rows_of_the_loss(length: int) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0)
    run = lambda m, x: m.head(m.layer(m.embed(x)))  # noqa: E731
    model = seeded(lambda: Model(run, embed=nn.Embedding(7, 8), layer=layer, head=nn.Linear(8, 7)))
    x = tokens(length, B)
    y = tokens(length, B, seed=1)
    names = {id(p): name for name, p in model.named_parameters()}
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    probe = Probe(loss, names, examples=B, check=1, time_first=True)
    loss.backward()
    found = probe.close()
    assert found.missed == {} and found.checked
    for k in range(B):
        part = F.cross_entropy(model(x[:, k : k + 1])[:, 0], y[:, k], reduction="sum") / y.numel()
        model.zero_grad()
        part.backward()
        for name, p in model.named_parameters():
            assert float(found.squares[name][k]) == pytest.approx(
                float(p.grad.square().sum()), rel=2e-3, abs=1e-9
            )


def test_a_compiled_region_is_one_operation_that_is_not_looked_into() -> None:
    class Region(torch.autograd.Function):
        """What a compiled graph is to autograd: one node that holds parameters."""

        @staticmethod
        def forward(ctx, x: Tensor, w: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
            ctx.save_for_backward(x, w)
            return torch.relu(x @ w)

        @staticmethod
        def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
            x, w = ctx.saved_tensors
            g = g * ((x @ w) > 0)
            return g @ w.T, x.T @ g

    model = Model(
        lambda m, x: Region.apply(x, m.w) @ m.v, w=nn.Parameter(draw(5, 4)), v=nn.Parameter(draw(4, 2))
    )
    found = measure(model, model(draw(B, 5)).square().sum())
    assert set(found.squares) == {"v"} and "RegionBackward" in found.missed["w"]


def test_a_backward_inside_autocast_is_measured_in_full_precision() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)))
    names, found = {id(p): n for n, p in model.named_parameters()}, []
    for inside in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(draw(B, 4, 5)).float().tanh().sum()
        probe = Probe(loss, names, examples=B, check=1, products=True, spreads={})
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            loss.backward()
        found.append(probe.close())
    assert found[1].missed == {}
    for of in ("squares", "products", "spreads", "batch_squares"):
        outside, inside_ = getattr(found[0], of), getattr(found[1], of)
        assert all(torch.allclose(inside_[n], outside[n], rtol=1e-5) for n in names.values()), of


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_the_script_sets_as_default_does_not_matter(dtype: torch.dtype) -> None:
    """A default device, as scripts set "cuda": no tensor of ours may land there by itself."""
    run = lambda m, x: m.head(m.layer(m.into(m.embed(x)))[0])  # noqa: E731
    parts = {"embed": nn.Embedding(7, 5), "into": nn.Linear(5, 5), "layer": nn.LSTM(5, 4, batch_first=True)}
    model = seeded(lambda: Model(run, head=nn.Linear(4, 2), **parts))
    names = {id(p): n for n, p in model.named_parameters()}
    plain = measure(model, model(tokens(B, 3)).square().sum())
    x, before = tokens(B, 3), torch.get_default_dtype()
    torch.set_default_device("meta")
    torch.set_default_dtype(dtype)
    try:
        loss = model(x).square().sum()
        probe = Probe(loss, names, examples=B, picked=[0, 2], check=2, products=True, spreads={})
        loss.backward()
        found = probe.close()
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)
    assert found.missed == plain.missed and set(found.spreads) == set(found.squares) == set(plain.squares)
    for name, squares in found.squares.items():
        assert torch.allclose(squares, plain.squares[name][[0, 2]], rtol=1e-4), name
