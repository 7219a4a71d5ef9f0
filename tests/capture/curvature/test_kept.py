"""Second derivatives from the kept graph, against dense algebra and torch.func in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from vario.capture.curvature.kept import KeptGraph
from vario.nouns import NotApplicable

F64 = torch.float64


class Attention(nn.Module):
    def __init__(self, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.into, self.out = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, 4)
        q, k, v = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in self.into(x).chunk(3, dim=-1))
        mask = None if self.causal else torch.linspace(-1, 1, 16, dtype=x.dtype).view(4, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2)).mean(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x)[0][:, -1])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4) * 0.5)
        self.between = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.between(torch.tanh(x @ self.weight.T))) @ self.weight.T


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (6, 4)),
    "gelu, norm": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 3)),
        (6, 4),
    ),
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)),
        (5, 1, 4, 4),
    ),
    "convs": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 2, groups=2), nn.Tanh()),
            *(nn.ConvTranspose2d(4, 2, 2, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)),
        ),
        (3, 1, 4, 4),
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)),
        (6, 4),
    ),
    "attention": (Attention, (3, 4, 4)),
    "attention, mask": (lambda: Attention(causal=False), (2, 4, 4)),
    "lstm": (Recurrent, (5, 3, 4)),
    "tied": (Tied, (6, 4)),
}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross entropy": F.cross_entropy,
    "mse": lambda z, y: F.mse_loss(z, F.one_hot(y, z.shape[-1]).to(z)),
    "bce": lambda z, y: F.binary_cross_entropy_with_logits(z, F.one_hot(y, z.shape[-1]).to(z)),
}


def build(name: str, dtype: torch.dtype = F64) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(3)
    make, shape = MODELS[name]
    model = make().to(dtype)
    return model, torch.randn(shape, dtype=dtype), torch.randint(0, 3, (shape[0],))


def ids(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def dense(of: Callable[[dict[str, Tensor]], Tensor], params: dict[str, Tensor]) -> Tensor:
    """The Hessian of a function of named parameters as one matrix, by torch.func in reverse twice.

    `torch.func.hessian` goes forward over reverse, which torch 2.13 gets wrong by 0.2 through LayerNorm
    (finite differences agree with reverse over reverse to 1e-10).
    """
    with sdpa_kernel(SDPBackend.MATH):
        blocks = jacrev(grad(of))(params)
    rows = []
    for a in params:
        rows.append(
            torch.cat([blocks[a][b].reshape(params[a].numel(), params[b].numel()) for b in params], 1)
        )
    return torch.cat(rows)


def matrix(product: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    return torch.stack([product(unit) for unit in torch.eye(len(like), dtype=like.dtype)], dim=1)


@pytest.mark.parametrize("name", MODELS)
def test_the_hessian_is_that_of_dense_algebra(name: str) -> None:
    model, x, y = build(name)
    model.train()
    state = copy.deepcopy(model.state_dict())
    with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
        found = matrix(kept.hessian, kept.zeros())
        flat = kept.gradient()
    model.load_state_dict(state)
    params = {n: p.detach() for n, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(p: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(
            functional_call(model, ({**p, **{k: b.clone() for k, b in buffers.items()}}), (x,)), y
        )

    torch.testing.assert_close(found, dense(loss, params), rtol=1e-5, atol=1e-9)
    expected = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    torch.testing.assert_close(flat, torch.cat([g.flatten() for g in expected]), rtol=1e-9, atol=1e-12)


CASES = [
    *(("mlp", loss) for loss in LOSSES),
    *((name, "cross entropy") for name in ("attention", "conv", "convs")),
    ("tied", "mse"),
]


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_gauss_newton_is_that_of_dense_algebra(name: str, loss: str) -> None:
    model, x, y = build(name)
    with KeptGraph(LOSSES[loss](model(x), y), ids(model)) as kept:
        found = matrix(kept.gauss_newton, kept.zeros())
    params = {n: p.detach() for n, p in model.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):
        jacobians = jacrev(lambda p: functional_call(model, p, (x,)).flatten())(params)
    jacobian = torch.cat([jacobians[n].reshape(-1, params[n].numel()) for n in params], 1)
    z = model(x).detach()
    inner = torch.func.hessian(lambda flat: LOSSES[loss](flat.view_as(z), y))(z.flatten())
    torch.testing.assert_close(found, jacobian.T @ inner @ jacobian, rtol=1e-5, atol=1e-9)


def test_the_graph_is_as_it_was_for_the_script() -> None:
    for name in MODELS:
        results = []
        for watched in (False, True):
            model, x, y = build(name, torch.float32)
            loss = F.cross_entropy(model(x), y)
            if watched:
                with KeptGraph(loss, ids(model)) as kept:
                    start = torch.randn(kept.size, generator=torch.Generator().manual_seed(0))
                    kept.hessian(start)
                    kept.gauss_newton(start)
                assert all(parameter.grad is None for parameter in model.parameters())
            loss.backward()
            results.append([p.grad.clone() for p in model.parameters()] + [torch.get_rng_state()])
            results[-1] += [b.clone() for b in model.buffers()]
        for bare, seen in zip(*results, strict=True):
            assert torch.equal(bare, seen), name


def test_some_rows_are_the_loss_of_these_rows_alone() -> None:
    model, x, y = build("mlp")
    rows = [0, 3, 5]
    with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
        part = kept.part(rows, examples=6)
        found, flat = matrix(part.hessian, kept.zeros()), part.gradient()
    with KeptGraph(F.cross_entropy(model(x[rows]), y[rows]), ids(model)) as alone:
        torch.testing.assert_close(found, matrix(alone.hessian, alone.zeros()), rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(flat, alone.gradient())


def test_a_scaled_loss_is_measured_unscaled() -> None:
    model, x, y = build("mlp")
    vector = torch.ones(43, dtype=F64)
    with KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept:
        expected = kept.hessian(vector), kept.gauss_newton(vector), kept.gradient()
    with KeptGraph(F.cross_entropy(model(x), y) / 4, ids(model), scale=0.25) as kept:
        found = kept.hessian(vector), kept.gauss_newton(vector), kept.gradient()
    torch.testing.assert_close(found, expected)


def test_precisions_and_frozen_layers() -> None:
    model, x, y = build("mlp", torch.float32)
    model[0].double()
    model[2].weight.requires_grad_(False)
    loss = F.cross_entropy(model[2](model[1](model[0](x.double())).float()), y)
    with KeptGraph(loss, ids(model)) as kept:
        assert kept.names == ["0.weight", "0.bias", "2.bias"]
        assert list(kept.missed) == ["2.weight"]
        assert kept.hessian(kept.zeros() + 1).isfinite().all()
    half, x, y = build("mlp", torch.bfloat16)
    with KeptGraph(F.cross_entropy(half(x), y), ids(half)) as kept:
        assert kept.hessian(kept.zeros() + 1).dtype == torch.float32


def linear_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    del y
    return model[2](model[0](x)).sum()


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


def hooked(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    model[0].weight.register_hook(lambda g: g)
    return F.cross_entropy(model(x), y)


def module_hooked(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    model[0].register_full_backward_hook(lambda *a: None)
    return F.cross_entropy(model(x), y)


def checkpointed(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from torch.utils.checkpoint import checkpoint

    return F.cross_entropy(checkpoint(model, x, use_reentrant=False), y)


def compiled(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    torch._dynamo.reset()
    return F.cross_entropy(torch.compile(model, backend="aot_eager")(x), y)


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "not finite": (lambda m, x, y: F.cross_entropy(m(x * float("inf")), y), "the loss is nan"),
    "empty batch": (lambda m, x, y: F.cross_entropy(m(x[:0]), y[:0]), "the loss is nan"),
    "several": (lambda m, x, y: [m(x).sum(), m(x).mean()], "one number"),
    "vector": (lambda m, x, y: m(x), "one number"),
    "no graph": (lambda m, x, y: m(x).detach().sum(), "does not depend"),
    "of nothing trained": (lambda m, x, y: x.clone().requires_grad_().square().sum(), "none of the param"),
    "own function": (lambda m, x, y: F.cross_entropy(Own.apply(m(x)), y), "code of the script's own"),
    "hook": (hooked, "hook of the script's own"),
    "module hook": (module_hooked, "backward hook of the script's own"),
    "checkpoint": (checkpointed, "saved by hooks"),
    "compiled": (compiled, "compiled region"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_refused_and_the_script_goes_on(case: str) -> None:
    model, x, y = build("mlp", torch.float32)
    make, reason = REFUSED[case]
    loss = make(model, x, y)
    with pytest.raises(NotApplicable, match=reason):
        KeptGraph(loss, ids(model))
    if isinstance(loss, Tensor) and loss.requires_grad and loss.dim() == 0:
        loss.backward()


def test_a_linear_loss_has_no_curvature_and_no_known_outputs() -> None:
    model, x, y = build("mlp")
    with KeptGraph(model[2](x @ torch.ones(4, 5, dtype=F64)).sum(), ids(model)) as kept:
        assert not kept.hessian(kept.zeros() + 1).any()
        with pytest.raises(NotApplicable, match="no loss function"):
            kept.gauss_newton(kept.zeros() + 1)


def test_an_operation_without_a_second_derivative_is_refused() -> None:
    weight = nn.Parameter(torch.randn(5, 3))
    bag = F.embedding_bag(torch.tensor([[0, 1], [2, 3]]), weight, sparse=True)
    with pytest.raises(NotApplicable, match="sparse|cannot be taken"):
        with KeptGraph(bag.square().sum(), {id(weight): "weight"}) as kept:
            kept.hessian(kept.zeros() + 1)


def test_rows_that_mix_are_refused() -> None:
    model, x, y = build("batch norm")
    with (
        KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept,
        pytest.raises(NotApplicable, match="mixes"),
    ):
        kept.part([0], examples=6)
    model, x, y = build("mlp")
    with (
        KeptGraph(F.cross_entropy(model(x), y), ids(model)) as kept,
        pytest.raises(NotApplicable, match="rows"),
    ):
        kept.part([0], examples=4)
