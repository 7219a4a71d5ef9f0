from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vario.capture.graph import Seen, walk


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen_of(model: nn.Module, loss: Tensor) -> Seen:
    return walk(loss, {id(parameter): name for name, parameter in model.named_parameters()})


def kinds(seen: Seen) -> list[tuple[str, str]]:
    return [(activation.where, activation.kind) for activation in seen.activations]


def value_of(seen: Seen, where: str, kind: str) -> Tensor:
    found = [a.value for a in seen.activations if (a.where, a.kind) == (where, kind)]
    assert len(found) == 1, kinds(seen)
    return found[0]


class Functional(nn.Module):
    """Nonlinearities as functions, in place, and across a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 3)
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.kept["conv"] = self.conv(x)
        x = self.kept["relu"] = F.relu(self.norm(x), inplace=True)
        x = x.mean(dim=(2, 3))
        x = x + self.kept.setdefault("tanh", torch.tanh(self.inner(x)))
        y: Tensor = self.head(F.gelu(x))
        return y


def test_functional_calls_are_seen_and_named_after_the_module_that_feeds_them() -> None:
    torch.manual_seed(0)
    model = Functional()
    loss = F.cross_entropy(model(draw(5, 1, 8, 8)), torch.zeros(5, dtype=torch.long))
    seen = seen_of(model, loss)
    assert set(kinds(seen)) == {("conv", "conv"), ("norm", "relu"), ("inner", "tanh"), ("inner", "gelu")}
    for where, kind, name in (("conv", "conv", "conv"), ("norm", "relu", "relu"), ("inner", "tanh", "tanh")):
        assert torch.equal(value_of(seen, where, kind), model.kept[name])
    assert seen.missed == {} and not seen.double_softmax


@pytest.mark.parametrize(
    "module, kind",
    [(nn.ReLU(), "relu"), (nn.ReLU(inplace=True), "relu"), (nn.Sigmoid(), "sigmoid"), (nn.Tanh(), "tanh")]
    + [(nn.GELU(), "gelu"), (nn.SiLU(), "silu"), (nn.LeakyReLU(), "leaky_relu"), (nn.Hardtanh(), "tanh")]
    + [(nn.ReLU6(), "relu"), (nn.Softmax(dim=-1), "softmax"), (nn.LeakyReLU(inplace=True), "leaky_relu")],
    ids=repr,
)
def test_each_nonlinearity_between_two_layers_gives_its_exact_output(module: nn.Module, kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), module, nn.Linear(8, 2))
    outputs: list[Tensor] = []
    module.register_forward_hook(lambda _module, _args, output: outputs.append(output.detach().clone()))
    loss = model(draw(20, 6)).square().sum()
    value = value_of(seen_of(model, loss), "0", kind)
    assert torch.equal(value, outputs[0])


@pytest.mark.parametrize("kind, channel_dim", [("conv1d", 1), ("sequence", 2), ("rows", 1), ("batchnorm", 1)])
def test_the_axis_of_channels_follows_the_layer_below(kind: str, channel_dim: int) -> None:
    model: nn.Module = {
        "conv1d": nn.Conv1d(3, 7, 2),
        "sequence": nn.Linear(4, 7),
        "rows": nn.Linear(4, 7),
        "batchnorm": nn.BatchNorm1d(3),
    }[kind]
    seen = seen_of(model, F.relu(model(draw(5, 4) if kind == "rows" else draw(5, 3, 4))).sum())
    (relu,) = [a for a in seen.activations if a.kind == "relu"]
    assert relu.channel_dim == channel_dim
    assert relu.value.shape[channel_dim] == (3 if kind == "batchnorm" else 7)


def test_layers_feed_layers_and_a_transformer_is_seen_at_every_block() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0, activation="gelu")
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    found = kinds(seen_of(model, model(draw(3, 5, 8)).square().sum()))
    for block in ("layers.0", "layers.1"):
        assert (f"{block}.linear1", "gelu") in found and (f"{block}.norm1", "norm") in found


def test_a_raw_parameter_without_a_module_lends_its_own_name() -> None:
    weight = nn.Parameter(draw(4, 4))
    loss = torch.relu(draw(2, 4) @ weight).sum()
    assert kinds(walk(loss, {id(weight): "weight"})) == [("weight", "relu")]


def test_a_module_called_twice_is_seen_twice() -> None:
    model = nn.ModuleDict({"cell": nn.Linear(4, 4)})
    cell = model["cell"]
    seen = seen_of(model, F.relu(cell(F.relu(cell(draw(2, 4))))).sum())
    assert kinds(seen).count(("cell", "relu")) == 2


def test_a_change_in_place_of_a_view_hides_its_nonlinearity_and_is_told() -> None:
    model = nn.Linear(4, 4)
    seen = seen_of(model, F.relu(model(draw(2, 3, 4)), inplace=True).sum())
    assert seen.activations == [] and seen.missed == {"CopySlices": 1}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts_are_left_alone_and_told(reentrant: bool) -> None:
    torch.manual_seed(0)
    first, inner, last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
    model, calls = nn.ModuleList([first, inner, last]), []

    def part(x: Tensor) -> Tensor:
        calls.append(1)
        return F.relu(inner(x))

    x = F.relu(first(draw(3, 4)))
    loss = F.relu(last(checkpoint(part, x, use_reentrant=reentrant))).sum()
    seen = seen_of(model, loss)
    assert len(calls) == 1, "the walk must not compute a part anew"
    assert ("0", "relu") in kinds(seen) and ("2", "relu") in kinds(seen)
    assert ("1", "relu") not in kinds(seen)
    assert sum(seen.missed.values()) > 0
    loss.backward()
    assert len(calls) == 2 and inner.weight.grad is not None


def test_what_was_changed_in_place_is_told_and_the_users_own_error_stays() -> None:
    model = nn.Linear(4, 4)
    hidden = torch.sigmoid(model(draw(3, 4)))
    loss = hidden.sum()
    hidden.data.add_(0)
    with torch.no_grad():
        hidden.add_(1)
    seen = seen_of(model, loss)
    assert seen.activations == [] and seen.missed == {"changed in place or released": 1}
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_graph_that_was_released_is_no_error() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    loss = model(draw(3, 4)).sum()
    loss.backward()
    assert seen_of(model, loss).activations == []


def doubled(name: str, x: Tensor) -> Tensor:
    target = torch.zeros(3, dtype=torch.long)
    return {
        "softmax, cross entropy": lambda: F.cross_entropy(x.softmax(dim=1), target),
        "softmax, view, cross entropy": lambda: F.cross_entropy(
            x.view(1, 3, 4).softmax(dim=-1).view(3, 4), target
        ),
        "sigmoid, its own loss": lambda: F.binary_cross_entropy_with_logits(x.sigmoid(), torch.ones(3, 4)),
        "cross entropy": lambda: F.cross_entropy(x, target),
        "sigmoid, cross entropy of probabilities": lambda: F.binary_cross_entropy(
            x.sigmoid(), torch.ones(3, 4)
        ),
        "softmax, cross entropy by hand": lambda: (
            (p := x.softmax(dim=1)).logsumexp(dim=1) - p[torch.arange(3), target]
        ).mean(),
        "cross entropy by hand": lambda: (x.logsumexp(dim=1) - x[torch.arange(3), target]).mean(),
        "log of softmax": lambda: F.nll_loss(x.softmax(dim=1).log(), target),
        "attention": lambda: F.cross_entropy(x.softmax(dim=1) @ torch.ones(4, 5), target),
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["softmax, cross entropy", "softmax, view, cross entropy", "sigmoid, its own loss"]
    + ["softmax, cross entropy by hand"],
)
def test_a_doubled_softmax_is_seen(name: str) -> None:
    model = nn.Linear(4, 4)
    assert seen_of(model, doubled(name, model(draw(3, 4)))).double_softmax


@pytest.mark.parametrize(
    "name", ["cross entropy", "sigmoid, cross entropy of probabilities", "log of softmax", "attention"]
)
def test_a_single_softmax_is_not_taken_for_two(name: str) -> None:
    model = nn.Linear(4, 4)
    assert not seen_of(model, doubled(name, model(draw(3, 4)))).double_softmax


def test_gradients_are_bitwise_those_without_a_walk_and_nothing_is_kept() -> None:
    def gradients(look: Callable[[nn.Module, Tensor], object]) -> list[Tensor]:
        torch.manual_seed(0)
        model = Functional()
        loss = F.cross_entropy(model(draw(5, 1, 8, 8)), torch.zeros(5, dtype=torch.long))
        look(model, loss)
        loss.backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    held: list[weakref.ref[Tensor]] = []

    def look(model: nn.Module, loss: Tensor) -> None:
        seen = seen_of(model, loss)
        held.extend(weakref.ref(activation.value) for activation in seen.activations)

    for plain, walked in zip(gradients(lambda _model, _loss: None), gradients(look), strict=True):
        assert torch.equal(plain, walked)
    gc.collect()
    assert held and all(reference() is None for reference in held)


def test_losses_without_a_graph_and_several_losses_are_no_error() -> None:
    model = nn.Linear(4, 4)
    assert seen_of(model, torch.ones(())).activations == []
    both = [F.relu(model(draw(2, 4))).sum(), torch.ones(()), torch.tanh(model(draw(2, 4))).sum()]
    seen = walk(both, {id(p): f"fc.{n}" for n, p in model.named_parameters()})
    assert {("fc", "relu"), ("fc", "tanh")} <= set(kinds(seen))
    assert seen_of(nn.Linear(1, 1), both[0]).activations == [], "parameters of others have no name here"


def test_a_compiled_region_is_told_as_opaque() -> None:
    class CompiledFunction(torch.autograd.Function):
        """Stands for the node that a compiler puts in the place of a whole region."""

        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
            return grad * 2

    model = nn.Linear(4, 4)
    assert seen_of(model, CompiledFunction.apply(model(draw(2, 4))).sum()).missed == {
        "CompiledFunctionBackward": 1
    }


def test_a_layer_without_a_bias_is_a_layer_and_a_product_of_activations_is_none() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.GELU(), nn.Linear(4, 1))
    assert ("0", "linear") in kinds(seen_of(model, model(draw(3, 4)).sum()))
    layer = nn.ModuleDict({"fc": nn.Linear(4, 4)})
    hidden = torch.sigmoid(layer["fc"](draw(4, 4)))
    assert kinds(seen_of(layer, F.gelu(hidden @ hidden.T).sum())) == [("fc", "sigmoid")]


def test_what_an_lstm_gives_out_is_seen() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 5, batch_first=True), "head": nn.Linear(5, 2)})
    outputs, _ = model["lstm"](draw(4, 6, 3))
    seen = seen_of(model, model["head"](outputs[:, -1]).sum())
    assert torch.equal(value_of(seen, "lstm", "lstm"), outputs.detach().transpose(0, 1))
