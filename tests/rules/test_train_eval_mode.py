"""Test ``vario.rules.train_eval_mode``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import train_eval_mode

N = np.arange(400)


EVALUATED = {
    ("eval/loss", "loader 1"): (N[61::62], np.full(6, 0.5)),
    ("eval/examples", "loader 1"): (N[61::62], np.full(6, 500.0)),
}


def mode(kind, train=1.0, at_eval=0.0):
    return {("mode/train_share", kind): train, ("mode/eval_share", kind): (N[61::62], np.full(6, at_eval))}


def measured(found, name):
    return next(e.value for e in found.evidence if e.name == name)


@pytest.mark.parametrize("kind", ["Dropout", "BatchNorm2d"])
def test_fires_on_an_evaluation_in_train_mode(make, kind):
    found = train_eval_mode.check(make(400, EVALUATED | mode(kind, at_eval=1.0)))
    assert (found.severity, found.where) == ("warning", (kind,))
    assert measured(found, "evaluations in train mode") == 1
    assert measured(found, "steps in eval mode") == 0


def test_the_share_of_steps_is_of_steps_and_not_of_readings(make):
    """Readings lie close together at the start, where the mode was still right."""
    at = np.r_[0:40, 40:400:36]
    was_on = (at, np.where(at < 40, 1.0, 0.0))
    found = train_eval_mode.check(make(400, EVALUATED | {("mode/train_share", "Dropout"): was_on}))
    assert measured(found, "steps in eval mode") == pytest.approx(360 / 400)


def test_fires_on_training_that_went_on_in_eval_mode(make):
    found = train_eval_mode.check(
        make(400, EVALUATED | mode("BatchNorm1d", train=np.where(N < 62, 1.0, 0.0)))
    )
    assert found.steps == (62, 399)
    assert measured(found, "steps in eval mode") == pytest.approx(338 / 400)


def test_dropout_that_was_never_on_is_found_but_a_frozen_norm_is_not(make):
    assert train_eval_mode.check(make(400, EVALUATED | mode("Dropout", train=0.0))) is not None
    assert train_eval_mode.check(make(400, EVALUATED | mode("BatchNorm2d", train=0.0))) is None


@pytest.mark.parametrize(
    ("norm", "spread", "found"), [(8.0, 0.0, True), (8.5, 0.3, False), (2.0, 0.0, False)]
)
def test_a_norm_that_was_never_on_is_found_where_it_was_never_trained(make, norm, spread, found):
    """64 scales of 1 have a norm of 8; those of a trained backbone are spread."""
    events = [
        Event("modules", 0, "", {"modules": [{"name": "bn", "class": "BatchNorm2d"}]}),
        Event("parameters", 0, "", {"parameters": [{"name": "bn.weight", "shape": [64]}]}),
    ]
    scales = {("weight/norm", "bn.weight"): norm, ("weight/std", "bn.weight"): spread}
    off = mode("BatchNorm2d", train=0.0)
    assert (train_eval_mode.check(make(400, EVALUATED | off | scales, events=events)) is not None) == found


def test_silent_on_right_modes_on_forwards_without_a_loss_and_on_p_of_zero(make):
    assert train_eval_mode.check(make(400, EVALUATED | mode("Dropout"))) is None
    assert train_eval_mode.check(make(400, mode("Dropout", at_eval=1.0))) is None
    zero = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": 0.0}]})]
    assert train_eval_mode.check(make(400, EVALUATED | mode("Dropout", at_eval=1.0), events=zero)) is None
    half = [Event("modules", 0, "", {"modules": [{"name": "d", "class": "Dropout", "p": 0.5}]})]
    assert train_eval_mode.check(make(400, EVALUATED | mode("Dropout", at_eval=1.0), events=half)) is not None


@pytest.mark.parametrize(
    ("examples", "every", "epochs", "found"),
    [(64, 1, 4, False), (128, 1, 4, False), (500, 1, 4, True), (64, 40, 4, True), (64, 1, 400, True)],
)
def test_a_forward_on_one_batch_at_each_step_is_part_of_training(make, examples, every, epochs, found):
    """Not where it holds more than a few batches, comes seldom, or an epoch is one step."""
    at = N[::every]
    passes = {
        ("eval/loss", "loader 0"): (at, np.full(len(at), 0.5)),
        ("eval/examples", "loader 0"): (at, np.full(len(at), float(examples))),
    }
    begun = [Event("epoch", int(step), "loader 0", {}) for step in np.linspace(0, 399, epochs)]
    begun.append(Event("loader", 0, "loader 0", {"batch_size": 64}))
    record = make(400, passes | {"batch/size": 32.0} | mode("BatchNorm1d", at_eval=1.0), events=begun)
    assert (train_eval_mode.check(record) is not None) == found


def test_where_each_step_sees_all_of_the_data_an_evaluation_after_each_is_one(make):
    passes = {("eval/loss", "loader 0"): 0.5, ("eval/examples", "loader 0"): 64.0, "batch/size": 64.0}
    wrong = passes | mode("BatchNorm1d", at_eval=1.0)
    assert train_eval_mode.check(make(400, wrong | {"input/mean": 0.3})) is not None
    assert train_eval_mode.check(make(400, wrong | {"input/mean": np.linspace(0.2, 0.4, 400)})) is None


def test_cannot_know_without_such_modules(make):
    with pytest.raises(NotApplicable, match="no module"):
        train_eval_mode.check(make(400, EVALUATED))
