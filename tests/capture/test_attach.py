"""Test ``vario.capture.attach``: what the record holds of each kind of training script."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from tests.observed import Ran

Watched = Callable[[str], Ran]


def losses(ran: Ran, stream: str = "") -> list[float]:
    record = ran.record if not stream else next(r for r in ran.run.records() if r.stream == stream)
    steps, values = record.series("loss/train")
    assert list(steps) == list(range(record.step_count))
    return list(values)


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("plain_loop", "model"),
        ("closure", "net"),
        ("lbfgs", "model"),
        ("accumulation", "model"),
        ("grad_scaler", "model"),
        ("in_backward", "model"),
        ("by_hand", "model"),
        ("compiled", "model"),
        ("bf16", "model"),
        ("tied", "lm"),
        ("called_twice", "encoder"),
        ("functional", "model"),
    ],
)
def test_losses_and_steps_are_those_that_the_script_prints(name: str, stream: str, watched: Watched) -> None:
    ran = watched(name)
    assert ran.code == 0, ran.err
    assert "switched off" not in ran.err and not ran.record.events("switched_off")
    assert ran.record.stream == stream
    printed = [float(line.split()[1]) for line in ran.out.splitlines() if line.startswith("loss ")]
    assert losses(ran) == pytest.approx(printed, abs=1e-6)


def test_a_plain_loop_is_seen_whole(watched: Watched) -> None:
    ran = watched("plain_loop")
    record = ran.record
    tests = [line.split() for line in ran.out.splitlines() if line.startswith("test")]
    steps, values = record.series("eval/loss", "loader 1")
    assert list(steps) == [5, 11, 17]
    assert values == pytest.approx([float(words[2]) for words in tests], abs=1e-6)
    assert record.series("eval/accuracy", "loader 1")[1] == pytest.approx([float(w[4]) for w in tests])
    assert set(record.series("eval/examples", "loader 1")[1]) == {64.0}
    assert [event.data["shuffle"] for event in record.events("loader")] == [True, False]
    assert [event.data["replacement"] for event in record.events("loader")] == [False, False]
    assert [(event.step, event.data["epoch"]) for event in record.events("epoch")] == [
        (0, 0),
        (6, 1),
        (12, 2),
    ]
    assert set(record.series("mode/train_share", "Dropout")[1]) == {1.0}
    assert set(record.series("mode/eval_share", "BatchNorm1d")[1]) == {0.0}
    names = [parameter["name"] for parameter in record.events("parameters")[0].data["parameters"]]
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]
    assert set(record.series("data/repeat_share")[1][6:]) == {1.0}
    assert set(record.series("data/duplicate_share")[1]) == {0.0}
    assert set(record.series("data/same_order")[1]) == {0.0}
    assert set(record.series("eval/seen_share", "loader 1")[1]) == {0.0}
    assert record.events("exit")[-1].data == {"code": 0, "signal": 0, "error": ""}


def test_gradients_inside_a_closure_are_this_steps(watched: Watched) -> None:
    record = watched("closure").record
    lr = record.last("hyper/lr", "group 0")
    # the first step of Adam moves every weight by lr, whatever its gradient: the gradient is not stale if not 0  # noqa: E501
    assert record.series("update/norm", "0.weight")[1][0] == pytest.approx(lr * np.sqrt(6 * 12), rel=1e-3)
    assert (record.series("gradient/norm")[1] > 0).all()


def test_lbfgs_is_one_step_each_time(watched: Watched) -> None:
    record = watched("lbfgs").record
    assert record.step_count == 5
    assert list(record.series("loss/backwards")[1]) == [1.0] * 5


def test_accumulation_and_clipping(watched: Watched) -> None:
    ran = watched("accumulation")
    assert list(ran.record.series("loss/backwards")[1]) == [4.0] * 16
    norms = [float(line.split()[3]) for line in ran.out.splitlines()]
    assert ran.record.series("clipping/norm_before")[1] == pytest.approx(norms, abs=1e-6)
    # gradients are read after clipping to 0.1
    assert ran.record.series("gradient/norm")[1] == pytest.approx([0.1] * 16, rel=1e-3)
    assert set(ran.record.series("gradient/carried")[1]) == {0.0}
    assert set(ran.record.series("data/same_order")[1]) == {1.0}
    schedulers = ran.record.events("scheduler")
    assert [event.data["steps_per_epoch"] for event in schedulers] == [None, 8.0, 8.0]
    assert schedulers[0].data["settings"]["T_max"] == 16


def test_skipped_steps_are_events_and_their_losses_go_with_them(watched: Watched) -> None:
    ran = watched("grad_scaler")
    skipped = ran.out.splitlines().count("skipped")
    assert skipped > 0
    assert len(ran.record.events("skipped_step")) == skipped
    assert ran.record.step_count == 12 - skipped
    assert set(ran.record.series("loss/backwards")[1]) == {1.0}
    assert (ran.record.series("gradient/norm")[1] < 1e3).all()  # unscaled: the scale is 1e38
    assert ran.record.events("autocast")[0].data["dtype"] == "bfloat16"


def test_a_fused_optimizer_that_is_called_for_nothing_has_skipped_the_step(watched: Watched) -> None:
    ran = watched("fused_scaler")
    assert ran.code == 0 and "switched off" not in ran.err, ran.err
    skipped = ran.out.splitlines().count("skipped")
    assert skipped > 0
    assert [event.step for event in ran.record.events("skipped_step")] == list(range(skipped))
    steps, values = ran.record.series("loss/train")
    assert list(steps) == list(range(skipped, 12))
    assert values == pytest.approx(ran.printed("loss"), abs=1e-6)
    assert np.isfinite(ran.record.series("gradient/norm")[1]).all()
    assert (ran.record.series("gradient/norm")[1] < 1e3).all()  # unscaled: the scale is 1e38


def test_two_models_are_two_streams(watched: Watched) -> None:
    ran = watched("gan")
    lines = [line.split() for line in ran.out.splitlines()]
    assert losses(ran, "netD") == pytest.approx([float(words[1]) for words in lines], abs=1e-6)
    assert losses(ran, "netG") == pytest.approx([float(words[3]) for words in lines], abs=1e-6)
    discriminator, generator = ran.run.records()
    assert list(discriminator.series("loss/backwards")[1]) == [2.0] * 10
    assert (discriminator.series("input/mean")[1] > 2).all()  # real numbers are about 3
    assert (abs(generator.series("input/mean")[1]) < 1).all()  # noise is about 0
    assert discriminator.last("hyper/lr", "group 0") == pytest.approx(0.002)
    assert generator.last("hyper/lr", "group 0") == pytest.approx(0.001)


def test_optimizers_inside_the_backward_are_one_stream(watched: Watched) -> None:
    ran = watched("in_backward")
    assert [record.stream for record in ran.run.records()] == ["model"]
    assert ran.record.wheres("hyper/lr") == ("group 0",)
    assert (ran.record.series("gradient/norm", "0.weight")[1] > 0).all()
    moved = ran.record.series("update/norm", "0.weight")[1]
    assert moved[0] == pytest.approx(0.01 * np.sqrt(6 * 12), rel=1e-2)


def test_updates_by_hand_are_steps_with_clipped_gradients(watched: Watched) -> None:
    record = watched("by_hand").record
    steps, norms = record.series("gradient/norm", "2.weight")
    _, moved = record.series("update/norm", "2.weight")
    assert list(steps) == list(range(1, 9))
    assert moved[-8:] == pytest.approx(0.5 * norms, rel=1e-4)  # lr times the gradient
    # Such a step is known after the next one's loss was called, which must not be lost with it.
    at, quantiles = record.series("examples/loss_quantiles")
    losses = dict(zip(*record.series("loss/train"), strict=True))
    assert len(at) == 9
    assert quantiles.mean(axis=1) == pytest.approx([losses[step] for step in at], rel=0.05)


def test_a_compiled_model_has_plain_names_and_no_warning(watched: Watched) -> None:
    ran = watched("compiled")
    assert "warn" not in ran.err.lower(), ran.err
    assert ran.record.wheres("gradient/norm") == ("0.weight", "0.bias", "2.weight", "2.bias", "")
    assert len(ran.record.events("compiled")) == 1


def test_tied_weights_are_one_parameter(watched: Watched) -> None:
    parameters = watched("tied").record.events("parameters")[0].data["parameters"]
    assert [parameter["name"] for parameter in parameters] == ["embed.weight", "hidden.weight", "hidden.bias"]


def test_raw_tensors_are_named_after_their_variables(watched: Watched) -> None:
    record = watched("functional").record
    assert record.wheres("gradient/norm") == ("w1", "b1", "w2", "")


def test_each_rank_has_a_stream(watched: Watched) -> None:
    ran = watched("ddp")
    assert ran.code == 0, ran.err
    for rank, stream in enumerate(("model", "model@1")):
        printed = [float(found) for found in re.findall(rf"rank {rank} loss ([0-9.]+)", ran.out)]
        assert losses(ran, stream) == pytest.approx(printed, abs=1e-6)
    first, second = ran.run.records()
    assert list(first.series("gradient/norm")[1]) == list(second.series("gradient/norm")[1])  # all-reduced


def test_lightning(watched: Watched) -> None:
    ran = watched("lightning_trainer")
    assert ran.code == 0, ran.err
    micro = [float(line.split()[1]) for line in ran.out.splitlines() if line.startswith("micro")]
    assert ran.record.stream == "classifier"
    assert losses(ran) == pytest.approx(np.reshape(micro, (6, 2)).mean(axis=1), abs=1e-6)
    held_out = [float(line.split()[1]) for line in ran.out.splitlines() if line.startswith("val")]
    steps, values = ran.record.series("eval/loss", "loader 0")
    assert list(steps) == [-1, 2, 5]  # the first is the sanity check
    assert values[1:] == pytest.approx(held_out, abs=1e-6)
    assert ran.record.wheres("gradient/norm")[0] == "net.0.weight"


def test_hugging_face_trainer(watched: Watched) -> None:
    ran = watched("hf_trainer")
    assert ran.code == 0, ran.err
    printed = [float(line.split()[1]) for line in ran.out.splitlines() if line.startswith("loss ")]
    assert len(printed) == 12
    assert losses(ran) == pytest.approx(printed, abs=1e-6)
    assert list(ran.record.series("loss/backwards")[1]) == [2.0] * 12
    # Trainer divides by all 12 labels of a row, though only 11 are predicted
    held_out = [float(line.split()[1]) for line in ran.out.splitlines() if line.startswith("eval_loss ")]
    steps, values = ran.record.series("eval/loss", "loader 1")
    assert list(steps) == [5, 11]
    assert values == pytest.approx(np.multiply(held_out, 12 / 11), abs=1e-5)


def test_a_script_that_raises_keeps_its_record_and_its_traceback(watched: Watched) -> None:
    ran = watched("raises")
    assert ran.code == 1
    assert "ValueError: the data ran out" in ran.err
    assert ran.record.events("exit")[-1].data["error"] == "ValueError: the data ran out"
    assert ran.run.status == "failed"
    assert ran.record.step_count == 231


def test_a_script_that_exits_keeps_its_code_and_its_record(watched: Watched) -> None:
    ran = watched("exits")
    assert ran.code == 3
    assert ran.record.step_count == 231


def test_a_killed_script_loses_less_than_fifty_steps(watched: Watched) -> None:
    ran = watched("killed")
    assert ran.code == 128 + 9
    assert ran.run.status == "killed"
    assert 181 <= ran.record.step_count <= 231
