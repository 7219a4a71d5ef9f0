from __future__ import annotations

import math
from typing import Any

import torch

from tests.instruments.sample import draw, read
from vario.capture.needs import Drawn, LossCall
from vario.instruments.worst_examples import MOST, WorstExamples

LABELS = torch.arange(20) % 4
NUMBERS = list(range(100, 120))


def of(output: torch.Tensor, target: torch.Tensor, drawn: Drawn | None, name: str = "cross_entropy") -> Any:
    calls = [LossCall(name, output, target, torch.zeros(()), drawn=drawn)]
    found = read(WorstExamples(), loss_calls=calls)
    assert {where for _, where in found} <= {"loader 3"}
    return {series.removeprefix("worst/"): values for (series, _), values in found.items()}


def test_the_largest_losses_of_the_definition_come_first() -> None:
    output = draw(20, 4, scale=3.0)
    found = of(output, LABELS, Drawn("loader 3", NUMBERS, [LABELS]))
    losses = torch.nn.functional.cross_entropy(output.double(), LABELS, reduction="none")
    order = losses.argsort(descending=True)[:MOST]
    assert found["example"] == [100 + int(i) for i in order]
    assert torch.allclose(torch.tensor(found["loss"]).double(), losses[order], rtol=1e-5)
    assert found["target"] == LABELS[order].tolist()
    assert found["guess"] == output.argmax(1)[order].tolist()
    likely = output.double().softmax(1).gather(1, LABELS[:, None])[order, 0]
    assert torch.allclose(torch.tensor(found["probability"]).double(), likely, rtol=1e-4)


def test_small_batches_are_filled_up() -> None:
    found = of(draw(3, 4), LABELS[:3], Drawn("loader 3", NUMBERS[:3], [LABELS[:3]]))
    assert len(found["loss"]) == MOST and sum(math.isfinite(x) for x in found["loss"]) == 3


def test_silent_where_nobody_tells_which_examples_they_are() -> None:
    other = Drawn("loader 3", NUMBERS, [LABELS.flip(0)])
    short = Drawn("loader 3", NUMBERS[:10], [LABELS[:10]])
    for drawn in (None, other, short, Drawn("loader 3", NUMBERS, [])):
        assert not of(draw(20, 4), LABELS, drawn)


def test_silent_on_losses_that_are_no_numbers_and_without_an_example() -> None:
    assert not of(draw(20, 4) * float("nan"), LABELS, Drawn("loader 3", NUMBERS, [LABELS]))
    assert not of(draw(0, 4), LABELS[:0], Drawn("loader 3", [], [LABELS[:0]]))


def test_micro_batches_are_put_together() -> None:
    output = draw(20, 4, scale=3.0)
    whole = of(output, LABELS, Drawn("loader 3", NUMBERS, [LABELS]))
    parts = []
    for at in (slice(0, 10), slice(10, 20)):
        drawn = Drawn("loader 3", NUMBERS[at], [LABELS[at]])
        parts.append(LossCall("cross_entropy", output[at], LABELS[at], torch.zeros(()), drawn=drawn))
    found = read(WorstExamples(), loss_calls=parts)
    assert found["worst/example", "loader 3"] == whole["example"]


def test_a_regression_has_no_guess() -> None:
    target = draw(20, 1)
    found = of(draw(20, 1, seed=1), target, Drawn("loader 3", NUMBERS, [target.double()]), name="mse_loss")
    assert set(found) == {"example", "loss", "target"}
