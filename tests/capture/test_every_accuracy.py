"""How much of a batch is right is known at many steps, and is what the script would count itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.capture.test_every_loss import STEPS, Kept, Now, counted_operations
from tests.capture.test_every_loss import attached as attached_to
from vario.capture.attach import Attachment

SERIES = "accuracy/train"


@contextmanager
def attached(period: int = 1, *, idle: bool = True) -> Iterator[dict[int, float]]:
    with attached_to(idle=idle, every={SERIES: period}) as observer:
        yield observer.points.setdefault(SERIES, {})


class Script:
    """A loop that counts what is right at each of its steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(5, 3)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.right: list[float] = []

    def batch(self) -> tuple[Tensor, Tensor]:
        x = torch.randn(20, 5)
        return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()

    def finish(self, loss: Tensor, *right: float) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.right.append(sum(right) / len(right) if right else -1.0)

    def answered(self) -> tuple[Tensor, Tensor, float]:
        x, y = self.batch()
        out = self.model(x)
        return out, y, float((out.argmax(1) == y).float().mean())


def by_function(script: Script) -> None:
    out, y, right = script.answered()
    script.finish(nn.functional.cross_entropy(out, y, label_smoothing=0.1), right)


def by_module(script: Script) -> None:
    out, y, right = script.answered()
    script.finish(nn.CrossEntropyLoss(weight=torch.ones(3))(out, y), right)


def by_name(script: Script) -> None:
    out, y, right = script.answered()
    script.finish(nn.functional.cross_entropy(target=y, input=out), right)


def some_ignored(script: Script) -> None:
    x, y = script.batch()
    out = script.model(x)
    right = float((out.argmax(1) == y)[7:].float().mean())
    y[:7] = -100
    script.finish(nn.functional.cross_entropy(out, y), right)


def evaluated_without_gradients(script: Script) -> None:
    by_function(script)
    if len(script.right) % 7 == 0:
        with torch.no_grad():
            nn.functional.cross_entropy(script.model(torch.randn(20, 5)), torch.zeros(20, dtype=torch.long))


def scaled(script: Script) -> None:
    """Every step is heard then."""
    out, y, right = script.answered()
    scaler = script.__dict__.setdefault("scaler", torch.amp.GradScaler("cpu", enabled=False))
    script.finish(scaler.scale(nn.functional.cross_entropy(out, y)), right)


COUNTED = [by_function, by_module, by_name, some_ignored, evaluated_without_gradients, scaled]


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
@pytest.mark.parametrize("loop", COUNTED, ids=lambda loop: loop.__name__)
def test_it_is_what_the_script_counts(loop: Callable[[Script], None], idle: bool) -> None:
    script = Script()
    with attached(idle=idle) as found:
        for _ in range(STEPS):
            loop(script)
    assert len(found) > 0.7 * STEPS  # not at those that are heard
    assert {step: pytest.approx(script.right[step]) for step in found} == found
    assert len(set(found.values())) > 3


def test_of_micro_batches_it_is_that_of_all() -> None:
    script = Script()
    with attached() as found:
        for _ in range(STEPS):
            script.optimizer.zero_grad()
            right = []
            for _ in range(4):
                out, y, share = script.answered()
                (nn.functional.cross_entropy(out, y) / 4).backward()
                right.append(share)
            script.optimizer.step()
            script.right.append(sum(right) / 4)
    assert len(found) > 0.7 * STEPS
    assert {step: pytest.approx(script.right[step]) for step in found} == found


def two_losses(script: Script) -> None:
    out, y, _ = script.answered()
    script.finish(nn.functional.cross_entropy(out, y) + nn.functional.mse_loss(out, torch.zeros(20, 3)))


def two_mixed(script: Script) -> None:
    out, y, _ = script.answered()
    loss = nn.functional.cross_entropy
    script.finish(0.5 * loss(out, y) + 0.5 * loss(out, y.flip(0)))


def shares(script: Script) -> None:
    out, y, _ = script.answered()
    script.finish(nn.functional.cross_entropy(out, nn.functional.one_hot(y, 3).float()))


def evaluated_with_gradients(script: Script) -> None:
    nn.functional.cross_entropy(script.model(torch.randn(20, 5)), torch.zeros(20, dtype=torch.long))
    out, y, _ = script.answered()
    script.finish(nn.functional.cross_entropy(out, y))


def attacked(script: Script) -> None:
    x, y = script.batch()
    x.requires_grad_()
    nn.functional.cross_entropy(script.model(x), y).backward()
    assert x.grad is not None
    out = script.model((x + 0.1 * x.grad.sign()).detach())
    script.finish(nn.functional.cross_entropy(out, y))


def nothing_right_or_wrong(script: Script) -> None:
    out, y, _ = script.answered()
    script.finish(nn.functional.cross_entropy(out, torch.full_like(y, -100)).nan_to_num() + out.sum() * 0)


NOT_COUNTED = [two_losses, two_mixed, shares, evaluated_with_gradients, attacked, nothing_right_or_wrong]


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
@pytest.mark.parametrize("loop", NOT_COUNTED, ids=lambda loop: loop.__name__)
def test_where_it_is_not_known_which_rows_are_of_training_there_is_none(
    loop: Callable[[Script], None], idle: bool
) -> None:
    script = Script()
    with attached(idle=idle) as found:
        for _ in range(STEPS):
            loop(script)
    assert not found


def test_of_every_fifth_step_only_where_no_more_is_afforded() -> None:
    script = Script()
    with attached(5) as found:
        for _ in range(500):
            by_function(script)
    assert len(found) == pytest.approx(100, abs=10)
    assert {step: pytest.approx(script.right[step]) for step in found} == found


def test_of_large_outputs_spaced_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vario.capture.every_accuracy.MOST_ENTRIES", 30)
    script = Script()
    truth: list[float] = []
    with attached() as found:
        for _ in range(STEPS):
            out, y, _ = script.answered()
            truth.append(float((out.argmax(1) == y)[::2].float().mean()))
            script.finish(nn.functional.cross_entropy(out, y))
    assert len(found) > 0.7 * STEPS
    assert {step: pytest.approx(truth[step]) for step in found} == found


def test_a_loss_inside_a_transform_breaks_nothing() -> None:
    script = Script()
    parameters = dict(script.model.named_parameters())

    def loss_of(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.func.functional_call(script.model, parameters, (x,)), y)

    with attached() as found:
        for _ in range(STEPS):
            x, y = script.batch()
            torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))(
                parameters, x[:, None], y[:, None]
            )
            by_function(script)
    assert {step: pytest.approx(script.right[step]) for step in found} == found


def clipping(script: Script) -> None:
    out, y, right = script.answered()
    script.optimizer.zero_grad()
    nn.functional.cross_entropy(out, y).backward()
    nn.utils.clip_grad_norm_(script.model.parameters(), 0.1)
    script.optimizer.step()
    script.right.append(right)


def all_read(idle: bool) -> Kept:
    observer = Kept(1, idle, grads=False)
    observer.kept_periods |= {SERIES: 1, "gradient/norm": 1, "clipping/norm_before": 1}
    return observer


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
def test_the_scripts_counter_of_operations_counts_none_of_ours(idle: bool) -> None:
    bare, observer = counted_operations(Script(), clipping), all_read(idle)
    attachment = Attachment(observer)
    assert counted_operations(Script(), clipping) == bare
    attachment.detach()
    assert not observer.failures
    assert all(any(45 <= step < 55 for step in points) for points in observer.points.values())
    assert len(observer.points) == 3


@pytest.mark.parametrize("idle", [True, False], ids=["dozing", "heard"])
@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("every_accuracy._count", "the accuracy of every step"),
        ("every_accuracy._share", "the accuracy of every step"),
        ("every_norm._norm", "the gradient's norm of every step"),
        ("every_clip._number", "the norm that is clipped of every step"),
    ],
)
def test_what_breaks_is_switched_off_and_the_run_goes_on(
    part: str, told: str, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> None:
        raise Now

    monkeypatch.setattr(f"vario.capture.{part}", broken)
    script, observer = Script(), all_read(idle)
    attachment = Attachment(observer)
    for _ in range(STEPS):
        clipping(script)
    attachment.detach()
    assert len(script.right) == STEPS
    assert [text.split(":")[0] for text in observer.failures] == [told]
    assert len(observer.points) == 2
    assert len(observer.found) == STEPS
