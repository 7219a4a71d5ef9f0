"""Prescriptions: every finding has one, and every number follows from the record."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

from tests.test_habits import VOCABULARY
from vario.nouns import Diagnosis, Evidence, Finding
from vario.record import Event, Record, record_of
from vario.remedies import prescribe as room
from vario.remedies.figures import number, rounded, size
from vario.remedies.prescribe import MAKERS, prescribe

COMMAND = ["/usr/bin/python3", "train.py", "--lr", "3.0", "--name", "two words"]
STEPS = np.arange(100)


def finding(
    id: str, *evidence: Evidence, where: tuple[str, ...] = (), steps: tuple[int, int] = (0, 99)
) -> Finding:
    return Finding(id, "error", 0.9, where, steps, evidence)


def record(series: dict | None = None, *events: Event) -> Record:
    return record_of(series or {}, events=events, meta={"command": COMMAND})


def constant(value: float) -> tuple[np.ndarray, np.ndarray]:
    return STEPS, np.full(len(STEPS), float(value))


def changes(id: str, seen: Record, evidence: tuple[Evidence, ...] = (), **options) -> list[str]:
    """The plain changes, without the methods of the catalogue."""
    cures = prescribe(finding(id, *evidence, **options), seen)
    return [cure.change for cure in cures if not cure.method]


def test_large_counts_for_people():
    assert [size(count) for count in (999, 1e3, 1_234_567, 2.5e9)] == ["999", "1 k", "1.23 M", "2.5 G"]


def test_every_finding_of_the_vocabulary_has_a_maker_and_no_other() -> None:
    assert set(MAKERS) == set(VOCABULARY)


@pytest.mark.parametrize("id", sorted(MAKERS))
def test_an_empty_record_still_gets_something_to_do_and_no_made_up_number(id: str) -> None:
    cures = prescribe(finding(id), record())
    assert cures and cures[0].available and len(cures[0].change) > 20
    for cure in cures:
        assert "nan" not in cure.change.split() and "not a number" not in cure.change


@pytest.mark.parametrize("id", sorted(MAKERS))
def test_series_of_nothing_but_nan_break_no_maker(id: str) -> None:
    names = (
        "loss/train",
        "update/ratio",
        "gradient/norm",
        "weight/norm",
        "update/norm",
        "logits/largest",
        "eval/loss",
    )
    broken = {name: constant(float("nan")) for name in names}
    broken |= {("hyper/lr", "group 0"): constant(0.1), ("hyper/eps", "group 0"): constant(1e-8)}
    for cure in prescribe(finding(id, where=("a.weight",)), record(broken)):
        assert "not a number" not in cure.change and "infinite times" not in cure.change


@pytest.mark.parametrize(("ratio", "lr", "expected"), [(0.4, 3.0, 0.1), (0.05, 0.1, 0.02), (0.02, 1.0, 0.5)])
def test_a_rate_too_high_is_brought_to_where_the_update_is_one_percent(
    ratio: float, lr: float, expected: float
) -> None:
    sick = record({"update/ratio": constant(ratio), ("hyper/lr", "group 0"): constant(lr)})
    first = prescribe(finding("learning-rate-too-high"), sick)[0]
    assert first.change.startswith(
        f"lr {lr:.4g} -> {expected:.4g}: the update is {number(100 * ratio)} % of the weight"
    )
    assert f"--set optimizer.lr={expected:.4g}" in first.trial
    # The number is a rounded lr * 1 % / ratio, never off by more than the rounding grid.
    assert 0.6 < expected / (lr * 0.01 / ratio) < 1.7


def test_the_ratio_that_the_rule_saw_comes_before_the_record() -> None:
    seen = Evidence("largest update ratio", 0.4, 0.4, 0.4, 0.1)
    sick = record({"update/ratio": constant(0.02), ("hyper/lr", "group 0"): constant(3.0)})
    assert (
        "3 -> 0.1: the update is 40 %" in prescribe(finding("learning-rate-too-high", seen), sick)[0].change
    )


def test_a_step_of_a_warm_up_is_scaled_from_the_rate_that_it_had() -> None:
    """At .003 on the way to .1 a step changed the weights by 4.8 %: 1 % is that of .0006, not of .02."""
    seen = (
        Evidence("largest update ratio", 0.048, 0.048, 0.048, 0.1),
        Evidence("learning rate", 0.003, 0.003, 0.003, 0.0006),
    )
    at = np.arange(100)
    rises = record({("hyper/lr", "group 0"): (at, np.minimum((at + 1) / 1000, 0.1))})
    found = Finding("learning-rate-too-high", "error", 0.9, (), (2, 99), seen)
    assert prescribe(found, rises)[0].change.startswith(
        "lr 0.1 -> 0.0005: at 0.003 the update is 4.8 % of the weight per step; 0.1 % to 1 % is usual"
    )


def test_a_usual_ratio_yields_a_third_and_says_that_it_is_no_estimate() -> None:
    usual = record({"update/ratio": constant(0.004), ("hyper/lr", "group 0"): constant(0.3)})
    change = changes("learning-rate-too-high", usual)[0]
    assert "0.3 -> 0.1" in change and "no estimate" in change
    assert "0.3 -> 1:" in changes("learning-rate-too-low", usual)[0]


def test_a_rate_too_low_rises_to_where_the_update_is_a_thousandth() -> None:
    slow = record({"update/ratio": constant(1e-6), ("hyper/lr", "group 0"): constant(1e-5)})
    assert "1e-05 -> 0.01: the update is 1e-4 % of the weight" in changes("learning-rate-too-low", slow)[0]


def test_a_schedule_counts_from_its_peak() -> None:
    falling = record({("hyper/lr", "group 0"): (STEPS, 0.8 * 0.9**STEPS)})
    change = changes("learning-rate-decayed-too-early", falling)[0]
    # 0.9^22 < 0.1 for the first time, the 23rd of 100 steps.
    assert "a tenth of its peak 0.8 at step 22, 23 % of the way" in change


def test_batch_follows_the_noise_scale_and_lr_the_rule_of_the_optimizer() -> None:
    noise = Evidence("noise scale", 500.0, 400.0, 600.0, 64.0)
    series = {"batch/size": constant(32), ("hyper/lr", "group 0"): constant(0.01)}
    for kind, lr in (("SGD", 0.2), ("AdamW", 0.05)):  # 16 times the batch: lr x 16 = 0.16, or x 4 = 0.04
        events = (
            Event("optimizer", 0, data={"class": kind}),
            Event("loader", 0, "loader 1", {"length": 9000}),
        )
        cures = prescribe(finding("batch-too-small", noise), record(series, *events))
        assert cures[0].change.startswith("batch 32 -> 512")
        assert cures[0].trial.endswith(f"--set loader.batch_size=512+optimizer.lr={lr}")
        assert cures[1].change.startswith(f"with it lr 0.01 -> {lr}") and not cures[1].trial, kind
        by_hand = prescribe(finding("batch-too-small", noise), record(series, events[0]))
        assert by_hand[0].change == cures[0].change and not any("--set" in cure.trial for cure in by_hand)


def test_no_batch_is_smaller_than_an_example_or_larger_than_the_data() -> None:
    trained = record({"batch/size": constant(16)}, Event("loader", 0, "loader 1", {"length": 300}))
    for scale, goal in ((0.04, 1), (40.0, 32), (9000.0, 300)):
        noise = Evidence("noise scale", scale, scale / 2, scale * 2, 64.0)
        assert changes("batch-too-large", trained, (noise,))[0].startswith(f"batch 16 -> {goal}:")


def test_class_weights_are_inverse_shares_with_mean_one_over_the_examples() -> None:
    counts = np.tile([90.0, 10.0], (100, 1))
    change = changes("class-imbalance", record({"batch/class_counts": (STEPS, counts)}))[0]
    assert "torch.tensor([0.556, 5])" in change and "10 %" in change


def test_inputs_are_shifted_and_scaled_by_what_was_measured() -> None:
    change = changes("unnormalized-inputs", record({"input/mean": constant(130), "input/std": constant(70)}))[
        0
    ]
    assert "(x - 130) / 70" in change


def test_features_of_different_units_get_no_common_scale_but_pixels_do() -> None:
    table = {"input/mean": constant(130), "input/std": constant(70), "input/feature_spread": constant(1e6)}
    assert "each feature" in changes("unnormalized-inputs", record(table))[0]
    pixels = table | {"input/smallest": constant(0), "input/largest": constant(255)}
    assert "(x - 130) / 70" in changes("unnormalized-inputs", record(pixels))[0]


def test_broken_targets_are_named_as_targets() -> None:
    seen = record(
        {"target/non_finite": (STEPS, np.where(STEPS == 30, 2.0, 0.0)), "input/non_finite": constant(0)}
    )
    first, second = changes("non-finite-input", seen)[:2]
    assert "of the targets" in first and "1 of 100 measured batches" in first and first.endswith("step 30")
    assert "target is missing" in second


def test_an_evaluation_that_breaks_alone_is_looked_for_in_the_forward_not_in_the_backward() -> None:
    seen = record({("eval/loss", "loader 1"): constant(np.nan)})
    (alone,) = changes("non-finite", seen, where=("loader 1",))
    assert "a batch of loader 1 in eval mode" in alone
    assert "detect_anomaly" in changes("non-finite", seen, where=("layer.weight",))[0]


def test_batches_cut_by_hand_get_no_setting_of_a_loader() -> None:
    by_hand, loaded = record(), record({}, Event("loader", 0, "loader 1", {"sampler": "SequentialSampler"}))
    assert "torch.randperm" in changes("unshuffled-data", by_hand)[0]
    assert "--set loader.shuffle=true" in prescribe(finding("unshuffled-data"), loaded)[0].trial


def test_the_wrong_mode_is_said_with_the_share_that_was_found() -> None:
    off = Evidence("steps in eval mode", 0.8, 0.8, 0.8, 0.0)
    fine = Evidence("evaluations in train mode", 0.0, 0.0, 0.0, 0.0)
    only = changes("train-eval-mode", record(), evidence=(off, fine), where=("Dropout",))
    assert len(only) == 1 and "model.train()" in only[0] and "80 % of the steps" in only[0]


def test_strong_dropout_falls_to_a_number_that_one_types() -> None:
    layers = [{"name": "drop", "class": "Dropout", "p": 0.97}]
    only = changes("excessive-regularization", record({}, Event("modules", 0, "", {"modules": layers})))[0]
    assert only.startswith("dropout 0.97 -> 0.5 (drop):")


@pytest.mark.parametrize(("rms", "eps", "goal"), [(3e-3, 1.0, "1e-08, the default"), (1e-8, 1e-8, "1e-10")])
def test_epsilon_goes_to_its_default_where_that_is_small_enough(rms: float, eps: float, goal: str) -> None:
    seen = record({"gradient/std": constant(rms), ("hyper/eps", "group 0"): constant(eps)})
    assert changes("adam-epsilon-dominates", seen)[0].startswith(f"eps {eps:.4g} -> {goal}:")


def test_units_that_start_at_their_flat_ends_are_started_anew_first() -> None:
    def first(share: np.ndarray) -> str:
        seen = record({("activation/saturation_share", "net.0"): (STEPS, share)})
        return changes("saturated-activations", seen, where=("net.0",))[0]

    assert first(np.full(100, 0.9)).startswith("initialize")
    assert first(np.linspace(0, 0.9, 100)).startswith("sigmoid or tanh -> ReLU")


def test_the_share_at_the_flat_ends_is_that_of_the_finding() -> None:
    """Not the median of the run, most of which was before."""
    late = record({("activation/saturation_share", "net.0"): (STEPS, np.where(STEPS < 70, 0.1, 0.8))})
    told = Evidence("share saturated", 0.8, 0.7, 0.9, 0.5, "net.0")
    assert "80 % of the outputs" in changes("saturated-activations", late, (told,), where=("net.0",))[0]


def test_a_layer_that_all_goes_through_is_made_wider() -> None:
    narrow = Evidence("width that all goes through", 2, 2, 2, 3, "net.0")
    assert changes("rank-collapse", record(), (narrow,), where=("net.0",))[0].startswith("make net.0 wider")
    assert changes("rank-collapse", record(), where=("net.0",))[0].startswith("normalize")


def test_of_an_evaluation_on_training_data_nothing_can_be_taken_out() -> None:
    def first(share: float) -> str:
        last = record({("eval/seen_share", "loader 1"): constant(0.99)})  # one of several evaluations
        told = Evidence("share of rows seen in training", share, share, share, 0.01, "loader 1")
        return changes("train-test-leakage", last, (told,), where=("loader 1",))[0]

    assert first(0.3).startswith("take the shared examples out") and "30 % of the rows" in first(0.3)
    assert "hold out a tenth" in first(1.0)


def test_a_warm_up_takes_no_more_than_a_tenth_of_the_run() -> None:
    epochs = [Event("epoch", 25 * k, "loader 0", {"epoch": k}) for k in range(4)]
    sick = record({"update/ratio": constant(0.4), ("hyper/lr", "group 0"): constant(1.0)}, *epochs)
    assert "over the first 10 steps (0.4 epochs of 25)" in changes("learning-rate-too-high", sick)[1]


def test_units_that_were_dead_from_the_first_step_are_started_anew_and_no_rate_is_blamed() -> None:
    seen = record(
        {("activation/dead_channels", "net.0"): constant(9), ("hyper/lr", "group 0"): constant(0.1)}
    )
    begun = changes("dead-units", seen, where=("net.0",), steps=(0, 99))
    later = changes("dead-units", seen, where=("net.0",), steps=(40, 99))
    assert begun[0].startswith("initialize") and not any(change.startswith("lr") for change in begun)
    assert later[0].startswith("ReLU") and later[1].startswith("lr 0.1")


def test_a_matrix_of_zeros_has_no_gradient_because_of_what_it_is() -> None:
    rows = {"parameters": [{"name": "emb.weight", "shape": [9, 4]}]}
    zeros = record({("weight/norm", "emb.weight"): constant(0)}, Event("parameters", 0, "", rows))
    fine = record({("weight/norm", "emb.weight"): constant(1)}, Event("parameters", 0, "", rows))
    assert changes("no-gradient", zeros, where=("emb.weight",))[0].startswith("initialize emb.weight")
    assert "detach" in changes("no-gradient", fine, where=("emb.weight",))[0]


def test_what_a_backward_layer_gives_at_the_last_place_has_read_one_element() -> None:
    alone = changes("no-gradient", record(), where=("rnn.weight_hh_l0_reverse",))
    assert "first place" in alone[0] and "detach" not in alone[0]
    among = changes("no-gradient", record(), where=("rnn.weight_hh_l0_reverse", "emb.weight"))
    assert "detach" in among[0]


def test_an_optimizer_of_another_model_is_built_anew() -> None:
    seen = record({"update/norm": constant(0)})
    assert changes("no-gradient", seen)[0].startswith("build the optimizer from the parameters of the model")


def test_a_rate_of_updates_by_hand_gets_a_factor() -> None:
    by_hand = lambda ratio: record({"update/ratio": constant(ratio)})  # noqa: E731
    assert changes("learning-rate-too-high", by_hand(1.0))[0].startswith(
        "multiply the learning rate by 0.01:"
    )
    assert changes("learning-rate-too-low", by_hand(1e-5))[0].startswith("multiply the learning rate by 100:")
    assert not any("learning rate by" in change for change in changes("loss-plateau", by_hand(1e-5)))


def test_a_schedule_that_two_events_tell_of_is_named_once() -> None:
    stepped = [Event("scheduler", k, "", {"class": "StepLR", "steps_per_epoch": 33}) for k in (0, 33)]
    found = changes("learning-rate-decayed-too-early", record({}, *stepped))
    assert len([change for change in found if "StepLR" in change]) == 1


def test_a_schedule_that_is_stepped_once_per_epoch_is_stretched_and_not_told_to_be() -> None:
    fell = {("hyper/lr", "group 0"): (STEPS, 0.9**STEPS)}
    for per_epoch, told in ((1.0, False), (1.21, False), (1.6, True)):
        stepped = Event("scheduler", 0, data={"class": "StepLR", "steps_per_epoch": per_epoch})
        found = changes("learning-rate-decayed-too-early", record(fell, stepped))
        assert any("times per epoch" in change for change in found) == told
        assert any("stretch the schedule" in change for change in found)


def test_clipping_leaves_nine_of_ten_gradients_whole() -> None:
    norms = np.linspace(0.1, 0.62, 100)  # nine of ten below 0.57, which is nearer to 0.5 than to 1
    seen = record({"clipping/norm_before": (STEPS, norms), "clipping/factor": (STEPS, 1e-3 / norms)})
    goal = float(changes("gradient-clipping-dominates", seen)[0].split("-> ")[1].split(":")[0])
    assert np.quantile(norms, 0.9) <= goal < 2 * np.quantile(norms, 0.9)


def test_what_clipping_leaves_of_the_rate_is_said_of_optimizers_whose_steps_follow_the_gradient() -> None:
    series = {
        "clipping/norm_before": constant(50.0),
        "clipping/factor": constant(0.02),
        ("hyper/lr", "group 0"): constant(0.1),
    }
    told = {
        kind: changes(
            "gradient-clipping-dominates", record(series, Event("optimizer", 0, data={"class": kind}))
        )[-1]
        for kind in ("SGD", "AdamW")
    }
    assert "lr x 0.02" in told["SGD"] and "lr x" not in told["AdamW"] and "keep it" in told["AdamW"]


@pytest.mark.parametrize(("inputs", "targets", "same"), [(0, 0, True), (1, 1, False), (0, None, False)])
def test_no_batch_is_blamed_for_a_spike_where_all_steps_have_the_same_rows(
    inputs: int, targets: int | None, same: bool
) -> None:
    """Inputs alone do not tell: rows with a single one among zeros have one mean, whichever they are."""
    seen = {"input/mean": (STEPS, inputs * STEPS * 1.0), "batch/size": constant(16)}
    if targets is not None:
        seen["target/mean"] = (STEPS, targets * STEPS * 1.0)
    for id in ("loss-spikes", "gradient-spikes"):
        told = " ".join(changes(id, record(seen)))
        assert ("same rows" in told) == same and ("look at the batch" in told) != same


def test_the_batches_of_a_jump_of_the_loss_are_those_that_the_finding_counts() -> None:
    """An hour of hard batches far above their neighbours are no jumps where little was won until then."""
    steps = np.arange(400)
    loss = 2 * 0.98**steps + 0.02 * np.sin(steps)
    loss[::40] += 0.3
    loss[[210, 350]] = 3.0
    seen = record({"loss/train": (steps, loss), "batch/size": (steps, np.full(400, 8.0))})
    (told,) = (change for change in changes("loss-spikes", seen) if "look at" in change)
    assert "steps 210, 350:" in told


def test_clipping_is_set_from_the_norms_before_the_trouble() -> None:
    norms = np.where(STEPS < 50, 2.0, 1e6)
    change = changes("exploding-gradients", record({"gradient/norm": (STEPS, norms)}), steps=(50, 99))[0]
    assert "clip_grad_norm_(model.parameters(), 2)" in change and "before step 50" in change


def test_weight_decay_falls_by_what_it_pulls_beside_the_gradient() -> None:
    """An update that is nothing but decay cannot tell by how much too large it is; the gradient can."""
    series = {("hyper/weight_decay", "group 0"): constant(0.5)}
    pull = Evidence("pull of the decay", 15.0, 12.0, 18.0, 0.5)
    found = finding("weight-decay-dominates", pull)
    assert prescribe(found, record(series))[0].change.startswith(
        "weight_decay 0.5 -> 0.002: its pull is 15 times"
    )


def test_weight_decay_falls_until_it_pulls_a_tenth_of_an_update() -> None:
    series = {("hyper/weight_decay", "group 0"): constant(0.5), ("hyper/lr", "group 0"): constant(0.1)}
    series |= {"weight/norm": constant(10.0), "update/norm": constant(0.5)}  # pull 0.1 * 0.5 * 10 / 0.5 = 1
    assert changes("weight-decay-dominates", record(series))[0].startswith(
        "weight_decay 0.5 -> 0.05: decay alone pulls 100 %"
    )


def test_overfitting_names_the_best_evaluation() -> None:
    loss = np.r_[np.linspace(2, 0.5, 40), np.linspace(0.5, 1.5, 60)]
    change = changes("overfitting", record({("eval/loss", "loader 1"): (STEPS, loss)}))[0]
    assert "weights of step 39" in change and "0.5 there and is 1.5" in change


def test_layers_that_saturate_are_exchanged_in_a_trial_unless_one_gives_the_answer() -> None:
    def trial_of(*kinds: str) -> str:
        rows = [{"name": str(place), "class": kind} for place, kind in enumerate(("Sequential", *kinds))]
        seen = record({}, Event("modules", 0, data={"modules": rows}))
        return prescribe(finding("vanishing-gradients"), seen)[0].trial

    assert "--set layer.Sigmoid=GELU+start.fan_in=true" in trial_of(
        "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear"
    )
    assert "layer." not in trial_of("Linear", "Sigmoid", "Linear", "Sigmoid")
    assert "layer." not in trial_of("Linear", "Sigmoid", "Linear", "Tanh", "Linear")


DENSE = [{"name": "0", "class": "Linear"}, {"name": "1", "class": "ReLU"}, {"name": "2", "class": "Linear"}]
DECILES = np.tile(np.linspace(0.0, 5.0, 11), (100, 1))
MENDED = {  # a finding, the series and the events of its run, and the setting of its first trial
    "gradients-accumulate": ({}, (), "gradient.cleared=true"),
    "double-softmax": ({}, (), "loss.probabilities=true"),
    "symmetric-initialization": ({}, (), "start.usual=true"),
    "poor-initialization": ({}, (), "start.usual=true"),
    "non-finite-input": (
        {"input/non_finite": constant(1.0)},
        (Event("loader", 0, data={"sampler": "RandomSampler"}),),
        "loader.drop_broken=true",
    ),
    "parameters-not-updated": (
        {},
        (Event("parameters", 0, data={"parameters": [{"name": "a", "shape": [1], "trainable": False}]}),),
        "parameters.learn=true",
    ),
    "unnormalized-inputs": (
        {"input/mean": constant(120.0), "input/std": constant(64.0)}, (), "input.mean=120+input.std=64"
    ),
    "target-scale": (
        {"target/mean": constant(-900.0), "target/std": constant(50.0)}, (), "target.mean=-900+target.std=50"
    ),
    "batchnorm-small-batch": (
        {"batch/size": constant(2.0)},
        (Event("modules", 0, data={"modules": [{"name": "b", "class": "BatchNorm2d"}, *DENSE]}),),
        "layer.BatchNorm2d=GroupNorm",
    ),
    "dead-units": ({}, (Event("modules", 0, data={"modules": DENSE}),), "layer.ReLU=LeakyReLU"),
    "excessive-regularization": (
        {},
        (Event("modules", 0, data={"modules": [{"name": "d", "class": "Dropout", "p": 0.9}]}),),
        "layer.Dropout.p=0.5",
    ),
    "overfitting": (
        {("eval/loss", "test"): (np.array([9, 19, 29]), np.array([1.0, 0.4, 0.9]))},
        (),
        "schedule.stop_after=20",  # after the step that is numbered 19
    ),
    "class-imbalance": (
        {"batch/class_counts": (STEPS, np.tile([6.0, 2.0], (100, 1)))}, (), "loss.weight=(0.667,2)"
    ),
    "softmax-collapse": ({}, (), "loss.float64=true"),
    "learning-rate-decayed-too-early": (
        {("hyper/lr", "group 0"): (STEPS, 0.9**STEPS)},
        (Event("scheduler", 0, data={"steps_per_epoch": 25}),),
        "schedule.slower=25",
    ),
    "outlier-examples": ({"examples/loss_quantiles": (STEPS, DECILES)}, (), "loss.huber=3"),
    "overconfidence": ({}, (), "loss.label_smoothing=0.1"),
    "exploding-gradients": ({"gradient/norm": constant(2.0)}, (), "gradient.clip_norm=2"),
    "gradient-clipping-dominates": (
        {"clipping/norm_before": constant(7.0), "clipping/factor": constant(0.1)}, (), "gradient.clip_norm=10"
    ),
}  # fmt: skip


@pytest.mark.parametrize("id", sorted(MENDED))
def test_a_plain_change_is_one_that_a_trial_can_make(id: str) -> None:
    series, events, wanted = MENDED[id]
    cures = prescribe(finding(id, steps=(50, 99)), record(series, *events))
    trials = [shlex.split(cure.trial)[-1] for cure in cures if cure.trial]
    assert trials[0] == wanted


def test_rare_classes_are_drawn_more_often_where_there_is_a_loader() -> None:
    counts = {"batch/class_counts": (STEPS, np.tile([6.0, 2.0], (100, 1)))}
    seen = record(counts, Event("loader", 0, data={"sampler": "RandomSampler"}))
    trials = [cure.trial for cure in prescribe(finding("class-imbalance"), seen) if cure.trial]
    assert trials[0].endswith("--with imbalance")
    empty = record({"batch/class_counts": (STEPS, np.tile([6.0, 0.0], (100, 1)))})
    assert "loss.weight" not in "".join(cure.trial for cure in prescribe(finding("class-imbalance"), empty))


def test_the_weights_of_classes_are_as_many_as_the_answers_of_the_model() -> None:
    """Of four answers two are trained on: a weight that is left out would move all that come after it."""
    counts = {
        "batch/class_counts": (STEPS, np.tile([6.0, 0.0, 2.0], (100, 1))),
        "accuracy/predicted_counts": (STEPS, np.tile([4.0, 1.0, 2.0, 1.0], (100, 1))),
    }
    cure = prescribe(finding("class-imbalance"), record(counts))[0]
    assert "torch.tensor([0.667, 1, 2, 1])" in cure.change and "not seen keep the weight 1" in cure.change
    assert not cure.trial.endswith(")")
    none = record({"batch/class_counts": (STEPS, np.zeros((100, 3)))})
    assert "torch.tensor" not in prescribe(finding("class-imbalance"), none)[0].change


@pytest.mark.parametrize("way", ["training", "evaluation"])
def test_the_wrong_mode_is_set_right_in_a_trial(way: str) -> None:
    seen = Evidence(f"steps in {'eval' if way == 'training' else 'train'} mode", 0.7, 0.7, 0.7, 0.0)
    cure = prescribe(finding("train-eval-mode", seen), record())[0]
    assert cure.trial.endswith(f"--set mode.{way}=true")


def test_the_rate_of_wrong_labels_is_told_to_the_loss_where_labels_tell_anything() -> None:
    counts = {"batch/class_counts": (STEPS, np.full((100, 4), 8.0))}

    def trials(low: float, value: float, high: float) -> list[str]:
        seen = Evidence("share of wrong labels", value, low, high, 0.05)
        return [c.trial for c in prescribe(finding("label-noise", seen), record(counts)) if not c.method]

    assert "loss.wrong_labels=0.31" in "".join(trials(0.25, 0.312, 0.4))
    assert not "".join(trials(0.6, 0.7, 0.78))  # 0.75: a guess among four


def test_decay_is_so_strong_that_it_acts_within_the_run() -> None:
    series = {("hyper/lr", "group 0"): constant(0.01), ("hyper/weight_decay", "group 0"): constant(0.0)}
    for kind, decay in (
        ("AdamW", "1"),
        ("SGD", "1"),
        ("Adam", "0.01"),
    ):  # 100 steps at 0.01: 1 / (0.01 x 100)
        seen = record(series, Event("optimizer", 0, data={"class": kind}))
        trials = [cure.trial for cure in prescribe(finding("memorization"), seen) if cure.trial]
        assert trials[0].endswith(f"--set optimizer.weight_decay={decay}"), kind
    series["hyper/weight_decay", "group 0"] = constant(2.0)  # acts already
    seen = record(series, Event("optimizer", 0, data={"class": "AdamW"}))
    assert prescribe(finding("memorization"), seen)[1].trial.endswith("--set optimizer.weight_decay=5")


def test_dropout_that_is_weaker_elsewhere_is_not_made_stronger() -> None:
    rows = [{"name": "a", "class": "Dropout", "p": 0.9}, {"name": "b", "class": "Dropout", "p": 0.1}]
    seen = record({}, Event("modules", 0, data={"modules": rows}))
    assert not prescribe(finding("excessive-regularization"), seen)[0].trial


def test_parameters_are_named_by_what_is_wrong_with_them() -> None:
    rows = [
        {"name": "a", "shape": [1], "trainable": True, "in_optimizer": False},
        {"name": "b", "shape": [1], "trainable": False, "in_optimizer": True},
        {"name": "c", "shape": [1], "trainable": True, "in_optimizer": True},
    ]
    seen = record({}, Event("parameters", 0, data={"parameters": rows}))
    cures = changes("parameters-not-updated", seen, where=("a", "b"))
    assert cures[0].startswith("give a to the optimizer") and cures[1].startswith("set requires_grad on b")
    held = {"name": "net.layers[0].w", "shape": [1], "trainable": True, "in_optimizer": False}
    seen = record({}, Event("parameters", 0, data={"parameters": [{**held, "unregistered": True}, *rows]}))
    cures = changes("parameters-not-updated", seen, where=("net.layers[0].w", "a"))
    assert cures[0].startswith("hold net.layers in an nn.ModuleList") and cures[1].startswith("give a to the")


def test_the_trial_is_the_runs_own_command_quoted() -> None:
    sick = record({("hyper/lr", "group 0"): constant(3.0)})
    trial = prescribe(finding("learning-rate-too-high"), sick)[0].trial
    words = shlex.split(trial, comments=True)
    assert words == ["vario", "trial", *COMMAND[1:], "--set", "optimizer.lr=1"]
    nameless = record_of({("hyper/lr", "group 0"): constant(3.0)})
    assert prescribe(finding("learning-rate-too-high"), nameless)[0].trial == ""


def test_methods_of_the_catalogue_follow_those_of_vario_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from vario.remedies.catalog import Paper

    rows = [("", Paper("P900", "Far away"), False), ("near-by", Paper("P901", "Near by"), True)]
    monkeypatch.setattr(room.catalog, "methods_for", lambda id: rows)
    *_, here, there = prescribe(finding("diverging"), record())
    assert (here.method, here.paper, here.available) == ("near-by", "P901", True)
    assert "--with near-by" in here.trial
    assert (there.method, there.paper, there.available, there.trial) == ("", "P900", False, "")
    assert there.change == "Far away (not in vario yet)"


def test_a_batch_that_is_too_large_is_scaled_down_and_only_where_a_loader_gives_it() -> None:
    loaded = record({}, Event("loader", 0, "loader 1", {"length": 300}))
    trials = {
        (id, seen): next(c.trial for c in prescribe(finding(id), seen) if c.method == "scale-batch")
        for id in ("batch-too-large", "batch-too-small")
        for seen in (loaded, record())
    }
    assert trials["batch-too-large", loaded].endswith("scale-batch:factor=0.25")
    assert trials["batch-too-small", loaded].endswith("scale-batch:factor=4")
    assert {trial for (_, seen), trial in trials.items() if seen is not loaded} == {""}


@pytest.mark.parametrize(("kinds", "offered"), [(["Linear"], False), (["BatchNorm2d"], True), ([], True)])
def test_a_layer_is_offered_where_there_is_one_that_it_replaces(kinds: list[str], offered: bool) -> None:
    rows = {"modules": [{"name": str(place), "class": kind} for place, kind in enumerate(kinds)]}
    seen = record({}, *([Event("modules", 0, "", rows)] if kinds else []))
    cures = prescribe(finding("batch-too-large"), seen)
    assert ("ghost-batch-norm" in [cure.method for cure in cures]) == offered


@pytest.mark.parametrize(
    ("kind", "id", "method", "offered"),
    [
        ("SGD", "loss-spikes", "stable-spam", False),
        ("AdamW", "loss-spikes", "stable-spam", True),
        ("RMSprop", "oscillating-loss", "diff-grad", True),
        ("Adadelta", "oscillating-loss", "diff-grad", False),
        ("SGD", "batch-too-large", "lars", True),
        ("Adam", "batch-too-large", "lars", False),
        ("", "loss-spikes", "stable-spam", True),
        ("SGD", "oscillating-loss", "refined-decay", True),
    ],
)
def test_an_optimizer_is_offered_where_the_rate_of_the_script_fits_it(
    kind: str, id: str, method: str, offered: bool
) -> None:
    seen = record({}, *([Event("optimizer", 0, data={"class": kind})] if kind else []))
    assert (method in [cure.method for cure in prescribe(finding(id), seen)]) == offered


def test_a_script_whose_options_are_ours_is_named_after_two_dashes() -> None:
    sick = record_of(
        {("hyper/lr", "group 0"): constant(3.0)}, meta={"command": ["python", "a b.py", "--seeds=3"]}
    )
    trial = prescribe(finding("learning-rate-too-high"), sick)[0].trial
    assert trial == "vario trial --set optimizer.lr=1 -- 'a b.py' --seeds=3"


def test_the_options_of_a_trial_are_known_here() -> None:
    import typer

    from vario.cli import app

    command = typer.main.get_command(app).commands["trial"]  # type: ignore[attr-defined]
    named = {name for option in command.params for name in [*option.opts, *option.secondary_opts]}
    assert {name for name in named if name.startswith("--")} | {"--help"} == room.TRIAL_OPTIONS


def test_a_symptom_points_to_its_cause_and_brings_no_number_against_it() -> None:
    sick = record({"update/ratio": constant(0.002), ("hyper/lr", "group 0"): constant(3.0)})
    alone = finding("dead-units", where=("fc1",))
    symptom = Finding(
        **{name: getattr(alone, name) for name in alone.__slots__} | {"explained_by": "diverging"}
    )
    assert any("lr 3 -> 1" in cure.change for cure in prescribe(alone, sick))
    first, *others = prescribe(symptom, sick)
    assert first.change.startswith("mend diverging first")
    assert others and not any(cure.trial or cure.method or "lr 3" in cure.change for cure in others)


def test_each_stream_is_prescribed_from_its_own_record(tmp_path) -> None:
    from vario.nouns import Reading
    from vario.record import open_run
    from vario.record.store import RecordWriter

    writer = RecordWriter(tmp_path / "run")
    for stream, lr in (("netD", 0.2), ("netG", 7.0)):
        for step in range(3):
            writer.readings(stream, step, [Reading("hyper/lr", lr, "group 0"), Reading("update/ratio", 0.5)])
    writer.close()
    found = Finding("learning-rate-too-high", "error", 0.9, (), (0, 2), (), stream="netG")
    cures = room.prescribe_all(Diagnosis((found,), ("learning-rate-too-high",)), open_run(tmp_path / "run"))
    assert cures[found][0].change.startswith("lr 7 -> 0.1")


def test_rounding_goes_to_the_nearest_step_by_ratio() -> None:
    assert [rounded(x) for x in (0.0573, 0.08, 1.4, 1.5, 9.0, 1234)] == pytest.approx(
        [0.05, 0.1, 1, 2, 10, 1000]
    )
    with pytest.raises(ValueError, match="positive"):
        rounded(0.0)


def test_the_examples_to_look_at_are_named_by_their_number_in_the_data_set() -> None:
    worst = {"example": [[40.0, 12.0, 7.0]], "loss": [[9.0, 8.0, 7.0]], "target": [[1.0, 2.0, 3.0]]}
    right = {**worst, "guess": [[5.0, 2.0, 6.0]], "probability": [[0.01, 0.5, 0.01]]}
    seen = record({(f"worst/{k}", "loader 1"): (np.array([9]), np.array(v)) for k, v in right.items()})
    assert changes("label-noise", seen)[0].endswith("of the data set of loader 1 begin with 40, 7")
    assert changes("outlier-examples", seen)[0].endswith("begin with 40, 12, 7")


def wild(every: int, *, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A loss around 1, of 60 when a batch comes that is not scaled."""
    losses = 1 + 0.05 * np.random.default_rng(0).normal(size=1000)
    losses[60 + every * np.arange(count)] = 60.0
    return np.arange(1000), losses


@pytest.mark.parametrize("id", ["loss-spikes", "outlier-examples"])
def test_the_steps_that_stand_out_are_named_and_that_they_come_at_equal_distances(id: str) -> None:
    loss = {"loss/train": wild(90)}
    (named,) = (text for text in changes(id, record(loss)) if text.startswith("look at the batches"))
    assert "240, 330, 420, 510, which are multiples of 90 steps apart: " in named
    rare = {"loss/train": wild(90, count=4)}
    (named,) = (text for text in changes(id, record(rare)) if text.startswith("look at the batches"))
    assert "240, 330: " in named, "four may be so by chance"


def test_the_steps_of_wild_gradients_are_named_though_few_were_read() -> None:
    at = np.array([s for s in range(300) if s % 5 == 0 or s % 40 == 39])
    norms = np.where(at % 40 == 39, 60.0, 1 + 0.05 * np.sin(at))
    (named,) = (
        text
        for text in changes(
            "gradient-spikes", record({"gradient/norm": (at, norms), "loss/train": wild(90, count=0)})
        )
        if text.startswith("look at the batches")
    )
    assert "of steps 39, 79, 119, 159, 199, 239 and 1 more, which are multiples of 40 steps apart: " in named


def test_steps_that_stand_out_are_counted_where_they_are_many() -> None:
    at, losses = wild(90)
    losses[[77, 401, 622]] = 60.0
    named = changes("outlier-examples", record({"loss/train": (at, losses)}))[0]
    assert "60, 77, 150, 240, 330, 401 and 3 more: their loss stands out" in named


def test_of_a_classifier_the_pull_of_a_strange_example_is_bounded_by_clipping() -> None:
    """Huber's loss is one of regression."""
    classes = {"batch/class_counts": (np.arange(30), np.ones((30, 10)))}
    assert changes("outlier-examples", record(classes))[1].startswith("clip the norm of the gradient")
    norms = record(classes | {"gradient/norm": constant(1.0)})
    assert prescribe(finding("outlier-examples"), norms)[1].trial.endswith("gradient.clip_norm=2")


def held(step: int, examples: list[int], loss: float | None = 60.0) -> Event:
    return Event("wild_batch", step, "loader 0", {"step": step, "loss": loss, "examples": examples})


def test_the_example_that_spiking_batches_have_in_common_is_named() -> None:
    batches = [held(60 + 90 * k, [1337, *range(100 * k, 100 * k + 31)]) for k in range(6)]
    events = Event("loader", 0, "loader 0", {"length": 4000}), *batches
    told = "; example 1337 of the data set of loader 0 was in all 6 such batches that are known"
    for id in ("loss-spikes", "outlier-examples"):
        assert any(text.endswith(told) for text in changes(id, record({"loss/train": wild(90)}, *events)))
    both = events[0], *(held(60 + 90 * k, [7, 9, *range(100 * k, 100 * k + 30)]) for k in range(1, 7))
    assert (
        "; examples 7, 9 of the data set of loader 0 were in all 6"
        in changes("outlier-examples", record({"loss/train": wild(90)}, *both))[0]
    )
    mixed = *events, held(950, [1, 2, 3])
    assert "was in 6 of the 7" in changes("outlier-examples", record({"loss/train": wild(90)}, *mixed))[0]


def test_the_first_batch_that_broke_the_loss_is_named() -> None:
    bad = {"input/non_finite": (np.arange(90), np.where(np.arange(90) > 60, 5.0, 0.0))}
    events = held(20, [9, 9]), held(51, list(range(40)), None)
    told = "of step 51, was of the examples 0, 1, 2, "
    assert told in changes("non-finite-input", record(bad, *events))[0]
    assert "30, 31 and 8 more of the data set of loader 0" in changes("non-finite", record(bad, *events))[0]
