"""Test ``vario.capture.printed``: which numbers of a line are told, and as what."""

from __future__ import annotations

import io
import sys

import pytest

from vario.capture.printed import figures, listen_to_figures


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("epoch 3 train_loss=0.5, val_loss=0.25", {"train loss": 0.5, "val loss": 0.25}),
        ("- Eval metrics : loss 0.512 ; accuracy 0.913", {"eval loss": 0.512, "eval accuracy": 0.913}),
        ("Epoch [3/10], Val Loss: 1e-3.", {"val loss": 0.001}),
        ("step 100 test RMSE tensor(0.93)", {"test rmse": 0.93}),
        ("7: train 0.5 val 0.25", {"train": 0.5, "val": 0.25}),
        ("{'epoch': 3, 'valLoss': 0.25}", {"val loss": 0.25}),
    ],
)
def test_figures_are_known_by_the_words_before_them(line: str, told: dict[str, float]) -> None:
    assert {words: value for _, value, words in figures(line)} == told


@pytest.mark.parametrize(
    "line",
    [
        "train loss 0.5, accuracy 0.9",  # nothing of held-out data
        "best val loss 0.5",  # has no course of its own
        "epoch 3 test 17.3s",
        "the latest loss is 0.5",
        "3 0.5 0.25",
        "[test] epoch 3",
    ],
)
def test_other_lines_tell_nothing(line: str) -> None:
    assert figures(line) == []


def test_a_loss_a_score_and_what_is_neither_are_told_apart() -> None:
    series = [name for name, _, _ in figures("val loss 0.5 val acc 91.2% test 0.7")]
    assert series == ["printed/loss", "printed/score", "printed/figure"]


def test_lines_are_heard_and_what_is_printed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    out, told = io.StringIO(), []
    monkeypatch.setattr(sys, "stdout", out)
    listen_to_figures(lambda *one: told.append(one))
    sys.stdout.write("epoch 1 ")
    print("val loss", 0.5)
    print("hello")
    assert out.getvalue() == "epoch 1 val loss 0.5\nhello\n"
    assert told == [("printed/loss", 0.5, "val loss")]


def test_a_failure_of_ours_is_none_of_print_and_a_closed_stdout_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*one: object) -> None:
        raise RuntimeError("of ours")

    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    listen_to_figures(fail)
    print("val loss", 0.5)
    print("val loss", 0.25)
    assert out.getvalue() == "val loss 0.5\nval loss 0.25\n"
    monkeypatch.setattr(sys, "stdout", None)
    listen_to_figures(fail)
