"""Test ``vario.rules.label_noise``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import label_noise

N = np.arange(400)
PASSES = np.arange(39, 400, 40)
NEVER_BETTER = {("eval/loss", "loader 1"): (PASSES, np.linspace(2.31, 2.6, 10))}


def deciles(wrong, floor):
    """Losses of examples of which ``wrong`` have a loss of 4 and the others of ``floor``."""
    ranks = np.linspace(0, 1, 11)
    return np.where(ranks > 1 - wrong, 4.0, floor)


def run(train, unseen, wrong=0.4, floor=0.5, examples=1000.0):
    series = {
        "accuracy/train": train,
        "examples/confident_wrong": wrong,
        "examples/loss_quantiles": (N, np.tile(deciles(wrong, floor), (400, 1))),
    }
    if unseen is not None:
        series |= {
            ("eval/accuracy", "loader 1"): (PASSES, np.broadcast_to(unseen, 10).astype(float)),
            ("eval/loss", "loader 1"): (PASSES, np.linspace(1.0, 0.5, 10)),
            ("eval/examples", "loader 1"): (PASSES, np.full(10, examples)),
        }
    return series


def test_fires_against_clean_held_out_data_with_a_rate(make):
    found = label_noise.check(make(400, run(train=0.6, unseen=0.95)))
    noise = found.evidence[0]
    assert (found.id, found.severity) == ("label-noise", "warning")
    assert noise.value == pytest.approx((0.95 - 0.6) / (0.95 - 0.05 / 9))
    assert noise.low < 0.37 < noise.high < 0.45


def test_the_best_of_many_evaluations_may_be_a_lucky_one(make):
    """0.94 in 1,000 examples is known to 0.015: beside 0.965 it is that, beside 0.6 it is nothing."""
    lucky = np.r_[np.full(4, 0.94), 0.965, np.full(5, 0.94)]
    found = label_noise.check(make(400, run(train=0.6, unseen=lucky, floor=0.05)))
    held = next(e for e in found.evidence if e.name == "held-out accuracy")
    assert held.value == pytest.approx(0.94)


def test_accuracy_that_swings_from_one_evaluation_to_the_next_contradicts_no_label(make):
    steady, swinging = np.full(10, 0.95), np.where(np.arange(10) % 2, 0.95, 0.6)
    assert label_noise.check(make(400, run(train=0.6, unseen=steady, floor=0.05))) is not None
    assert label_noise.check(make(400, run(train=0.6, unseen=swinging, floor=0.05))) is None


def test_the_rate_covers_the_truth_in_a_simulated_run(make):
    draw, truth = np.random.default_rng(0), 0.4
    covered = 0
    for _ in range(20):
        right = draw.binomial(1000, 0.9) / 1000
        agree = 0.9 * (1 - truth) + 0.1 * truth / 9
        found = label_noise.check(make(400, run(draw.binomial(64, agree, 400) / 64, right)))
        covered += found.evidence[0].low <= truth <= found.evidence[0].high
    assert covered >= 18


def test_fires_where_held_out_labels_are_as_wrong(make):
    found = label_noise.check(make(400, run(train=0.6, unseen=0.6)))
    assert found.severity == "warning"
    assert found.evidence[0].value == pytest.approx(0.4)
    assert label_noise.check(make(400, run(train=0.6, unseen=None))) is not None


def test_labels_at_random_are_an_error_with_a_rate_of_a_guess(make):
    shuffled = run(train=np.where(N < 200, 0.1, 0.2), unseen=0.1, wrong=0.0, floor=2.2)
    shuffled |= {"loss/train": np.linspace(2.31, 2.1, 400)} | NEVER_BETTER
    found = label_noise.check(make(400, shuffled))
    assert found.severity == "error"
    assert found.evidence[0].value == pytest.approx(0.9)
    better = {
        ("eval/loss", "loader 1"): (PASSES, np.linspace(2.31, 2.2, 10))
    }  # than a guess: some carries over
    assert label_noise.check(make(400, shuffled | better)) is None
    at = np.array([199, 399])
    for losses, some in (([2.25, 2.2], True), ([2.31, 2.31], False)):  # two evaluations tell that as well
        two = {("eval/loss", "loader 1"): (at, np.array(losses))}
        two |= {("eval/accuracy", "loader 1"): (at, np.full(2, 0.1))}
        two |= {("eval/examples", "loader 1"): (at, np.full(2, 1000.0))}
        assert (label_noise.check(make(400, shuffled | two)) is None) == some


def test_what_was_right_before_any_row_came_again_has_labels_that_bear_on_it(make):
    """As where one wild batch has spoiled the statistics of a norm: only the evaluation is broken."""
    epochs = [Event("epoch", 100 * i, "loader 0", {"epoch": i}) for i in range(4)]

    def told(first, copies=0.0):
        broken = run(train=np.where(N < 100, first, 0.9), unseen=0.1, wrong=0.0, floor=2.2)
        broken |= {"loss/train": np.linspace(2.31, 2.1, 400), "data/duplicate_share": copies} | NEVER_BETTER
        return label_noise.check(make(400, broken, events=epochs))

    assert told(0.1).severity == "error"
    assert told(0.4) is None
    assert told(0.4, copies=0.5).severity == "error"  # rows that come often are known by heart at once


def test_labels_that_are_missed_more_often_than_by_luck_are_none_at_random(make):
    """As of addition modulo a number: what training saw of a row excludes its other labels."""
    shuffled = run(train=np.where(N < 200, 0.1, 0.2), unseen=0.0, wrong=0.0, floor=2.2)
    shuffled |= {"loss/train": np.linspace(2.31, 2.1, 400)} | NEVER_BETTER
    assert label_noise.check(make(400, shuffled)) is None
    by_luck = {("eval/accuracy", "loader 1"): (PASSES, np.full(10, 0.074))}  # one in nine runs had it
    assert label_noise.check(make(400, shuffled | by_luck)).severity == "error"


def test_the_first_that_a_run_wins_is_no_memory_where_it_carries_over(make):
    """Training went from 2.31 to 2.27, and held-out loss with it."""
    begun = run(train=0.1, unseen=0.1, wrong=0.0, floor=2.2) | {"loss/train": np.linspace(2.31, 2.27, 400)}
    begun |= NEVER_BETTER | {"update/ratio": 3e-4}

    def unseen(last):
        return begun | {("eval/loss", "loader 1"): (PASSES, np.linspace(2.305, last, 10))}

    assert label_noise.check(make(400, unseen(2.305))).severity == "error"
    assert label_noise.check(make(400, unseen(2.28))) is None


def test_a_net_that_does_not_train_is_not_blamed_on_its_labels(make):
    stuck = run(train=0.1, unseen=0.1, wrong=0.0, floor=2.3) | {"loss/train": 2.303} | NEVER_BETTER
    assert label_noise.check(make(400, stuck | {"update/ratio": 1e-3})) is None
    shuffled = stuck | {"loss/train": np.linspace(2.31, 2.1, 400)}
    assert label_noise.check(make(400, shuffled | {"update/ratio": 0.5})) is None
    before_a_norm = {("gradient/norm", "layers.0.bias"): 1e-12}
    assert label_noise.check(make(400, shuffled | before_a_norm)) is not None
    faded = {("gradient/norm", "layers.0.weight"): 1e-12}
    assert label_noise.check(make(400, shuffled | faded)) is None


def test_a_net_that_calm_steps_lead_far_and_nowhere_has_inputs_that_do_not_tell_of_its_labels(make):
    stuck = run(train=0.1, unseen=0.1, wrong=0.0, floor=2.3) | {"loss/train": 2.303} | NEVER_BETTER
    unseen = {key for key in stuck if isinstance(key, tuple)}
    for series in (stuck, {key: value for key, value in stuck.items() if key not in unseen}):
        found = label_noise.check(make(400, series | {"update/ratio": 4e-3}))  # 400 of them: a path of 1.6
        assert (found.severity, found.confidence) == ("advice", 0.5)
        for other in ({"update/ratio": 4e-4}, {"update/ratio": 0.08}, {"loss/train": 2.0}):
            assert label_noise.check(make(400, series | {"update/ratio": 4e-3} | other)) is None


@pytest.mark.parametrize(("accuracy", "found"), [(0.2, True), (0.4, False)])
def test_a_model_that_knows_nothing_may_be_right_of_a_class_or_two_by_luck(make, accuracy, found):
    """Nor do the long first steps of an adaptive optimizer count against it, or dropout of a half."""
    stuck = run(train=0.1, unseen=accuracy, wrong=0.0, floor=2.3) | {"loss/train": 2.303} | NEVER_BETTER
    stuck |= {"update/ratio": lambda s, v: (s, np.where(s < 4, 0.15, 4e-3))}
    drop = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": 0.5}]})]
    assert (label_noise.check(make(400, stuck, events=drop)) is not None) == found
    stuck["update/ratio"] = lambda s, v: (s, np.where(s < 4, 0.9, 4e-3))  # these replaced the weights
    assert label_noise.check(make(400, stuck, events=drop)) is None


def test_the_same_in_a_text_but_not_of_a_model_too_narrow_for_its_classes(make):
    """Confidence tells nothing of a model that knows nothing, so it is not asked."""
    stuck = run(train=0.1, unseen=0.1, wrong=0.0, floor=2.3) | {"loss/train": 2.303} | NEVER_BETTER
    stuck |= {"batch/class_counts": (N, np.full((400, 10), 640.0)), "update/ratio": 4e-3}
    stuck |= {("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.1))}
    found = label_noise.check(make(400, stuck))
    assert (found.severity, found.confidence) == ("advice", 0.5)
    for p, known in ((0.0, True), (0.5, True), (0.6, False)):
        drop = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": p}]})]
        assert (label_noise.check(make(400, stuck, events=drop)) is not None) == known
    narrow = lambda rows: [r | {"shape": [10, 3]} if r["name"] == "layers.8.weight" else r for r in rows]  # noqa: E731
    assert label_noise.check(make(400, stuck, parameters=narrow)) is None


def test_held_out_classes_may_have_other_shares_than_those_of_training(make):
    """Two classes hold 0.45 each in training and 0.1 of a balanced test set: 0.2 is no guess there."""
    shares = {"batch/class_counts": (N, np.tile([29.0, 29, 1, 1, 1, 1, 1, 1, 1, 1], (400, 1)))}
    shares |= {("eval/class_counts", "loader 1"): (PASSES, np.full((10, 10), 100.0))}
    learned = {"loss/train": np.linspace(1.5, 0.3, 400), "examples/loss_quantiles": None} | NEVER_BETTER
    series = run(train=np.where(N < 200, 0.5, 0.9), unseen=0.2, wrong=0.0) | shares | learned
    assert label_noise.check(make(400, series)) is None
    at_a_guess = {("eval/accuracy", "loader 1"): (PASSES, np.full(10, 0.1))}
    worse = {("eval/loss", "loader 1"): (PASSES, np.full(10, 4.0))}
    assert label_noise.check(make(400, series | at_a_guess | worse)).severity == "error"


def test_doubt_beside_extreme_dropout_is_that_of_the_dropout(make):
    """All of the confidence that wrong labels would take away is missing, and the loss has levelled off."""
    doubt = run(train=0.5, unseen=0.9, wrong=0.1) | {
        ("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.3))
    }
    for p, fires in ((0.5, True), (0.95, False)):
        drop = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": p}]})]
        level = {"loss/train": 1.4 + 0.9 * np.exp(-N / 20) + 0.01 * np.sin(N)}
        assert (label_noise.check(make(400, doubt | level, events=drop)) is not None) == fires


def test_silent_on_hard_data_on_dropout_and_on_healthy_runs(make):
    assert label_noise.check(make(400, run(train=0.6, unseen=0.6, wrong=0.15, floor=0.01))) is None
    assert label_noise.check(make(400, run(train=0.85, unseen=0.95, wrong=0.01, floor=0.01))) is None
    assert label_noise.check(make(400, run(train=0.98, unseen=0.97, wrong=0.005, floor=0.001))) is None


@pytest.mark.parametrize(("sure", "found"), [(0.35, True), (0.58, False)])
def test_in_a_text_the_model_must_be_less_sure_than_right(make, sure, found):
    """Right on 0.6 of an easier text a model is as sure as right; trained on wrong labels it is not."""
    text = {
        "batch/class_counts": (N, np.full((400, 10), 640.0)),
        ("eval/confidence", "loader 1"): (PASSES, np.full(10, sure)),
    }
    assert (label_noise.check(make(400, run(train=0.37, unseen=0.6) | text)) is not None) == found


def test_dropout_in_a_text_and_mixtures_of_labels_are_no_wrong_labels(make):
    text = {
        "batch/class_counts": (N, np.full((400, 10), 640.0)),
        ("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.35)),
    }
    drop = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": 0.2}]})]
    assert label_noise.check(make(400, run(train=0.37, unseen=0.6) | text, events=drop)) is None
    mixup = text | {"batch/class_counts": (N, np.full((400, 10), 12.8))}
    with pytest.raises(NotApplicable, match="mixup"):
        label_noise.check(make(400, run(train=0.37, unseen=0.6) | mixup))


@pytest.mark.parametrize(("worse", "fires"), [(0.0, True), (1.0, False)])
def test_training_after_the_first_evaluation_tells_nothing_where_the_model_broke_there(make, worse, fires):
    """As by a wild step: right answers in training fall with its loss rising, not for wrong labels."""

    def told(steps, values):
        return steps, np.where(steps > 49, 2.0 + worse, 2.0) + 0.05 * np.sin(steps)

    series = {
        "loss/train": told,
        "accuracy/train": (np.arange(30, 90, 2), np.where(np.arange(30, 90, 2) > 49, 0.3, 0.6)),
        "examples/confident_wrong": (np.arange(30, 90, 2), np.full(30, 0.6)),
        ("eval/accuracy", "loader 1"): ([49], [0.7]),
        ("eval/examples", "loader 1"): ([49], [1000.0]),
    }
    assert (label_noise.check(make(90, series)) is not None) == fires


def test_the_rate_is_that_of_the_model_evaluated_where_readings_are_far_apart(make):
    """Training accuracy rises from 0.1 to 0.7 and was read at two ends only; evaluated in the middle."""
    few = {"accuracy/train": (np.array([*range(100, 110), *range(290, 300)]), np.repeat([0.3, 0.7], 10))}
    seen = {("eval/accuracy", "loader 1"): ([99, 199, 299], [0.5, 0.85, 0.85])}
    found = label_noise.check(make(400, run(0.5, 0.85, wrong=0.5) | few | seen))
    assert next(e for e in found.evidence if e.name == "training accuracy").value == pytest.approx(
        0.5, abs=0.01
    )


def test_cannot_know_where_inputs_of_training_are_attacked(make):
    seen = run(train=0.6, unseen=0.95)
    assert label_noise.check(make(400, seen)) is not None
    with pytest.raises(NotApplicable, match="attacked"):
        label_noise.check(make(400, seen | {"adversarial/abnormal_share": 0.0}))


def test_cannot_know_of_sorted_batches_regressions_or_without_readings(make):
    one = np.zeros((400, 10))
    one[N, N // 40] = 64
    with pytest.raises(NotApplicable, match="sorted by class"):
        label_noise.check(make(400, run(0.6, 0.95) | {"batch/class_counts": (N, one)}))
    with pytest.raises(NotApplicable, match="no classes"):
        label_noise.check(make(400, {"batch/class_counts": None}))
    with pytest.raises(NotApplicable, match="no evaluation"):
        label_noise.check(make(400))


def test_bears_nan(make):
    some = np.where(N % 5 == 0, np.nan, 0.6)
    assert label_noise.check(make(400, run(train=some, unseen=0.95))) is not None


def test_few_readings_are_taken_from_as_long_as_the_model_is_as_good(make):
    sparse = run(train=(np.array([30, 200, 300]), np.full(3, 0.6)), unseen=0.95, wrong=0.0, floor=0.01)
    sparse |= {("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.6))}
    found = label_noise.check(make(400, sparse))
    assert found.evidence[0].value == pytest.approx((0.95 - 0.6) / (0.95 - 0.05 / 9))


@pytest.mark.parametrize(("sure", "found"), [(0.5, True), (0.25, False), (None, True)])
def test_inputs_that_are_harder_in_training_contradict_no_label(make, sure, found):
    """Half as often right where the model is half as sure: augmentation. As sure as in evaluation: labels.

    Where it is not known how sure it was (older records), the rate is that of the accuracies alone.
    """
    series = run(train=0.4, unseen=0.8, wrong=0.0, floor=0.01)
    series |= {("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.5))}
    series |= {} if sure is None else {"examples/confidence": sure}
    assert (label_noise.check(make(400, series)) is not None) == found


def test_losses_are_held_against_those_of_the_evaluation_before_them(make):
    """Of two classes 30 % are wrong: who says 0.7 and is right loses 0.36 on clean data, 0.61 in training."""
    where = "loader 1"
    at = np.arange(85, 400, 25)  # none just before the first good evaluation, at step 79
    losses = {
        "batch/class_counts": (N, np.full((400, 2), 8.0)),
        "loss/train": (np.r_[0:20, at], np.r_[np.full(20, 0.69), np.full(len(at), 0.61)]),
        "accuracy/train": None,
        "examples/confident_wrong": None,
        ("eval/accuracy", where): (PASSES, np.r_[0.6, np.full(9, 0.95)]),
        ("eval/loss", where): (PASSES, np.full(10, 0.36)),
        ("eval/confidence", where): (PASSES, np.full(10, 0.7)),
        ("eval/examples", where): (PASSES, np.full(10, 171.0)),
    }
    noise = label_noise.check(make(400, losses)).evidence[0]
    assert noise.value == pytest.approx(0.3, abs=0.01)
    surer = losses | {("eval/confidence", where): (PASSES, np.full(10, 0.93))}
    assert label_noise.check(make(400, surer)) is None


def test_training_after_the_evaluation_stands_for_none_before_it(make):
    where = "loader 1"
    at = np.array([365, 370, 380])  # after the only good evaluation, at step 359
    series = {
        "loss/train": (np.r_[0:20, at], np.r_[np.full(20, 2.3), np.full(3, 1.9)]),
        "accuracy/train": None,
        ("eval/accuracy", where): (PASSES[:9], np.r_[np.full(8, 0.2), 0.8]),
        ("eval/loss", where): (PASSES[:9], np.r_[np.full(8, 2.2), 1.1]),
        ("eval/confidence", where): (PASSES[:9], np.r_[np.full(8, 0.2), 0.37]),
        ("eval/examples", where): (PASSES[:9], np.full(9, 1000.0)),
    }
    assert label_noise.check(make(400, series)) is None  # what follows is unknown without a next evaluation
    one_more = {
        key: (np.r_[steps, 399], np.r_[values, values[-1]])
        for key in series
        if isinstance(key, tuple)
        for steps, values in [series[key]]
    }
    assert label_noise.check(make(400, series | one_more)).evidence[0].low > 0.1


def test_training_after_the_best_evaluation_tells_nothing_where_the_model_got_worse(make):
    """As after a wild step: training loses more after the evaluation than the evaluation did."""
    where = "loader 1"

    def told(later):
        at = np.arange(20, 400, 20)
        series = {
            "loss/train": (at, np.where(at < 360, 2.2, 1.9)),
            "accuracy/train": None,
            ("eval/accuracy", where): (PASSES, np.r_[np.full(8, 0.2), 0.8, later]),
            ("eval/loss", where): (PASSES, np.r_[np.full(8, 2.2), 1.1, 1.1]),
            ("eval/confidence", where): (PASSES, np.r_[np.full(8, 0.2), 0.37, 0.37]),
            ("eval/examples", where): (PASSES, np.full(10, 1000.0)),
        }
        return label_noise.check(make(400, series))

    assert told(0.8) is not None
    assert told(0.4) is None


def test_answers_hardly_better_than_a_guess_contradict_no_label(make):
    shares = {"batch/class_counts": (N, np.tile([30.0, 10, 8, 8, 8], (400, 1)))}  # a guess is right for 0.47
    for unseen, fires in ((0.48, False), (0.6, True)):
        series = run(train=0.3, unseen=unseen) | shares | {"examples/confident_wrong": None}
        assert (label_noise.check(make(400, series)) is not None) == fires


def test_beside_strong_dropout_all_of_the_confidence_must_be_missing_at_the_end(make):
    """At 40 % wrong labels a model that is right for 0.95 lacks 0.38: it says 0.57."""
    dropout = Event("modules", 0, "", {"modules": [{"name": "drop", "class": "Dropout", "p": 0.5}]})
    series = run(train=0.6, unseen=0.95, wrong=0.0, floor=0.01)
    series |= {"loss/train": 1.6 + 0.1 * np.random.default_rng(0).standard_normal(400)}
    for end, fires in ((0.57, True), (0.8, False)):
        says = {("eval/confidence", "loader 1"): (PASSES, np.linspace(0.5, end, 10))}
        assert (label_noise.check(make(400, series | says, events=[dropout])) is not None) == fires
    falling = {"loss/train": np.linspace(2.3, 1.6, 400)}
    says = {("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.57))}
    assert label_noise.check(make(400, series | says | falling, events=[dropout])) is None


def test_beside_strong_dropout_a_model_that_no_longer_moves_tells_nothing(make):
    series = run(train=0.64, unseen=0.8, wrong=0.0) | {
        ("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.36))
    }
    series |= {"loss/train": 1.3}
    drop = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": 0.5}]})]
    for ratio, found in ((1e-3, True), (1e-8, False)):
        assert (
            label_noise.check(make(400, series | {"update/ratio": ratio}, events=drop)) is not None
        ) == found


def test_a_model_still_on_its_way_up_before_the_first_evaluation_contradicts_no_label(make):
    """From a guess to all right within ten steps; readings after the evaluation tell what it came to."""
    rising = lambda top: np.clip(0.1 + (N - 28) * 0.09, 0.1, top)  # noqa: E731
    assert label_noise.check(make(400, run(train=rising(1.0), unseen=1.0, floor=0.05))) is None
    found = label_noise.check(make(400, run(train=rising(0.7), unseen=1.0, floor=0.05)))
    assert found.evidence[0].value == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("unseen_loss", "fires"), [(0.27, True), (0.55, False)])
def test_few_readings_of_a_small_rate_take_losses_that_say_so_as_well(make, unseen_loss, fires):
    """Two classes, 20 % wrong: no error is confident, and 120 examples give a rate of 0.08 or more."""
    where = "loader 1"
    series = {
        "batch/class_counts": (N, np.full((400, 2), 8.0)),
        "accuracy/train": (np.arange(60, 400, 45), np.full(8, 0.77)),
        "examples/confident_wrong": 0.0,
        "loss/train": np.r_[np.full(20, 0.69), np.full(380, 0.55)],
        ("eval/accuracy", where): (PASSES, np.full(10, 0.95)),
        ("eval/loss", where): (PASSES, np.full(10, unseen_loss)),
        ("eval/confidence", where): (PASSES, np.full(10, 0.78)),
        ("eval/examples", where): (PASSES, np.full(10, 169.0)),
    }
    found = label_noise.check(make(400, series))
    assert (found is not None) == fires
    if fires:
        assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(0.2, abs=0.01))


def printed(score, words="test acc", **more):
    """A run whose held-out answers are counted by hand, and printed: nothing else is known of them."""
    held_out = {("printed/score", words): (PASSES, np.broadcast_to(score, 10).astype(float))}
    parts = deciles(more["wrong"], more["floor"])
    plain = {"loss/train": float((parts[1:] + parts[:-1]).mean() / 2)}
    held_out |= {("eval/examples", ""): (PASSES, np.full(10, 1000.0))}
    return run(unseen=None, **more) | held_out | plain


def test_a_printed_accuracy_stands_for_answers_that_are_counted_by_hand(make):
    unsure = {"train": 0.6, "wrong": 0.1, "floor": 0.5}  # no error is confident, and no answer above 0.61
    for score in (0.95, 95.0):  # per cent
        found = label_noise.check(make(400, printed(score, **unsure)))
        assert found.evidence[0].value == pytest.approx((0.95 - 0.6) / (0.95 - 0.05 / 9))
        assert found.evidence[2].where == 'printed "test acc"'
    assert label_noise.check(make(400, printed(0.95, **unsure | {"floor": 0.01}))) is None  # harder inputs
    assert (
        label_noise.check(make(400, printed(0.95, **unsure) | {"loss/train": 3.0})) is None
    )  # smoothed labels
    assert label_noise.check(make(400, printed(0.95, words="train acc", **unsure))) is None
    assert label_noise.check(make(400, printed(0.95, words="test auc", **unsure))) is None
    few = printed(0.95, **unsure) | {("eval/examples", ""): (PASSES, np.full(10, 20.0))}
    assert label_noise.check(make(400, few)).evidence[0].low < found.evidence[0].low


@pytest.mark.parametrize(("tags", "found"), [(True, True), (False, False)])
def test_of_tags_each_is_an_answer_of_its_own_and_words_are_not(make, tags, found):
    """Six to an example, beside dropout of 0.2, which lowers the accuracy of what is open."""
    counts = [140.0, 60.0] if tags else [70.0, 70.0, 60.0]
    seen = run(train=0.78, unseen=0.95, wrong=0.01, floor=0.5) | {
        "batch/class_counts": (N, np.tile(counts, (400, 1))),
        "batch/size": 33.0,
        ("eval/confidence", "loader 1"): (PASSES, np.full(10, 0.8)),
    }
    dropout = [Event("modules", 0, "", {"modules": [{"name": "drop", "class": "Dropout", "p": 0.2}]})]
    assert (label_noise.check(make(400, seen, events=dropout)) is not None) == found
