from __future__ import annotations

from dataclasses import replace

import torch

from tests.instruments.sample import draw, read
from vario.capture.loss_calls import read_call
from vario.capture.needs import LossCall
from vario.instruments.batch import Batch


def call(labels: list[int], classes: int = 3, name: str = "cross_entropy", ignore: int = -100) -> LossCall:
    output = draw(len(labels), classes)
    return LossCall(name, output, torch.tensor(labels), torch.zeros(()), ignore_index=ignore)


def test_the_size_is_that_of_a_micro_batch_and_classes_are_counted_over_all_of_them() -> None:
    found = read(Batch(), inputs=[draw(4, 8)], loss_calls=[call([0, 0, 1, 2]), call([1, 1, 0, 0])])
    assert found == {
        ("batch/size", ""): 4.0,
        ("batch/targets", ""): 8.0,
        ("batch/class_counts", ""): [4.0, 3.0, 1.0],
    }


def test_tokens_are_counted_as_labels_and_sequences_as_the_batch() -> None:
    found = read(
        Batch(),
        inputs=[torch.zeros(2, 5, dtype=torch.long)],
        loss_calls=[call([0, 1, 2, 2, 2, 1, 0, 0, 1, 1])],
    )
    assert found["batch/size", ""] == 2.0
    assert found["batch/targets", ""] == 10.0
    assert found["batch/class_counts", ""] == [3.0, 4.0, 3.0]


def test_ignored_labels_are_not_counted() -> None:
    found = read(Batch(), loss_calls=[call([0, -1, 2, -1], ignore=-1)])
    assert found == {
        ("batch/size", ""): 4.0,
        ("batch/targets", ""): 2.0,
        ("batch/class_counts", ""): [1.0, 0.0, 1.0],
    }


def test_more_than_a_thousand_classes_and_shares_of_classes_are_not_counted() -> None:
    sizes = {("batch/size", ""), ("batch/targets", "")}
    assert set(read(Batch(), loss_calls=[call([0, 1], classes=1001)])) == sizes
    shares = LossCall("cross_entropy", draw(4, 3), draw(4, 3).softmax(1), torch.zeros(()))
    assert set(read(Batch(), loss_calls=[shares])) == sizes


def test_it_is_silent_without_inputs_and_losses() -> None:
    assert read(Batch()) == {}


def test_an_ignored_label_may_be_a_class() -> None:
    assert read(Batch(), loss_calls=[call([0, 0, 1, 2], ignore=0)])["batch/class_counts", ""] == [
        0.0,
        1.0,
        1.0,
    ]


def test_weights_of_classes_are_those_that_the_loss_was_given() -> None:
    counted = {("batch/size", ""), ("batch/targets", ""), ("batch/class_counts", "")}
    weighed = replace(call([0, 0, 1, 2]), weight=torch.tensor([0.5, 1.0, 4.0]))
    assert read(Batch(), loss_calls=[weighed])["batch/class_weights", ""] == [0.5, 1.0, 4.0]
    assert set(read(Batch(), loss_calls=[call([0, 1])])) == counted
    assert set(read(Batch(), loss_calls=[replace(weighed, weight=torch.ones(4, 3))])) == counted
    given = torch.randn(6, requires_grad=True), (torch.arange(6) % 2).float()
    function = torch.nn.functional.binary_cross_entropy_with_logits
    yes_or_no = read_call(
        function.__name__, function, given, {"pos_weight": torch.tensor(3.0)}, function(*given)
    )
    assert yes_or_no is not None
    assert read(Batch(), loss_calls=[yes_or_no])["batch/class_weights", ""] == [1.0, 3.0]
