"""Test ``vario.capture.evaluation``: what a pass says of classifiers with one output or many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, nll_loss

from vario.capture.evaluation import Evaluation
from vario.capture.needs import LossCall

SCORES = torch.tensor([2.0, -1.0, 0.5, -3.0])
LABELS = torch.tensor([1.0, 1.0, 1.0, 0.0])


def readings(
    output: torch.Tensor,
    target: torch.Tensor,
    function: Callable[..., torch.Tensor] = binary_cross_entropy_with_logits,
) -> dict[str, object]:
    told: list = []
    evaluation = Evaluation(told.extend, budget=1.0)
    call = LossCall(function.__name__, output, target, function(output, target), "mean", None)
    evaluation.add("", call, dict)
    evaluation.close()
    return {reading.series: reading.value for reading in told}


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_yes_or_no_output_is_right_and_sure_as_two_classes_are(shape: tuple[int, ...]) -> None:
    found = readings(SCORES.reshape(shape), LABELS.reshape(shape))
    assert found["eval/accuracy"] == 0.75
    sure = torch.sigmoid(SCORES.abs()).mean().item()
    assert found["eval/confidence"] == pytest.approx(sure, rel=1e-6)
    assert (found["eval/class_counts"], found["eval/class_correct"]) == ([1.0, 3.0], [1.0, 2.0])


def test_each_of_several_tags_is_an_answer_and_shares_have_a_loss_alone() -> None:
    found, single = readings(SCORES.reshape(2, 2), LABELS.reshape(2, 2)), readings(SCORES, LABELS)
    assert found["eval/accuracy"] == single["eval/accuracy"] and found["eval/examples"] == 2
    found = readings(SCORES.reshape(2, 2), 0.5 * LABELS.reshape(2, 2))
    assert "eval/loss" in found and "eval/accuracy" not in found


def test_confidence_is_a_share_also_where_probabilities_were_taken_for_their_logarithms() -> None:
    labels, scores = torch.tensor([0, 1, 1, 0]), torch.stack([SCORES, -SCORES], 1)
    right = readings(scores.log_softmax(1), labels, nll_loss)["eval/confidence"]
    assert right == pytest.approx(scores.softmax(1).max(1).values.mean().item(), rel=1e-6)
    wrong = readings(scores.softmax(1), labels, nll_loss)["eval/confidence"]
    assert 0.5 <= wrong <= 1  # type: ignore[operator]
