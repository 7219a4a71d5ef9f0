"""Curvature of a running loop: right numbers at the steps asked for, refusals told, nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vario.capture.attach import Attachment
from vario.capture.curvature.door import KEEP, NEEDS
from vario.capture.streams import Stream
from vario.capture.thinned import Thinned
from vario.nouns import Reading

SOME = frozenset({"curvature_ends", "curvature_slopes", "curvature_limit"})


class Listener:
    """Wants `needs` at every step after the first, and keeps what it is offered."""

    def __init__(self, needs: frozenset[str]) -> None:
        self.needs = needs
        self.offered: list[dict[str, Any]] = []
        self.refused: list[tuple[str, str]] = []
        self.failures: list[str] = []

    def began(self, stream: Stream) -> None: ...
    def wants(self, stream: Stream) -> frozenset[str]:
        return (self.needs if stream.step else frozenset()) | {KEEP, "losses", "inputs"}

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        return 0

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None: ...

    def loss_period(self, stream: Stream) -> int:
        return 0

    def idle_steps(self, stream: Stream) -> int:
        return 0

    def passed(self, stream: Stream, steps: int, offered: Any) -> None: ...
    def at_gradient(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        self.offered.append({key: raw[key] for key in NEEDS & set(raw)})

    def stepped(self, stream: Stream, raw: Mapping[str, Any]) -> None: ...
    def readings(self, stream: Stream, readings: list[Reading]) -> None: ...
    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        if kind == "refused":
            self.refused.append((where, data["reason"]))

    def failed(self, place: str, error: Exception) -> None:
        self.failures.append(f"{place}: {error!r}")


Backward = Callable[[nn.Module, Tensor, Tensor], None]


def plain(model: nn.Module, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x), y).backward()


def train(backward: Backward, listener: Listener | None, *, steps: int = 4, adam: bool = False) -> list[Any]:
    """Weights, optimizer state and the next random number after some steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 3))
    make = torch.optim.Adam if adam else torch.optim.SGD
    optimizer = make(model.parameters(), lr=0.05)
    attachment = Attachment(listener) if listener else None
    try:
        for _ in range(steps):
            x, y = torch.randn(16, 6), torch.randint(0, 3, (16,))
            optimizer.zero_grad()
            backward(model, x, y)
            optimizer.step()
    finally:
        if attachment:
            attachment.detach()
    state = [
        value for held in optimizer.state.values() for value in held.values() if isinstance(value, Tensor)
    ]
    return [*(p.detach() for p in model.parameters()), *state, torch.rand(3)]


def micro_batches(model: nn.Module, x: Tensor, y: Tensor) -> None:
    for part in (slice(0, 8), slice(8, 16)):
        (F.cross_entropy(model(x[part]), y[part]) / 2).backward()


def checkpointed(model: nn.Module, x: Tensor, y: Tensor) -> None:
    from torch.utils.checkpoint import checkpoint

    F.cross_entropy(checkpoint(model, x, use_reentrant=False), y).backward()


def hook_on_an_output(model: nn.Module, x: Tensor, y: Tensor) -> None:
    out = model(x)
    out.register_hook(lambda g: 2 * g)
    F.cross_entropy(out, y).backward()


def several(model: nn.Module, x: Tensor, y: Tensor) -> None:
    out = model(x)
    torch.autograd.backward([F.cross_entropy(out, y), out.square().mean()])


def nothing_there(model: nn.Module, x: Tensor, y: Tensor) -> None:
    (F.cross_entropy(model(x), y) * float("nan")).backward()


LOOPS: dict[str, tuple[Backward, str]] = {
    "plain": (plain, ""),
    "micro-batches": (micro_batches, ""),
    "checkpoint": (checkpointed, "saved by hooks"),
    "hook": (hook_on_an_output, "hooks on tensors of this step"),
    "several": (several, "one number"),
    "not finite": (nothing_there, "the loss is nan"),
}


@pytest.mark.parametrize("name", LOOPS)
def test_the_run_is_the_same_bit_for_bit_whether_taken_or_refused(name: str) -> None:
    backward, reason = LOOPS[name]
    bare, listener = train(backward, None), Listener(NEEDS)
    watched = train(backward, listener)
    for one, other in zip(bare, watched, strict=True):
        assert torch.equal(one, other) or (one.isnan().all() and other.isnan().all())
    assert listener.failures == []
    if reason:
        assert {need for need, _ in listener.refused} == NEEDS
        assert all(reason in why for _, why in listener.refused)
        assert not any(listener.offered)
    else:
        assert listener.refused == []
        assert set(listener.offered[0]) == set() and set(listener.offered[-1]) == NEEDS


def test_micro_batches_are_measured_undivided() -> None:
    """Without dropout's chance the first half of the batch has one curvature, however it is divided."""

    def whole(model: nn.Module, x: Tensor, y: Tensor) -> None:
        F.cross_entropy(model.eval()(x[:8]), y[:8]).backward()

    def divided(model: nn.Module, x: Tensor, y: Tensor) -> None:
        micro_batches(model.eval(), x, y)

    found = []
    for backward in (whole, divided):
        listener = Listener(SOME)
        train(backward, listener, steps=2)
        found.append(listener.offered[1]["curvature_ends"].top)
    # the weights differ after the first step (half of the data against all): only the size is compared
    assert found[1] == pytest.approx(found[0], rel=0.5)


def test_the_numbers_are_those_of_the_step() -> None:
    """The offered gradient curvature equals u'Hu by double backward at the weights of that step."""
    expected: list[float] = []

    def backward(model: nn.Module, x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(model.eval()(x), y)
        params = list(model.parameters())
        grads = torch.autograd.grad(loss, params, create_graph=True)
        flat = torch.cat([g.flatten() for g in grads])
        unit = (flat / flat.norm()).detach()
        product = torch.autograd.grad(flat @ unit, params)
        expected.append(float(torch.cat([p.flatten() for p in product]) @ unit))
        F.cross_entropy(model(x), y).backward()

    listener = Listener(SOME)
    train(backward, listener, steps=3)
    assert listener.offered[2]["curvature_slopes"].gradient == pytest.approx(expected[2], rel=1e-4)
    assert listener.offered[2]["curvature_slopes"].step is not None


def test_adams_limit_needs_a_step_before() -> None:
    listener = Listener(SOME)
    train(plain, listener, adam=True)
    assert listener.refused == [] and listener.offered[1]["curvature_limit"].share > 0


def test_shards_are_refused_before_anything_of_them_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "sharded", True)
    train(plain, listener := Listener(SOME))
    assert {need for need, _ in listener.refused} == SOME
    assert all("shards" in why for _, why in listener.refused)


def test_a_failure_of_ours_is_told_once_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("ours")

    monkeypatch.setattr("vario.capture.curvature.door.KeptGraph", broken)
    listener = Listener(SOME)
    watched = train(plain, listener)
    assert len(listener.failures) == 1 and "curvature" in listener.failures[0]
    assert torch.equal(watched[0], train(plain, None)[0])
