from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vario.capture.per_example import axis_rules
from vario.capture.per_example.probe import ExampleGradients, Probe

B = 4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, classes: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


class Model(nn.Module):
    """A model from a dictionary of parts and a function of them."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def measure(model: nn.Module, loss: Tensor, examples: int = B, check: int | None = 1) -> ExampleGradients:
    names = {id(p): n for n, p in model.named_parameters()}
    probe = Probe(loss, names, examples=examples, check=check)
    loss.backward()
    return probe.close()


def one_by_one(model: nn.Module, losses: Callable[[], Tensor], examples: int = B) -> dict[str, Tensor]:
    """The definition: the gradient of each example's part of the loss, squared and summed."""
    found: dict[str, list[Tensor]] = {}
    for example in range(examples):
        model.zero_grad()
        losses()[example].backward()
        for name, p in model.named_parameters():
            found.setdefault(name, []).append(
                p.grad.square().sum() if p.grad is not None else torch.zeros(())
            )
    model.zero_grad()
    return {name: torch.stack(squares) for name, squares in found.items()}


def agree(
    model: nn.Module,
    x: Tensor,
    *,
    missed: set[str] = frozenset(),
    flat: bool = True,
    seed: int = 9,
    tolerance: float = 1e-4,
) -> ExampleGradients:
    """Every parameter but those of ``missed`` has the norms of the definition."""
    weights = draw(*model(x).shape, seed=seed)  # so that no gradient is special

    def losses() -> Tensor:
        return (model(x).tanh() * weights).flatten(1).sum(dim=1) / B

    wanted = one_by_one(model, losses)
    output = model(x).tanh() * weights
    result = measure(model, output.sum() / B if not flat else output.flatten().sum() / B)
    assert set(result.missed) == missed, result.missed
    assert set(result.squares) == set(wanted) - missed
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=tolerance, atol=1e-10), name
        grad = dict(model.named_parameters())[name].grad
        assert grad is not None
        assert torch.allclose(result.batch_squares[name], grad.square().sum(), rtol=1e-4)
    return result


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


@pytest.mark.parametrize("shape", [(B, 5), (B, 3, 5), (B, 2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_over_rows_and_sequences(shape: tuple[int, ...], bias: bool) -> None:
    agree(
        seeded(lambda: nn.Sequential(nn.Linear(5, 6, bias=bias), nn.GELU(), nn.Linear(6, 2, bias=bias))),
        draw(*shape),
    )


def test_long_sequences_take_the_other_formula() -> None:
    agree(seeded(lambda: nn.Linear(3, 2)), draw(B, 40, 3))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: nn.Conv1d(3, 4, 3, padding=1), (B, 3, 9)),
        (lambda: nn.Conv2d(3, 4, 3), (B, 3, 7, 6)),
        (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (B, 4, 7, 6)),
        (lambda: nn.Conv2d(3, 4, 3, dilation=2, bias=False), (B, 3, 7, 7)),
        (lambda: nn.Conv3d(2, 3, 2), (B, 2, 4, 3, 3)),
        (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2), (B, 3, 4, 4)),
    ],
    ids=["1d", "2d", "stride and groups", "dilation", "3d", "transposed"],
)
def test_convolutions(layer: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    agree(seeded(lambda: nn.Sequential(layer(), nn.ReLU())), draw(*shape))


def test_a_convolutional_net_with_pools_and_a_head() -> None:
    def make() -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1)),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5)),
        )

    agree(seeded(make), draw(B, 1, 10, 10))


@pytest.mark.parametrize("shape, normal", [((B, 6), (6,)), ((B, 3, 6), (6,)), ((B, 3, 6), (3, 6))])
def test_layer_norm(shape: tuple[int, ...], normal: tuple[int, ...]) -> None:
    agree(seeded(lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(normal))), draw(*shape))


@pytest.mark.parametrize("length", [5, 300])
def test_embeddings_with_repeated_tokens_and_padding(length: int) -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(7, 3, padding_idx=2), nn.Linear(3, 2)))
    agree(model, tokens(B, length))


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_whose_layout_has_the_batch_first_or_second_inside(batch_first: bool) -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        x = x if batch_first else x.transpose(0, 1)
        y = m.layer(m.embed(x))
        y = y if batch_first else y.transpose(0, 1)
        return m.head(y)

    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first, dropout=0.0)
    model = seeded(lambda: Model(run, embed=nn.Embedding(7, 8), layer=layer, head=nn.Linear(8, 3)))
    agree(model, tokens(B, 5), tolerance=1e-3)


def test_a_sequence_as_long_as_the_batch_is_no_trap() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        y = m.layer(m.embed(x).transpose(0, 1))
        return m.head(y.transpose(0, 1))

    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0)
    model = seeded(lambda: Model(run, embed=nn.Embedding(7, 8), layer=layer, head=nn.Linear(8, 3)))
    agree(model, tokens(B, B), tolerance=1e-3)


def test_a_module_called_twice() -> None:
    model = seeded(lambda: Model(lambda m, x: m.fc(torch.tanh(m.fc(x))), fc=nn.Linear(5, 5)))
    agree(model, draw(B, 3, 5))


def test_weights_tied_between_an_embedding_and_the_head() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(m.fc(m.embed(x))), m.embed.weight)

    agree(seeded(lambda: Model(run, embed=nn.Embedding(7, 5), fc=nn.Linear(5, 5))), tokens(B, 3))


def test_weights_tied_between_two_modules() -> None:
    def tied() -> nn.Module:
        parts = {"embed": nn.Embedding(7, 5), "fc": nn.Linear(5, 5), "head": nn.Linear(5, 7)}
        model = Model(lambda m, x: m.head(torch.tanh(m.fc(m.embed(x)))), **parts)
        model.head.weight = model.embed.weight
        return model

    found = agree(seeded(tied), tokens(B, 3))
    assert set(found.squares) == {"embed.weight", "fc.weight", "fc.bias", "head.bias"}


def test_functional_products_and_raw_parameters() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        return F.linear((torch.relu(x @ m.matrix) * m.gain + m.shift).square() - m.offset, m.other)

    parts = {
        "matrix": draw(5, 6),
        "gain": draw(6, seed=1),
        "shift": draw(3, 6, seed=2),
        "offset": draw(1, 6, seed=3),
        "other": draw(2, 6, seed=4),
    }
    agree(Model(run, **{name: nn.Parameter(value) for name, value in parts.items()}), draw(B, 3, 5))


def test_in_place_calls_and_residual_connections() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        h = m.a(x)
        h = F.relu(h, inplace=True)
        h = h + m.b(h)
        h += x
        return m.c(h)

    agree(seeded(lambda: Model(run, a=nn.Linear(5, 5), b=nn.Linear(5, 5), c=nn.Linear(5, 2))), draw(B, 5))


def test_frozen_parameters_have_no_share_and_are_no_gap() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)))
    model[0].requires_grad_(False)
    x = draw(B, 5)
    result = measure(model, model(x).square().sum() / B)
    assert set(result.squares) == {"2.weight", "2.bias"} and result.missed == {}


def test_batch_norm_in_train_mode_mixes_examples_and_in_eval_mode_does_not() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)))
    result = measure(model, model(draw(B, 5)).square().sum())
    assert set(result.squares) == {"1.weight", "1.bias", "2.weight", "2.bias"}  # nothing is mixed above it
    assert {"0.weight", "0.bias"} == set(result.missed)
    assert all("BatchNorm in train mode" in reason for reason in result.missed.values())
    model.eval().zero_grad()
    agree(model, draw(B, 5))


def test_rows_that_are_regrouped_are_followed() -> None:
    """A router gives half of all rows to each expert: their places no longer tell the example."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 5)
        order = rows[:, 0].argsort()
        half = len(order) // 2
        parts = torch.cat([m.first(rows[order[:half]]), m.second(rows[order[half:]])])
        return m.head(parts[order.argsort()]).reshape(B, -1)

    agree(
        seeded(lambda: Model(run, first=nn.Linear(5, 5), second=nn.Linear(5, 5), head=nn.Linear(5, 2))),
        draw(B, 6, 5),
    )


@pytest.mark.parametrize("time_first", [False, True])
def test_a_batch_turned_so_that_rows_lie_inside_is_refused_unless_it_is_told(time_first: bool) -> None:
    """The rows of the loss are (time x batch): taken for examples they would be mixed by the recurrence."""

    def run(m: nn.Module, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[1], 5)
        outputs = []
        for row in x:
            state = torch.tanh(m.step(state) + row)
            outputs.append(state)
        return m.head(torch.cat(outputs))

    model = seeded(lambda: Model(run, step=nn.Linear(5, 5), head=nn.Linear(5, 2)))
    x, weights = draw(B, 3, 5).transpose(0, 1) if time_first else draw(B, 3, 5), draw(12, 2, seed=2)
    loss = (model(x).tanh() * weights).sum()
    probe = Probe(loss, {id(p): n for n, p in model.named_parameters()}, examples=B, time_first=time_first)
    loss.backward()
    result = probe.close()
    if not time_first:
        assert result.squares == {}
        return
    wanted = one_by_one(model, lambda: (model(x).tanh() * weights).view(3, B, 2).sum((0, 2)))
    assert result.missed == {}
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=1e-4), name


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts_are_gaps_and_backward_goes_on(reentrant: bool) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 2)))
    hidden = checkpoint(lambda h: torch.relu(model[1](h)), model[0](draw(B, 5)), use_reentrant=reentrant)
    result = measure(model, model[2](hidden).square().sum(), check=None)
    assert {"2.weight", "2.bias"} <= set(result.squares)
    assert not {"1.weight"} & set(result.squares) or not reentrant
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_custom_function_that_holds_the_weight_is_a_gap() -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor, w: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
            ctx.save_for_backward(x, w)
            return x @ w

        @staticmethod
        def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def, override]
            x, w = ctx.saved_tensors
            return g @ w.T, x.T @ g

    model = Model(lambda m, x: Product.apply(x, m.w), w=nn.Parameter(draw(5, 2)))
    result = measure(model, model(draw(B, 5)).square().sum())
    assert (
        result.squares == {}
        and result.missed == {"w": "the examples cannot be followed to ProductBackward"}
        or (result.missed == {"w": "ProductBackward is not understood"})
    )


def test_autocast_in_bfloat16() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)))
    x, y = draw(B, 5), tokens(B, classes=3)

    def loss(reduction: str) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(model(x), y, reduction=reduction)

    wanted = one_by_one(model, lambda: loss("none") / B)
    result = measure(model, loss("mean"))
    assert set(result.squares) == set(wanted)
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=0.05, atol=1e-5), name


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_shares_sum_to_the_gradient_whatever_the_reduction(reduction: str) -> None:
    model = seeded(lambda: nn.Linear(5, 3))
    x, y = draw(B, 5), tokens(B, classes=3)
    wanted = one_by_one(
        model, lambda: F.cross_entropy(model(x), y, reduction="none") / (B if reduction == "mean" else 1)
    )
    result = measure(model, F.cross_entropy(model(x), y, reduction=reduction))
    for name, squares in result.squares.items():
        assert torch.allclose(squares, wanted[name], rtol=1e-4)


def test_accumulated_gradients_do_not_leak_into_the_batch_square() -> None:
    model = seeded(lambda: nn.Linear(5, 3))
    first = measure(model, model(draw(B, 5)).square().sum())
    second = measure(model, model(draw(B, 5)).square().sum())
    assert torch.equal(first.batch_squares["weight"], second.batch_squares["weight"])


def test_gradients_are_bitwise_those_without_a_probe_and_the_graph_is_let_go() -> None:
    import gc
    import weakref

    def gradients(probed: bool) -> list[Tensor]:
        model = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)))
        loss = model(draw(B, 5)).square().sum()
        if probed:
            measure(model, loss)
        else:
            loss.backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    for plain, probed in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(plain, probed)
    model = nn.Linear(5, 3)
    x = draw(B, 5)
    hidden = x * 2
    kept = weakref.ref(hidden)
    loss = model(hidden).square().sum()
    del hidden
    measure(model, loss)
    del loss
    gc.disable()
    try:
        assert kept() is None, "a cycle holds the graph until the collector comes"
    finally:
        gc.enable()


@pytest.mark.parametrize("examples", [1, 3])
def test_batches_of_one_and_sizes_that_do_not_fit(examples: int) -> None:
    model = seeded(lambda: nn.Linear(5, 3))
    result = measure(
        model, model(draw(examples if examples == 1 else 4, 5)).square().sum(), examples=examples
    )
    if examples == 1:
        assert torch.allclose(result.squares["weight"][0], result.batch_squares["weight"])
    else:
        assert result.squares == {} and "no output of 3 examples" in result.missed[""]


def test_a_product_with_a_factor() -> None:
    run = lambda m, x: torch.addmm(m.b, x, m.w, alpha=2.0)  # noqa: E731
    agree(Model(run, w=nn.Parameter(draw(5, 2)), b=nn.Parameter(draw(2))), draw(B, 5))


def test_the_check_refuses_what_a_wrong_rule_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(axis_rules._RULES, "NativeBatchNorm", lambda _node, at, *_rest: at)
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)))
    x = draw(B, 5)
    assert "0.weight" in measure(model, model(x).square().sum(), check=None).squares
    checked = measure(model, model(x).square().sum(), check=1)
    assert "one example alone" in checked.missed["0.weight"] and "0.weight" not in checked.squares
    assert "2.weight" in checked.squares


@pytest.mark.parametrize(
    "mix",
    [
        lambda h: h - h.mean(dim=0, keepdim=True),
        lambda h: h @ h.T @ h,
        lambda h: h.flip(0),
        lambda h: h / h.abs().mean(),
        nn.BatchNorm1d(5),
    ],
    ids=["mean over the batch", "products of examples", "turned round", "one number of all", "batch norm"],
)
def test_mixed_examples_are_refused_even_without_the_check(mix: Callable[[Tensor], Tensor]) -> None:
    model = seeded(lambda: nn.Linear(5, 5))
    result = measure(model, mix(model(draw(B, 5))).tanh().sum(), check=None)
    assert result.squares == {} and ({"weight", "bias"} <= set(result.missed) or "" in result.missed)


def test_a_factor_of_a_number_made_of_all_examples_is_no_term_of_the_loss() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.layer(x)
        return hidden / (hidden.abs().mean() * m.scale)

    model = seeded(lambda: Model(run, layer=nn.Linear(5, 5), scale=nn.Parameter(torch.tensor(0.7))))
    result = measure(model, model(draw(B, 5)).tanh().sum(), check=None)
    assert result.squares == {} and "cannot be followed" in result.missed["scale"]


def test_transposed_and_selected_activations_are_followed() -> None:
    def run(m: nn.Module, x: Tensor) -> Tensor:
        pair = m.a(x).reshape(B, 2, 3)
        return m.b((pair[:, 0] * pair.unbind(1)[1]).t().contiguous().t())

    agree(seeded(lambda: Model(run, a=nn.Linear(5, 6), b=nn.Linear(3, 2))), draw(B, 5))
