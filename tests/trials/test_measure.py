"""Test what a run gives to a comparison: the metric that is meant, budgets, warm-up apart, cut runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vario.nouns import NotApplicable, Reading, VarioError
from vario.record.reader import Run, open_run
from vario.record.store import RecordWriter
from vario.trials.measure import Metric, choose, course, pair_values

STEPS = 40


def recorded(
    path: Path, *, steps: int = STEPS, evaluations: bool = True, printed: str = "", batch: float = 10.0
) -> Run:
    """Steps of 0.1 s, of which ours are 0.02; the first takes 5 s; the loss falls by 1 a step from 100."""
    writer = RecordWriter(path)
    for step in range(steps):
        rows = [Reading("loss/train", 100.0 - step), Reading("loss/backwards", 2.0)]
        rows += [Reading("time/step", 5.02 if step == 0 else 0.12), Reading("time/own", 0.02)]
        rows += [Reading("hyper/lr", 0.1, "group 0"), Reading("memory/resident", 1e6 + step)]
        rows += [Reading("batch/size", batch)] if step in (0, 1, 5) else []
        if evaluations and step % 10 == 9:
            rows += [Reading("eval/loss", 50.0 - step, "loader 1"), Reading("eval/accuracy", 0.5, "loader 1")]
            rows += [Reading("eval/loss", 1.0, "loader 0"), Reading("eval/seen_share", 1.0, "loader 0")]
            rows += [Reading("eval/seen_share", 0.0, "loader 1")]
        writer.readings("model", step, rows)
    writer.close()
    if printed:
        (path / "stdout.txt").write_text(printed)
    return open_run(path)


def test_without_a_name_the_held_out_loss_is_taken_else_that_of_training(tmp_path: Path) -> None:
    metric = choose(recorded(tmp_path / "a"), None)
    assert (metric.series, metric.where, metric.higher_is_better) == ("eval/loss", "loader 1", False)
    assert "recorded evaluation loss (loader 1)" in metric.source
    metric = choose(recorded(tmp_path / "b", evaluations=False), None)
    assert metric.series == "loss/train" and metric.every_step
    assert "training loss (no evaluation was seen)" in metric.source


def test_a_series_is_meant_by_its_name_its_last_word_or_its_place(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    accuracy = choose(run, "accuracy")
    assert (accuracy.series, accuracy.where, accuracy.higher_is_better) == ("eval/accuracy", "loader 1", True)
    assert choose(run, "accuracy", higher_is_better=False).higher_is_better is False
    assert choose(run, "eval/loss@loader 0").where == "loader 0"
    assert choose(run, "loss").series == "eval/loss"
    with pytest.raises(VarioError, match="no series of that name was recorded; there are .*loss/train"):
        choose(run, "nonsense")
    with pytest.raises(VarioError, match="not at 'loader 7'"):
        choose(run, "eval/loss@loader 7")


def test_a_printed_number_is_found_also_where_the_record_did_not_hear_it(tmp_path: Path) -> None:
    patterns = (("accuracy", r"acc ([0-9.]+)"),)
    run = recorded(tmp_path, printed="acc 0.3\nepoch 2 acc 0.75\n")
    metric = choose(run, "accuracy", patterns=patterns)
    assert metric.higher_is_better
    found = course(run, metric)
    assert found.at("steps", STEPS) == 0.75
    with pytest.raises(NotApplicable, match=r"printed nothing that the expression acc \(\[0-9.\]\+\) finds"):
        course(recorded(tmp_path / "b"), metric)
    word = choose(run, "accuracy", patterns=(("accuracy", "epoch 2 (acc)"),))
    with pytest.raises(NotApplicable, match="found 'acc', which is no number"):
        course(run, word)
    with pytest.raises(NotApplicable, match="recorded no accuracy"):
        course(run, replace(metric, pattern=""))


def test_budgets_are_counted_and_what_the_first_steps_took_longer_is_apart(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    found = course(run, choose(run, None), seconds=20.0)
    assert found.steps.tolist() == [10, 20, 30, 40]
    assert found.total["examples"] == 2 * 10 * STEPS and found.examples.tolist() == [200, 400, 600, 800]
    assert found.total["time"] == pytest.approx(0.1 * STEPS)
    assert found.warmup_seconds == pytest.approx(4.9) and found.step_seconds == pytest.approx(0.1)
    assert found.start_seconds == pytest.approx(16.0) and found.memory_bytes == 1e6 + STEPS - 1
    assert found.at("steps", 25) == pytest.approx((31 + 21) / 2)  # half-way between two evaluations
    assert found.at("time", 1.0) == pytest.approx(41.0)


def test_the_training_loss_is_the_mean_over_the_last_tenth_of_the_budget(tmp_path: Path) -> None:
    run = recorded(tmp_path, evaluations=False)
    found = course(run, choose(run, None))
    assert found.at("steps", 40) == pytest.approx(np.mean([100 - s for s in (36, 37, 38, 39)]))
    assert found.at("steps", 20) == pytest.approx(np.mean([100 - s for s in (18, 19)]))
    assert found.at("steps", 1) == 100


def test_a_pair_is_compared_where_the_shorter_run_ended(tmp_path: Path) -> None:
    long, short = recorded(tmp_path / "a"), recorded(tmp_path / "b", steps=20, batch=40.0)
    metric = choose(long, None)
    one, other = course(long, metric), course(short, metric)
    assert pair_values(one, other, "steps") == (31.0, 31.0)
    assert pair_values(one, other, "examples") == (11.0, 41.0)  # 800 examples: 40 steps here, 10 there
    flat = Metric("x", "loss/train", every_step=True)
    assert pair_values(course(long, flat), course(short, flat), "steps") == (81.5, 81.5)


def test_a_short_batch_that_only_one_run_measured_sets_none_apart(tmp_path: Path) -> None:
    totals = []
    for name, measured in (("a", {0: 32.0, 7: 32.0, 11: 32.0}), ("b", {0: 32.0, 5: 32.0, 9: 7.0, 14: 32.0})):
        writer = RecordWriter(tmp_path / name)
        for step in range(20):
            rows = [Reading("loss/train", 1.0)]
            rows += [Reading("batch/size", measured[step])] if step in measured else []
            writer.readings("model", step, rows)
        writer.close()
        run = open_run(tmp_path / name)
        totals.append(course(run, choose(run, None)).total["examples"])
    assert totals == [640.0, 640.0]
    writer = RecordWriter(tmp_path / "grows")
    for step in range(20):
        size = 8.0 if step < 10 else 16.0
        writer.readings("model", step, [Reading("loss/train", 1.0), Reading("batch/size", size)])
    writer.close()
    run = open_run(tmp_path / "grows")
    assert course(run, choose(run, None)).total["examples"] == 240.0


def test_readings_that_only_one_run_has_do_not_count(tmp_path: Path) -> None:
    run = recorded(tmp_path, evaluations=False)
    whole = course(run, choose(run, None))
    some = whole.of_steps(np.array([4.0, 38.0, 40.0]))
    assert pair_values(whole, some, "steps") == (62.0, 62.0)
