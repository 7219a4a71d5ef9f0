"""The norm of the gradient is known at many steps, and is what the optimizer was given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.test_every_loss import STEPS, Kept, Script, added, by_hand, divided, plain, scaled
from tests.capture.test_every_loss import attached as attached_to
from vario.capture import thinned
from vario.capture.attach import Attachment


def attached(period: int = 1, *, idle: bool = True) -> AbstractContextManager[Kept]:
    return attached_to(idle=idle, every={"gradient/norm": period})


def norms(kept: Kept) -> dict[int, float]:
    return kept.points.get("gradient/norm", {})


def watched(optimizer: torch.optim.Optimizer) -> list[float]:
    """The norm of what the optimizer is given at each of its steps, by its own hook, as it goes on."""
    norms: list[float] = []

    def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        grads = [p.grad.double() for p in optimizer.param_groups[0]["params"] if p.grad is not None]
        norms.append(float(torch.cat([grad.reshape(-1) for grad in grads]).norm()))

    optimizer.register_step_pre_hook(note)
    return norms


def clipped(script: Script) -> None:
    script.optimizer.zero_grad()
    script.loss().backward()
    nn.utils.clip_grad_norm_(script.model.parameters(), 0.05)
    script.optimizer.step()


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
@pytest.mark.parametrize("loop", [plain, divided, added, clipped, scaled], ids=lambda loop: loop.__name__)
def test_it_is_that_of_the_gradient_that_the_optimizer_is_given(
    loop: Callable[[Script], None], idle: bool
) -> None:
    script = Script()
    truth = watched(script.optimizer)
    with attached(idle=idle) as kept:
        for _ in range(STEPS):
            loop(script)
    assert set(norms(kept)) >= set(range(1, STEPS))  # the first is the one that made it known
    for step, norm in norms(kept).items():
        assert norm == pytest.approx(truth[step], rel=1e-6)
    assert bool(kept.untold) == (idle and loop is not scaled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_in_halves_it_is_taken_in_single_precision(dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.linspace(0.1, 1, 5000, dtype=dtype))
    optimizer = torch.optim.SGD([weight], lr=1e-3)
    truth = watched(optimizer)
    with attached() as kept:
        for _ in range(STEPS):
            optimizer.zero_grad()
            (weight * weight).sum().backward()
            optimizer.step()
    assert len(norms(kept)) >= STEPS - 1
    assert [norms(kept)[s] for s in range(1, STEPS)] == pytest.approx(truth[1:], rel=1e-5)


def test_of_every_fourth_step_it_meets_whatever_the_script_does_every_fourth_or_fortieth() -> None:
    """A gap that stayed the same would meet it always or never."""
    script = Script()
    with attached(4) as kept:
        for _ in range(2000):
            plain(script)
    steps = np.array(sorted(norms(kept)))
    assert len(steps) == pytest.approx(500, rel=0.05)
    for every in (2, 4, 16, 40):
        for phase in range(every):
            assert 0.5 < np.mean(steps % every == phase) * every < 2


def test_what_it_cannot_read_is_left_alone() -> None:
    table = nn.Embedding(20, 3, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    with attached() as kept:
        for _ in range(STEPS):
            optimizer.zero_grad()
            table(torch.randint(20, (4,))).square().sum().backward()
            optimizer.step()
    assert kept.untold
    assert not norms(kept)


def test_moved_by_hand_there_is_none() -> None:
    script = Script()
    with attached() as kept:
        for _ in range(STEPS):
            by_hand(script)
    assert not norms(kept)


def test_what_is_not_finite_or_nothing_is_left_to_steps_that_are_measured() -> None:
    script = Script()
    with attached() as kept:
        for step in range(STEPS):
            script.optimizer.zero_grad()
            (script.loss() * {5: float("inf"), 6: 0.0, 7: 1e-30}.get(step % 20, 1.0)).backward()
            if step % 20 == 5:
                script.optimizer.zero_grad()
                next(script.model.parameters()).grad = torch.full((1, 3), float("inf"))
                script.optimizer.param_groups[0]["lr"] = 0.0
            script.optimizer.step()
    assert {step % 20 for step in norms(kept)}.isdisjoint({6, 7})
    assert np.isfinite(list(norms(kept).values())).all()


def test_a_gradient_with_a_graph_of_its_own_keeps_none_alive() -> None:
    script = Script()
    with attached() as kept:
        for _ in range(STEPS):
            script.optimizer.zero_grad()
            script.loss().backward(create_graph=True)
            script.optimizer.step()
    assert len(norms(kept)) >= STEPS - 1


def test_what_one_more_costs_is_measured() -> None:
    script = Script()
    with attached() as kept:
        for _ in range(5):
            plain(script)
        every: Any = kept.stream.every_norm
        assert every.cost() is None
        for _ in range(60):
            plain(script)
        assert 1e-6 < every.cost() < 1e-2


def test_no_more_are_held_than_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinned, "MOST_HELD", 7)
    script = Script()
    with attached() as kept:
        for _ in range(40):
            plain(script)
    assert all(step % 20 in range(1, 8) or step == 0 for step in norms(kept))


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
def test_the_norm_that_the_script_clips_by_is_kept_as_well(idle: bool) -> None:
    script, observer = Script(), Kept(1, idle, grads=False)
    observer.kept_periods["clipping/norm_before"] = 1
    attachment, norms = Attachment(observer), []
    for _ in range(STEPS):
        script.optimizer.zero_grad()
        script.loss().backward()
        norms.append(nn.utils.clip_grad_norm_(script.model.parameters(), 0.05).item())
        script.optimizer.step()
    attachment.detach()
    found = observer.points["clipping/norm_before"]
    assert len(found) >= 0.8 * STEPS
    assert {step: norms[step] for step in found} == found
    assert not observer.failures


def test_a_gradient_that_is_clipped_in_parts_has_no_norm_of_the_whole() -> None:
    script, observer = Script(), Kept(1, True, grads=False)
    observer.kept_periods["clipping/norm_before"] = 1
    attachment = Attachment(observer)
    for _ in range(STEPS):
        script.optimizer.zero_grad()
        script.loss().backward()
        for parameter in script.model.parameters():
            nn.utils.clip_grad_norm_([parameter], 0.05)
        script.optimizer.step()
    attachment.detach()
    assert "clipping/norm_before" not in observer.points
    assert not observer.failures


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.LBFGS], ids=lambda kind: kind.__name__)
def test_after_a_closure_that_ran_once_it_is_read_where_the_optimizer_left_it(optimizer: Any) -> None:
    """As of Lightning's loops. Of one that ran many times the last gradient is not that of the step."""
    script = Script()
    script.optimizer = optimizer(script.model.parameters(), lr=0.01)
    truth: list[list[float]] = []  # of each step, each time that the closure ran

    def closure() -> torch.Tensor:
        script.optimizer.zero_grad()
        loss = script.loss()
        loss.backward()
        grads = [parameter.grad for parameter in script.model.parameters() if parameter.grad is not None]
        truth[-1].append(float(torch.cat([grad.double().reshape(-1) for grad in grads]).norm()))
        return loss

    with attached() as kept:
        for _ in range(STEPS):
            truth.append([])
            script.optimizer.step(closure)
    once = [step for step in range(STEPS) if len(truth[step]) == 1]
    assert set(norms(kept)) <= set(once)
    assert {step: pytest.approx(truth[step][0], rel=1e-6) for step in norms(kept)} == norms(kept)
    assert len(norms(kept)) > (0.7 * STEPS if optimizer is torch.optim.Adam else -1)
