"""Test ``vario.rules.poor_initialization``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import poor_initialization

N = np.arange(400)


def first_loss(value):
    return {"examples/loss_quantiles": (N, np.linspace(0.8, 1.2, 11) * np.full((400, 1), value))}


def spreads(factor):
    return {("activation/std", f"layers.{2 * d}"): factor**d for d in range(5)}


def test_fires_where_the_first_answers_are_wrong_and_sure(make):
    found = poor_initialization.check(make(400, first_loss(30.0) | {"loss/train": 30.0}))
    assert found.severity == "warning"
    assert found.evidence[0].value == pytest.approx(30 / np.log(10))


def test_fires_where_most_of_the_first_batch_gets_a_sure_and_wrong_answer(make):
    """As of ten classes by weights a few times too large: a loss of 2.6 times ln 10."""

    def found(share):
        wrong = {"examples/confident_wrong": np.where(N < 5, share, 0.1)}
        return poor_initialization.check(make(400, first_loss(6.0) | {"loss/train": 6.0} | wrong))

    wrong = next(e for e in found(0.8).evidence if e.name == "sure and wrong in the first batch")
    assert wrong.low > wrong.limit == 0.5
    assert found(0.5) is None  # an interval that holds the limit
    assert found(0.0) is None


def test_fires_where_yes_or_no_labels_get_logits_of_hundreds(make):
    def sure(high, low):
        labels = {"batch/class_counts": None, "logits/largest": high, "logits/smallest": low}
        return poor_initialization.check(make(400, labels))

    assert sure(300.0, -200.0).evidence[0].value == 200
    assert sure(2.0, -2.0) is None
    assert sure(2.0, -1e9) is None  # a mask


def test_fires_by_the_mean_where_most_labels_are_of_a_class_that_is_right_by_chance(make):
    """Of 4,608 pixels half cost nothing: the mean lies between those of the deciles' ends, 2.4 and 10.7."""
    deciles = np.array([0, 0, 0, 0, 0, 0, 0, 0.1, 5.1, 18.7, 82.8]) * np.ones((400, 1))

    def found(mean):
        return poor_initialization.check(
            make(400, {"examples/loss_quantiles": (N, deciles), "loss/train": mean})
        )

    assert found(8.0).evidence[0].value == pytest.approx(8 / np.log(10))
    assert found(6.0) is None  # below three times ln 10
    assert found(32 * 8.0) is None  # a sum over the examples


def test_fires_where_the_first_outputs_of_a_regression_are_far_from_targets_and_inputs(make):
    def found(output, target=1.0, given=1.0):
        size = {("activation/std", "layers.8"): output, ("activation/mean", "layers.8"): 0.0}
        size |= {"target/mean": 0.0, "target/std": target, "input/mean": 0.0, "input/std": given}
        return poor_initialization.check(make(400, size | {"batch/class_counts": None}))

    assert found(50.0).evidence[0].value == 50.0 and found(50.0).where == ("layers.8",)
    assert found(50.0, target=1e-3).evidence[0].value == 50.0  # not of targets that are small
    assert (
        found(5.0) is found(50.0, target=20.0) is found(50.0, given=20.0) is found(5.0, target=1e-3) is None
    )


def test_a_spread_that_a_norm_sets_anew_is_none_of_depth(make):
    """Attention to small embeddings gives little; what comes after its norm owes nothing to that."""
    names = [f"layers.{d}" for d in range(9)]
    kinds = ["Linear", "ReLU"] * 4 + ["Linear"]
    plain = [{"name": n, "class": k} for n, k in zip(names, kinds, strict=True)]
    normed = [row if row["name"] != "layers.3" else row | {"class": "LayerNorm"} for row in plain]
    before = [{"name": "norm", "class": "LayerNorm"}, *plain]
    for modules in (plain, before):
        told = [Event("modules", 0, "", {"modules": modules})]
        assert poor_initialization.check(make(400, spreads(8.0), events=told)).severity == "warning"
    with pytest.raises(NotApplicable, match="without a norm between"):
        told = [Event("modules", 0, "", {"modules": normed})]
        poor_initialization.check(make(400, spreads(8.0), events=told))


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_fires_where_the_spread_grows_or_shrinks_with_depth(make, factor):
    found = poor_initialization.check(make(400, spreads(factor)))
    assert found.evidence[0].value == pytest.approx(1e4)
    assert found.where == ("layers.8",)


def test_silent_on_default_initialisers(make):
    assert poor_initialization.check(make(400, first_loss(2.4) | spreads(0.6))) is None
    late = first_loss(2.4)
    late["examples/loss_quantiles"][1][200:] = 50.0  # what comes later is not the start
    assert poor_initialization.check(make(400, late)) is None


def test_what_the_first_step_overthrew_is_not_the_start(make):
    """Activations that were read from step 1 on, after a step of ten times the weights."""
    later = {key: (N[1:], np.full(399, value)) for key, value in spreads(10.0).items()}
    thrown = later | {"update/ratio": np.where(N == 0, 10.0, 1e-3)}
    assert poor_initialization.check(make(400, later)) is not None
    with pytest.raises(NotApplicable):
        poor_initialization.check(make(400, thrown))


def test_dead_and_flat_ended_layers_are_left_to_their_own_rules(make):
    dead = spreads(1.0) | {("activation/std", "layers.8"): 0.0}
    assert poor_initialization.check(make(400, dead)) is None
    flat = spreads(0.1) | {("activation/saturation_share", f"layers.{2 * d}"): 0.1 for d in range(1, 5)}
    with pytest.raises(NotApplicable):
        poor_initialization.check(make(400, flat))


def test_cannot_know_without_an_early_reading(make):
    with pytest.raises(NotApplicable, match="first 10 steps"):
        poor_initialization.check(make(400))
    late = {"examples/loss_quantiles": (N[50:], first_loss(30.0)["examples/loss_quantiles"][1][50:])}
    with pytest.raises(NotApplicable, match="first 10 steps"):
        poor_initialization.check(make(400, late))


def test_fires_by_the_first_weights_where_a_loss_by_hand_tells_nothing(make):
    """Two layers of 64 units of spread 1, and one behind them: 8 x 8 x 8 / 2 = 256 times as large."""
    none = {"batch/class_counts": None, "examples/loss_quantiles": None}

    def found(spread, ratio=1e-3, norm="ReLU"):
        sizes = {("weight/std", f"layers.{i}.weight"): spread for i in (0, 2, 4)}
        listed = [{"name": f"layers.{i}", "class": "Linear"} for i in (0, 2, 4)]
        modules = Event("modules", 0, "", {"modules": [*listed, {"name": "layers.1", "class": norm}]})
        return poor_initialization.check(make(400, none | sizes | {"update/ratio": ratio}, events=[modules]))

    evidence = found(1.0).evidence[0]
    assert evidence.name == "growth by the first weights" and evidence.value == pytest.approx(256)
    assert found(2**0.5 / 8) is None  # as He's initialiser has it: sqrt(2) in all
    with pytest.raises(NotApplicable):
        found(1.0, ratio=0.9)  # read after a step that threw them over
    with pytest.raises(NotApplicable):
        found(1.0, norm="BatchNorm1d")


def test_fires_where_deep_layers_no_longer_tell_examples_apart_and_the_run_fails(make):
    def found(deepest, loss=2.303, ratio=1e-3):
        ranks = {
            ("rank/effective", f"layers.{i}"): r for i, r in ((0, 15.0), (2, 6.0), (4, 2.5), (6, deepest))
        }
        return poor_initialization.check(make(400, ranks | {"loss/train": loss, "update/ratio": ratio}))

    assert found(1.02).where == ("layers.6",)
    assert found(1.9) is None
    learns = lambda s, v: (s, 2.3 * np.exp(-s / 50) + 0.1)  # noqa: E731
    with pytest.raises(NotApplicable):
        found(1.02, loss=learns)  # as the narrow middle of an autoencoder
    with pytest.raises(NotApplicable):
        found(1.02, ratio=0.9)  # as the first step left it


def test_fires_where_deep_layers_do_not_tell_examples_apart_and_the_loss_stayed_there_for_long(make):
    def found(until, deepest=1.02):
        ranks = {
            ("rank/effective", f"layers.{i}"): r for i, r in ((0, 15.0), (2, 6.0), (4, 2.5), (6, deepest))
        }
        waits = lambda s, v: (s, np.where(s < until, 2.3, 0.1 + 2.2 * np.exp(-(s - until) / 20)))  # noqa: E731
        return poor_initialization.check(make(400, ranks | {"loss/train": waits, "update/ratio": 1e-3}))

    assert found(160).where == ("layers.6",)
    assert found(160, deepest=1.9) is None
    with pytest.raises(NotApplicable):
        found(40)  # a tenth of the steps is a usual warm-up
