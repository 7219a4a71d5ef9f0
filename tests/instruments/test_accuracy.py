from __future__ import annotations

import pytest
import torch

from tests.instruments.sample import draw, exact, read
from vario.capture.needs import LossCall
from vario.instruments.accuracy import Accuracy


def call(output: torch.Tensor, target: torch.Tensor, name: str = "cross_entropy") -> LossCall:
    return LossCall(name, output, target, torch.zeros(()))


def test_known_guesses_are_counted_over_all_micro_batches() -> None:
    first = call(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 1, 2]))
    second = call(torch.eye(3)[[2, 2]], torch.tensor([2, 0]))
    assert read(Accuracy(), loss_calls=[first, second]) == {
        ("accuracy/train", ""): pytest.approx(3 / 5),
        ("accuracy/class_correct", ""): [1.0, 1.0, 1.0],
        ("accuracy/predicted_counts", ""): [1.0, 2.0, 2.0],
    }


def test_it_equals_numpy_on_random_outputs() -> None:
    output, target = draw(500, 7), torch.randint(0, 7, (500,), generator=torch.Generator().manual_seed(0))
    right = (exact(output).argmax(axis=1) == target.numpy()).mean()
    assert read(Accuracy(), loss_calls=[call(output, target)])["accuracy/train", ""] == pytest.approx(right)


def test_a_single_output_is_right_on_its_side_of_zero() -> None:
    binary = call(
        torch.tensor([2.0, -1.0, 3.0, -2.0]),
        torch.tensor([1.0, 0.0, 0.0, 0.0]),
        "binary_cross_entropy_with_logits",
    )
    found = read(Accuracy(), loss_calls=[binary])
    assert found["accuracy/train", ""] == 0.75
    assert found["accuracy/class_correct", ""] == [2.0, 1.0]


def test_a_probability_of_exactly_0_or_1_is_an_answer() -> None:
    sure = call(
        torch.tensor([1.0, 0.0, 1.0, 0.4]), torch.tensor([1.0, 0.0, 0.0, 1.0]), "binary_cross_entropy"
    )
    found = read(Accuracy(), loss_calls=[sure])
    assert found["accuracy/train", ""] == 0.5
    assert found["accuracy/class_correct", ""] == [1.0, 1.0]


def test_many_classes_are_not_counted_one_by_one() -> None:
    found = read(Accuracy(), loss_calls=[call(draw(4, 1001), torch.arange(4))])
    assert set(found) == {("accuracy/train", "")}


def test_it_is_silent_for_regression() -> None:
    assert read(Accuracy(), loss_calls=[call(draw(4), draw(4), "mse_loss")]) == read(Accuracy()) == {}
