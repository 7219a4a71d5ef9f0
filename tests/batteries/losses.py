"""What every loss must do: ``(output, target) -> tensor``, dtypes, reduction, and the shapes of torch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from tests.batteries._method import Method

CLASSES = 8


def batch(dtype: torch.dtype = torch.float64, examples: int = 5) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(examples, CLASSES, generator=source, dtype=torch.float64)
    target = torch.randint(CLASSES, (examples,), generator=source)
    return scores.to(dtype).requires_grad_(), target


def is_drop_in(method: Method) -> bool:
    """In place of cross entropy, and so with its ``reduction``."""
    return method.card["slot"] == "loss"


def check_gradient(method: Method) -> None:
    scores, target = batch()
    loss = method.thing(**method.example).eval()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), scores)
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), scores)


def check_dtypes(method: Method) -> None:
    exact = method.thing(**method.example)(*batch())
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        scores, target = batch(dtype)
        value = method.thing(**method.example)(scores, target)
        value.backward()
        assert value.dtype == dtype and scores.grad.dtype == dtype
        assert bool(scores.grad.isfinite().all()) and bool(scores.grad.any())
        torch.testing.assert_close(value.double(), exact, rtol=limit, atol=limit)


def check_autocast(method: Method) -> None:
    """As cross entropy under autocast: half precision scores, a loss in float32 that is not rounded."""
    scores, target = batch(torch.bfloat16)
    exact = method.thing(**method.example)(scores.double(), target)
    with torch.autocast("cpu", torch.bfloat16):
        value = method.thing(**method.example)(scores, target)
    value.backward()
    assert value.dtype == torch.float32 and scores.grad is not None and scores.grad.dtype == torch.bfloat16
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-5)


def check_one_example_at_a_time(method: Method) -> None:
    """Under torch.func, as ``gradient_norm`` calls it: the gradients of the sum, row by row."""
    if not is_drop_in(method):
        return
    scores, target = batch()
    loss = method.thing(**method.example, reduction="sum")
    each = torch.func.vmap(torch.func.grad(lambda z, label: loss(z[None], label[None])))
    (whole,) = torch.autograd.grad(loss(scores, target), scores)
    torch.testing.assert_close(each(scores.detach(), target), whole)


def check_extreme_scores(method: Method) -> None:
    """The largest scores of half precision give finite losses and gradients, right or wrong."""
    for right in (0, 1):
        scores = torch.zeros(1, CLASSES)
        scores[0, 0], scores[0, 2] = 6e4, -6e4
        scores.requires_grad_()
        value = method.thing(**method.example)(scores, torch.tensor([right]))
        value.backward()
        assert bool(value.isfinite()) and bool(scores.grad.isfinite().all())


def check_leaves_its_arguments_alone(method: Method) -> None:
    scores, target = batch()
    held, classes = scores.detach().clone(), target.clone()
    method.thing(**method.example)(scores, target).backward()
    assert torch.equal(scores, held) and torch.equal(target, classes)


def check_no_examples(method: Method) -> None:
    """As torch: no examples give no number, and none that would stop the backward pass."""
    scores, target = batch(examples=0)
    value = method.thing(**method.example)(scores, target)
    value.backward()
    assert value.shape == () and scores.grad.shape == (0, CLASSES)


def check_copied_and_pickled(method: Method) -> None:
    loss = method.thing(**method.example)
    expected = copy.deepcopy(loss)(*batch())
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert isinstance(twin, nn.Module) and torch.equal(twin(*batch()), expected)


def check_reduction(method: Method) -> None:
    if not is_drop_in(method):
        return
    scores, target = batch()
    parts = method.thing(**method.example, reduction="none")(scores, target)
    assert parts.shape == (5,)
    torch.testing.assert_close(method.thing(**method.example, reduction="sum")(scores, target), parts.sum())
    torch.testing.assert_close(method.thing(**method.example)(scores, target), parts.mean())
    with pytest.raises(ValueError, match="average"):
        method.thing(**method.example, reduction="average")


def check_ignored_examples(method: Method) -> None:
    """They change neither the mean nor any gradient, and not a number where nothing is left, as in torch."""
    if not is_drop_in(method):
        return
    scores, target = batch()
    some = target.clone()
    some[1] = -100
    kept = [0, 2, 3, 4]
    loss = method.thing(**method.example)
    torch.testing.assert_close(loss(scores, some), loss(scores[kept], target[kept]))
    (grad,) = torch.autograd.grad(loss(scores, some), scores)
    assert not bool(grad[1].any())
    assert bool(loss(scores, torch.full_like(target, -100)).isnan())


def check_takes_the_place_of_cross_entropy(method: Method) -> None:
    """``from_existing`` keeps what the old loss said, and refuses what it has no twin for."""
    if not is_drop_in(method):
        return
    made = method.thing.from_existing(nn.CrossEntropyLoss(ignore_index=3, reduction="sum"))
    scores, target = batch()
    assert made(scores, torch.full_like(target, 3)).item() == 0.0
    assert made.reduction == "sum"
    for other in (nn.CrossEntropyLoss(weight=torch.ones(CLASSES)), nn.CrossEntropyLoss(label_smoothing=0.1)):
        with pytest.raises(ValueError, match=r"class weights|label smoothing"):
            method.thing.from_existing(other)
    with pytest.raises(ValueError, match=r"nn\.CrossEntropyLoss"):
        method.thing.from_existing(nn.MSELoss())


def check_refuses_wrong_targets(method: Method) -> None:
    if not is_drop_in(method):
        return
    scores, target = batch()
    loss = method.thing(**method.example)
    with pytest.raises(ValueError, match="integer classes"):
        loss(scores, torch.ones(5, CLASSES))
    with pytest.raises(ValueError, match="class 8"):
        loss(scores, torch.full_like(target, CLASSES))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        loss(scores, target[:4])
