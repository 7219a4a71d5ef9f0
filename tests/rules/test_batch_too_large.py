"""Test ``vario.rules.batch_too_large``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules.batch_too_large import check

AT = np.arange(400)
UNFINISHED = {"loss/train": (AT, 2.3 - 0.004 * AT), "input/mean": (AT, np.sin(AT))}  # rows drawn at random


def noisy(scale, signal=1.0, spread=0.3, seed=8):
    """Readings of signal and noise whose ratio is ``scale`` examples, each with Gaussian error."""
    draw = np.random.default_rng(seed)
    n = 200
    at = 200 + np.arange(n)  # the second half of the run
    return {
        **UNFINISHED,
        "gradient_noise/signal": (at, signal + spread * draw.standard_normal(n)),
        "gradient_noise/noise": (at, scale * (1 + 0.1 * draw.standard_normal(n))),
    }


def test_fires_where_the_noise_scale_is_far_below_the_batch(make):
    found = check(make(400, noisy(2.0)))
    assert found.severity == "advice"
    assert found.evidence[0].low < 2.0 < found.evidence[0].high < found.evidence[0].limit == 16


def test_silent_where_the_batch_fits(make):
    assert check(make(400, noisy(200))) is None
    assert check(make(400, noisy(20))) is None


def test_cannot_know_without_a_signal_or_readings(make):
    with pytest.raises(NotApplicable, match="cannot be told from zero"):
        check(make(400, noisy(2.0, signal=0.0)))
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(400, {"gradient/cosine": None}))


def test_gradients_that_stay_alike_have_little_noise(make):
    """Of 64 examples with a noise scale of 4: a cosine of 1 / (1 + 4 / 64); with one of 64: a half."""
    alike = {"gradient/cosine": (np.arange(250, 400, 50), np.full(3, 1 / (1 + 4 / 64)))}
    found = check(make(400, UNFINISHED | alike))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(4.0))
    assert check(make(400, UNFINISHED | {"gradient/cosine": (AT[250::50], np.full(3, 0.5))})) is None
    assert (
        check(make(400, UNFINISHED | {"gradient/cosine": 0.99, "loss/train": 2.3})) is None
    )  # it does not learn
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(400, UNFINISHED | {"gradient/cosine": (np.array([50, 250, 300]), np.full(3, 0.99))}))


@pytest.mark.parametrize("route", ["noise", "cosines"])
def test_silent_where_the_loss_has_come_to_rest_and_more_steps_would_bring_nothing(make, route):
    readings = noisy(2.0) if route == "noise" else UNFINISHED | {"gradient/cosine": 0.99}
    assert check(make(400, readings)) is not None
    assert check(make(400, readings | {"loss/train": (AT, 0.3 + 2 * 0.95**AT)})) is None


@pytest.mark.parametrize(
    "drawn", ["the same rows", "other rows", "labels of the same rows", "asked for once before", "not known"]
)
def test_gradients_of_the_same_rows_are_alike_whatever_their_noise(make, drawn):
    changes = UNFINISHED | {"gradient/cosine": 0.99, "target/mean": None}
    if drawn == "the same rows":
        changes["input/mean"] = 0.2
    elif drawn == "labels of the same rows":  # inputs to which noise is added each time
        changes["batch/class_counts"] = (AT, np.full((400, 10), 6.0))
    elif drawn == "asked for once before":  # the same rows, of which the first step is told twice as many
        changes["batch/class_counts"] = (AT, np.where(AT[:, None] > 0, 6.0, 12.0) * np.ones(10))
    elif drawn == "not known":
        changes |= {"input/mean": None, "batch/class_counts": None}
    record = make(400, changes)
    if drawn == "other rows":
        assert check(record) is not None
    else:
        with pytest.raises(NotApplicable, match="gradient_noise/signal"):
            check(record)


@pytest.mark.parametrize(
    ("begun", "loaders", "drawn"), [(1, 1, False), (60, 1, True), (1, 60, True), (1, 1, "with replacement")]
)
def test_a_loader_that_gave_one_batch_for_all_steps_draws_none_anew(make, begun, loaders, drawn):
    """Epochs of four batches beside 400 steps: one, sixty, one of each of sixty loaders, one without end."""
    given = {"batch_size": 64, "length": 256, "replacement": drawn == "with replacement"}
    events = [Event("loader", 0, f"loader {i}", given) for i in range(loaders)]
    events += [Event("epoch", 0, f"loader {i}", {}) for i in range(loaders) for _ in range(begun)]
    record = make(400, UNFINISHED | {"gradient/cosine": 0.99}, events=events)
    if drawn:
        assert check(record) is not None
    else:
        with pytest.raises(NotApplicable, match="gradient_noise/signal"):
            check(record)


def test_in_a_run_of_few_steps_the_last_three_cosines_count_after_its_first_quarter(make):
    """A probe whenever the run has doubled leaves two of them to the second half."""
    falling = {name: (AT[:60], values[:60]) for name, (_, values) in UNFINISHED.items()}
    late = {"gradient/cosine": (np.array([2, 6, 16, 35, 36]), np.full(5, 0.99))}
    assert check(make(60, falling | late)) is not None
    with pytest.raises(NotApplicable, match="gradient_noise/signal"):
        check(make(60, falling | {"gradient/cosine": (np.array([2, 6, 14, 35, 36]), np.full(5, 0.99))}))


def test_one_example_is_never_too_many(make):
    alike = UNFINISHED | {"gradient/cosine": (AT[250::50], np.full(3, 0.999)), "batch/size": 1.0}
    with pytest.raises(NotApplicable):
        check(make(400, alike))
    with pytest.raises(NotApplicable, match="one example"):
        check(make(400, noisy(0.1) | {"batch/size": 1.0}))
