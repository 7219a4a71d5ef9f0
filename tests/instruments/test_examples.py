from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.capture.needs import LossCall
from vario.instruments.examples import Examples


def of(name: str, output: torch.Tensor, target: torch.Tensor, ignore: int = -100) -> dict[str, Any]:
    call = LossCall(name, output, target, torch.zeros(()), ignore_index=ignore)
    return {
        series.removeprefix("examples/"): v for (series, _), v in read(Examples(), loss_calls=[call]).items()
    }


def wanted(logits: np.ndarray, shares: np.ndarray) -> dict[str, Any]:
    """By the definitions, in double precision."""
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = shares.argmax(axis=1)
    rows = np.arange(len(p))
    others = np.where(np.eye(p.shape[1], dtype=bool)[label], -1, p).max(axis=1)
    losses = -(shares * np.log(p)).sum(axis=1)
    return {
        "loss_mean": pytest.approx(losses.mean(), rel=1e-4),
        "loss_quantiles": pytest.approx(np.quantile(losses, np.linspace(0, 1, 11)), rel=1e-4),
        "zero_loss_share": 0.0,
        "error_norm": pytest.approx(np.sqrt(((p - shares) ** 2).sum(axis=1)).mean(), rel=1e-4),
        "margin": pytest.approx((p[rows, label] - others).mean(), rel=1e-4),
        "entropy": pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-4),
        "confidence": pytest.approx(p.max(axis=1).mean(), rel=1e-4),
        "confident_wrong": ((p[rows, label] < 0.1) & (others > 0.5)).mean(),
    }


def labels(count: int, classes: int) -> torch.Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(3))


def test_all_equal_their_definitions() -> None:
    output, target = draw(200, 5, scale=3.0), labels(200, 5)
    expected = wanted(exact(output), np.eye(5)[target.numpy()])
    assert expected["confident_wrong"] > 0.2
    assert of("cross_entropy", output, target) == expected
    log_p = of("nll_loss", output.log_softmax(dim=1), target)
    assert log_p == expected


def test_labels_may_be_shares_of_classes() -> None:
    output, shares = draw(50, 4), draw(50, 4, seed=1).softmax(dim=1)
    assert of("cross_entropy", output, shares) == wanted(exact(output), exact(shares))


def test_pixels_are_examples_and_ignored_ones_are_none() -> None:
    output, target = draw(2, 3, 4, 5), labels(40, 3).reshape(2, 4, 5)
    target[0, 0] = 255
    rows, kept = exact(output.movedim(1, -1).reshape(-1, 3)), (target != 255).reshape(-1).numpy()
    assert of("cross_entropy", output, target, 255) == wanted(
        rows[kept], np.eye(3)[target.reshape(-1).numpy()[kept]]
    )


@pytest.mark.parametrize("shape", [(60,), (60, 1)])
@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "binary_cross_entropy"])
def test_a_single_yes_or_no_output_has_two_classes(name: str, shape: tuple[int, ...]) -> None:
    output, target = draw(60, scale=2.0), labels(60, 2)
    rows = np.stack([np.zeros(60), exact(output)], axis=1)
    given = output.sigmoid() if name == "binary_cross_entropy" else output
    assert of(name, given.reshape(shape), target.float().reshape(shape)) == wanted(
        rows, np.eye(2)[target.numpy()]
    )


def test_a_probability_of_exactly_0_or_1_costs_what_the_loss_says() -> None:
    output, target = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5]), torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    each = torch.nn.functional.binary_cross_entropy(output, target, reduction="none").numpy()
    found = of("binary_cross_entropy", output, target)
    assert found["loss_mean"] == pytest.approx(each.mean()) == pytest.approx(40 + np.log(2) / 5)
    assert found["confidence"] == pytest.approx(0.9)


def test_losses_of_exactly_zero_are_counted_in_the_precision_of_the_outputs() -> None:
    output, target = (
        torch.tensor([[12.0, 0.0], [20.0, 0.0], [0.0, 0.0], [200.0, 0.0]]),
        torch.zeros(4, dtype=torch.long),
    )
    assert of("cross_entropy", output, target)["zero_loss_share"] == 0.5
    assert of("cross_entropy", output.double(), target)["zero_loss_share"] == 0.25
    assert of("cross_entropy", output.half(), target)["zero_loss_share"] == 0.75


def test_a_regression_has_losses_only() -> None:
    output, target = draw(30, 2), draw(30, 2, seed=1)
    losses = ((exact(output) - exact(target)) ** 2).mean(axis=1)
    expected = {
        "loss_mean": pytest.approx(losses.mean(), rel=1e-4),
        "loss_quantiles": pytest.approx(np.quantile(losses, np.linspace(0, 1, 11)), rel=1e-4),
        "zero_loss_share": 0.0,
    }
    assert of("mse_loss", output, target) == expected


def test_an_output_may_be_one_number_per_example() -> None:
    """The usual `model(x).squeeze(1)`: a batch of numbers without a second dimension."""
    output, target = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.0, 0.0, 0.0])
    losses = of("mse_loss", output, target)["loss_quantiles"]
    assert (losses[0], losses[5], losses[10]) == (0.0, 1.0, 25.0)


def test_large_outputs_are_read_in_evenly_spaced_rows() -> None:
    output, target = torch.zeros(100_000, 100), torch.zeros(100_000, dtype=torch.long)
    output[::3, 0] = 50.0  # the loss of every third row is 0; every third row is read
    assert of("cross_entropy", output, target)["zero_loss_share"] == 1.0


def test_masked_classes_and_not_a_number_do_not_raise() -> None:
    output, target = draw(4, 3), torch.tensor([0, 1, 0, 1])
    output[:, 2] = -torch.inf
    found = of("cross_entropy", output, target)
    assert found["entropy"] < np.log(2) and np.isfinite(found["error_norm"])
    output[0, 0] = torch.nan
    found = of("cross_entropy", output, target)
    assert not {"loss_mean", "loss_quantiles"} & set(found) and np.isnan(found["entropy"])


@pytest.mark.parametrize(
    "name, output, target",
    [
        ("cross_entropy", torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
        ("cross_entropy", torch.zeros(2, 3), torch.full((2,), -100)),
        ("kl_div", torch.zeros(2, 3), torch.zeros(2, 3)),
        ("binary_cross_entropy_with_logits", torch.zeros(2, 3), torch.full((2, 3), 0.5)),
    ],
    ids=["empty", "all ignored", "other loss", "shares"],
)
def test_it_is_silent_where_examples_have_no_label(
    name: str, output: torch.Tensor, target: torch.Tensor
) -> None:
    assert of(name, output, target) == read(Examples()) == {}


def test_each_of_several_tags_is_answered_by_itself() -> None:
    output, target = draw(40, 5), (draw(40, 5, seed=1) > 0).float()
    found = of("binary_cross_entropy_with_logits", output, target)
    each = torch.nn.functional.binary_cross_entropy_with_logits(output, target, reduction="none").flatten()
    assert found["loss_quantiles"] == pytest.approx(np.quantile(exact(each), np.linspace(0, 1, 11)), rel=1e-5)
