"""Test ``vario.instruments.adversarial`` on known losses, and on what capture tells apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.capture.test_traps import Notes
from tests.instruments.sample import read
from vario.capture.attach import Attachment
from vario.capture.moment import Moment
from vario.capture.needs import LossCall
from vario.instruments.accuracy import Accuracy
from vario.instruments.adversarial import Adversarial


def call(output: Tensor, target: Tensor) -> LossCall:
    return LossCall("cross_entropy", output, target, torch.zeros(()))


def test_examples_whose_loss_fell_are_counted_and_equal_ones_are_not() -> None:
    before, target = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    after = before.clone()
    after[0, 0], after[1, 1], after[2, 0] = 1.0, -1.0, 1.0  # easier, harder, harder; the last one as it was
    found = read(Adversarial(), attacks=[call(before, target)], loss_calls=[call(after, target)])
    assert found == {("adversarial/abnormal_share", ""): 0.25}
    assert read(Adversarial(), loss_calls=[call(after, target)]) == {}


X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def by_grad(model: nn.Module) -> Tensor:
    delta = torch.zeros_like(X, requires_grad=True)
    (slope,) = torch.autograd.grad(F.cross_entropy(model(X + delta), Y), delta)
    return X + 0.1 * slope.sign()


def by_backward(model: nn.Module) -> Tensor:
    delta = torch.zeros_like(X, requires_grad=True)
    F.cross_entropy(model(X + delta), Y).backward()
    assert delta.grad is not None
    return X + 0.1 * delta.grad.sign()


def helped(model: nn.Module) -> Tensor:
    delta = torch.zeros_like(X, requires_grad=True)
    (slope,) = torch.autograd.grad(F.cross_entropy(model(X + delta), Y), delta)
    return X - 0.1 * slope.sign()


def learned_inputs(model: nn.Module) -> Tensor:
    return X.clone().requires_grad_()


@pytest.mark.parametrize(
    ("attack", "share"), [(by_grad, 0.0), (by_backward, 0.0), (helped, 1.0), (learned_inputs, None)]
)
def test_an_attack_is_known_by_its_gradient_of_the_inputs(
    attack: Callable[[nn.Module], Tensor], share: float | None
) -> None:
    torch.manual_seed(0)
    model, notes = nn.Linear(6, 2), Notes(frozenset({"loss_calls", "attacks"}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    attachment = Attachment(notes)
    try:
        for _ in range(4):
            x = attack(model)
            optimizer.zero_grad()
            out = model(x)
            F.cross_entropy(out, Y).backward()
            optimizer.step()
            right = (out.argmax(1) == Y).float().mean().item()
    finally:
        attachment.detach()
    assert not notes.failures
    moment = Moment("model", 0, notes.steps[-1][2])
    found = {
        r.series: r.value for one in (Adversarial(), Accuracy()) for r in one.read(moment.declared(one.needs))
    }
    assert found.get("adversarial/abnormal_share") == share
    assert found["accuracy/train"] == pytest.approx(right)  # of what is trained on, not of the attack
