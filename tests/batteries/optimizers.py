"""What every optimizer must do, whatever its mathematics: the contract of ``torch.optim``."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.batteries._method import Method

SHAPES = ((), (5,), (4, 3), (2, 3, 2, 2))
LR = 0.01


def applies(method: Method) -> bool:
    """Parameter groups are tested on their own."""
    return str(method.card["slot"]).startswith("optimizer")


def make(method: Method, params: Any, lr: float = LR) -> torch.optim.Optimizer:
    """``slot`` optimizer: the class takes parameters; optimizer-around: it takes an optimizer."""
    if method.card["slot"] == "optimizer-around":
        return method.thing(torch.optim.AdamW(params, lr=lr), **method.example)
    return method.thing(params, lr=lr, **method.example)


def draw(seed: int, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    source = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=source).to(dtype)) for shape in SHAPES]


def advance(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range) -> None:
    """Steps on gradients that depend on the step alone, one of them a spike."""
    for step in steps:
        source = torch.Generator().manual_seed(1000 + step)
        for p in params:
            grad = torch.randn(p.shape, generator=source) * (100.0 if step == 3 else 1.0)
            p.grad = grad.to(p.dtype)
        run_step(optimizer, params)


def run_step(optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> None:
    """``step()``, or ``step(closure)`` for the methods that need a second gradient."""
    if getattr(optimizer, "second_pass", False):
        first = [p.grad for p in params]

        def closure() -> Tensor:
            for p, g in zip(params, first, strict=True):
                p.grad = None if g is None else g + 0.1 * p.detach()
            return torch.tensor(0.0)

        optimizer.step(closure)
    else:
        optimizer.step()


def values(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def check_is_an_optimizer(method: Method) -> None:
    optimizer = make(method, draw(0))
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert type(optimizer.param_groups[0]["lr"]) is float and optimizer.param_groups[0]["lr"] == LR


def check_dtypes(method: Method) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        params = draw(0, dtype)
        before = values(params)
        advance(make(method, params), params, range(6))
        for p, old in zip(params, before, strict=True):
            assert p.dtype == dtype and bool(p.isfinite().all()), (dtype, p.shape)
            assert not torch.equal(p, old), f"{dtype} {tuple(p.shape)} did not move"


def check_missing_gradients(method: Method) -> None:
    params = draw(0)
    optimizer = make(method, params)
    optimizer.step() if not getattr(optimizer, "second_pass", False) else None
    before = values(params)
    for step in range(3):
        for k, p in enumerate(params):
            p.grad = None if k == step else torch.ones_like(p)
        run_step(optimizer, params)
        assert step != 0 or torch.equal(params[0], before[0])
    assert all(not torch.equal(p, old) for p, old in zip(params, before, strict=True))


def check_autograd_is_told(method: Method) -> None:
    """A backward through weights that a step has changed must fail, also where the step is not torch's."""
    params = draw(0)
    optimizer = make(method, params)
    losses = [p.square().sum() for p in params]
    advance(optimizer, params, range(1))
    for loss in losses:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def check_groups(method: Method) -> None:
    """Two groups with the settings of one are one; a group with lr 0 stands still."""
    whole, split, still = draw(0), draw(0), draw(0)
    advance(make(method, whole), whole, range(4))
    advance(make(method, [{"params": split[:2]}, {"params": split[2:]}]), split, range(4))
    assert same(values(whole), values(split))
    optimizer = make(method, [{"params": still[:2], "lr": 0.0}, {"params": still[2:]}])
    advance(optimizer, still, range(4))
    assert same(values(still[:2]), values(draw(0)[:2]))
    assert not torch.equal(still[3], draw(0)[3])


def check_added_group(method: Method) -> None:
    params = draw(0)
    optimizer = make(method, params[:2])
    advance(optimizer, params[:2], range(2))
    optimizer.add_param_group({"params": params[2:]})
    before = values(params)
    advance(optimizer, params, range(2, 4))
    assert all(not torch.equal(p, old) for p, old in zip(params, before, strict=True))


def check_closure(method: Method) -> None:
    """step(closure) returns the loss, and moves as step() does after the same backward."""
    if getattr(make(method, draw(0)), "second_pass", False):
        return
    by_hand, by_closure = draw(0), draw(0)
    one, two = make(method, by_hand), make(method, by_closure)
    for _ in range(3):
        one.zero_grad()
        loss_of(by_hand).backward()
        one.step()

        def closure() -> Tensor:
            two.zero_grad()
            loss = loss_of(by_closure)
            loss.backward()
            return loss

        assert torch.is_tensor(two.step(closure))
    assert same(values(by_hand), values(by_closure))


def loss_of(params: list[nn.Parameter]) -> Tensor:
    return sum((p - 1).square().sum() for p in params)  # type: ignore[return-value]


def check_gradients_are_left_alone(method: Method) -> None:
    params = draw(0)
    optimizer = make(method, params)
    for step in range(3):
        grads = [torch.randn(p.shape, generator=torch.Generator().manual_seed(step)) for p in params]
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        held = [p.grad for p in params]
        run_step(optimizer, params)
        if not getattr(optimizer, "second_pass", False):
            assert all(p.grad is h and torch.equal(h, g) for p, h, g in zip(params, held, grads, strict=True))


def check_resume(method: Method) -> None:
    """Saved, loaded with weights_only, and continued: bit for bit the uninterrupted run."""
    for dtype in (torch.float32, torch.bfloat16):
        straight, stopped = draw(0, dtype), draw(0, dtype)
        advance(make(method, straight), straight, range(10))
        first = make(method, stopped)
        advance(first, stopped, range(5))
        file = io.BytesIO()
        torch.save({"optimizer": first.state_dict(), "params": values(stopped)}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = [nn.Parameter(p) for p in saved["params"]]
        second = make(method, resumed, lr=0.5)  # the learning rate comes from the file too
        second.load_state_dict(saved["optimizer"])
        advance(second, resumed, range(5, 10))
        assert same(values(straight), values(resumed)), dtype


def check_copy(method: Method) -> None:
    """A deep copy of parameters and optimizer together goes the same way, apart from the original."""
    params = draw(0)
    optimizer = make(method, params)
    advance(optimizer, params, range(3))
    before = values(params)
    params_too, optimizer_too = copy.deepcopy((params, optimizer))
    advance(optimizer_too, params_too, range(3, 6))
    assert same(values(params), before)
    advance(optimizer, params, range(3, 6))
    assert same(values(params), values(params_too))


def check_repeats_without_global_randomness(method: Method) -> None:
    torch.manual_seed(0)
    one, state = draw(0), torch.random.get_rng_state()
    advance(make(method, one), one, range(4))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(1)
    two = draw(0)
    advance(make(method, two), two, range(4))
    assert same(values(one), values(two))


def check_scheduler(method: Method) -> None:
    """A scheduler set to lr/2 after two steps is an optimizer whose lr was set by hand."""
    by_hand, scheduled = draw(0), draw(0)
    one, two = make(method, by_hand), make(method, scheduled)
    schedule = torch.optim.lr_scheduler.StepLR(two, step_size=2, gamma=0.5)
    for step in range(4):
        if step == 2:
            for group in one.param_groups:
                group["lr"] = LR / 2
        advance(one, by_hand, range(step, step + 1))
        advance(two, scheduled, range(step, step + 1))
        schedule.step()
    assert same(values(by_hand), values(scheduled))


def check_goes_downhill(method: Method) -> None:
    params = draw(0)
    optimizer = make(method, params)
    start = loss_of(params).item()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(params)
        loss.backward()
        return loss

    for _ in range(60):
        closure()
        optimizer.step(closure) if getattr(optimizer, "second_pass", False) else optimizer.step()
    assert loss_of(params).item() < start


def check_zero_gradient_stays_finite(method: Method) -> None:
    params = [*draw(0), nn.Parameter(torch.zeros(3))]
    optimizer = make(method, params)
    for _ in range(3):
        for p in params:
            p.grad = torch.zeros_like(p)
        run_step(optimizer, params)
    assert all(bool(p.isfinite().all()) for p in params)


def check_empty_parameter(method: Method) -> None:
    params = [*draw(0), nn.Parameter(torch.empty(0, 3))]
    optimizer = make(method, params)
    advance(optimizer, params, range(3))
    assert params[-1].shape == (0, 3) and all(bool(p.isfinite().all()) for p in params)


def check_strided(method: Method) -> None:
    """A transposed weight moves as its contiguous copy does."""
    plain = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    turned = nn.Parameter(plain.detach().t().contiguous().t())
    assert not turned.is_contiguous()
    for p in (plain, turned):
        advance(make(method, [p]), [p], range(4))
    torch.testing.assert_close(plain, turned, rtol=1e-6, atol=1e-7)


def check_sparse_gradient(method: Method) -> None:
    """Refused by name, or stepped on as the same gradient written out."""
    sparse, dense = (nn.Parameter(torch.ones(300, 4)) for _ in range(2))
    dense.grad = torch.zeros(300, 4)
    dense.grad[[1, 5]] = 1.0
    sparse.grad = dense.grad.to_sparse(1)
    _refused_or_same(method, sparse, dense, "sparse")


def check_complex_gradient(method: Method) -> None:
    """Refused by name, or stepped on as its real and imaginary parts."""
    source = torch.Generator().manual_seed(0)
    whole, parts = (nn.Parameter(torch.ones(300, dtype=torch.complex64)) for _ in range(2))
    whole.grad = torch.randn(300, generator=source, dtype=torch.complex64)
    real = nn.Parameter(torch.view_as_real(parts.detach()))
    real.grad = torch.view_as_real(whole.grad)
    _refused_or_same(method, whole, real, "complex")


def _refused_or_same(method: Method, one: nn.Parameter, other: nn.Parameter, kind: str) -> None:
    run_step(make(method, [other]), [other])
    try:
        run_step(make(method, [one]), [one])
    except Exception as refusal:
        assert kind in str(refusal).lower() or kind in type(refusal).__name__.lower()
        return
    end = torch.view_as_real(one.detach()) if one.is_complex() else one.detach()
    torch.testing.assert_close(end, other.detach())


def check_file_of_the_inner_optimizer(method: Method) -> None:
    """A run that was saved without the method goes on with it."""
    if method.card["slot"] != "optimizer-around":
        return
    params = draw(0)
    plain = torch.optim.AdamW(params, lr=LR)
    for p in params:
        p.grad = torch.ones_like(p)
    plain.step()
    around = make(method, params)
    around.load_state_dict(plain.state_dict())
    before = values(params)
    advance(around, params, range(2))
    assert not same(before, values(params))


def check_refuses_nonsense(method: Method) -> None:
    attempt: Callable[[], Any] = lambda: make(method, draw(0), lr=-1.0)
    with pytest.raises(Exception, match=r"(?i)learning|lr"):
        attempt()
