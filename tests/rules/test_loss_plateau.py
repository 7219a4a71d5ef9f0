"""Test ``vario.rules.loss_plateau``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules._course import course
from vario.rules.loss_plateau import check


def flat(height, noise=0.02, seed=4):
    return lambda steps, values: (
        steps,
        height + noise * np.random.default_rng(seed).standard_normal(len(steps)),
    )


def test_fires_on_the_loss_of_a_guess(make):
    found = check(make(400, {"loss/train": flat(np.log(10))}))
    guess = next(e for e in found.evidence if e.name == "loss of guessing by class shares")
    assert guess.value == pytest.approx(np.log(10), rel=0.01)
    assert (found.severity, found.confidence) == ("warning", 0.95)


def test_fires_without_classes_on_a_loss_that_never_moved(make):
    assert check(make(400, {"loss/train": flat(1.0), "batch/class_counts": None})) is not None
    assert check(make(400, {"loss/train": 1.0, "batch/class_counts": None})) is not None


def test_fires_where_the_loss_came_down_only_to_the_guess(make):
    from_high = lambda steps, values: (steps, np.log(10) + 5 * np.exp(-steps / 10))  # noqa: E731
    assert check(make(400, {"loss/train": from_high})) is not None


def test_leaves_a_chain_of_layers_that_goes_through_too_few_numbers_to_what_is_said_of_narrow_models(make):
    def chain(*sizes):
        shapes = {f"layers.{2 * at}.weight": list(size) for at, size in enumerate(sizes)}
        rows = lambda rows: [r | {"shape": shapes.get(r["name"], r["shape"])} for r in rows]  # noqa: E731
        return make(400, {"loss/train": flat(np.log(10))}, parameters=rows)

    wide = ((64, 64), (64, 64), (10, 64))
    with pytest.raises(NotApplicable, match="too narrow"):
        check(chain((3, 64), (64, 3), *wide))
    assert check(chain((4, 64), (64, 4), *wide)) is not None  # sixteen corners for ten classes
    assert check(chain((3, 64), (64, 67), *wide)) is not None  # the next is given more than these three


def test_silent_on_a_healthy_run_and_on_one_that_learned_and_levelled_off(make):
    assert check(make()) is None
    assert check(make(400, {"loss/train": lambda s, v: (s, 1.0 + 1.3 * np.exp(-s / 10))})) is None


def test_silent_on_a_loss_around_zero_which_has_no_floor(make):
    """A policy's loss is a weighted sum of advantages of either sign; that it hovers says nothing."""
    policy = {"loss/train": flat(0.0), "batch/class_counts": None}
    assert check(make(400, policy)) is None


def test_silent_where_something_worse_is_the_matter(make):
    assert check(make(400, {"loss/train": lambda s, v: (s, np.where(s > 50, np.nan, 2.3))})) is None


def test_cannot_know_where_noise_hides_whether_it_fell(make):
    """A fifth was learned, and each batch is off by a quarter."""
    at = [*range(10), *range(10, 400, 8)]
    for seed in range(10):
        noisy = lambda s, v: flat(np.where(s < 10, 1.25, 1.0), 0.25, seed)(s, v)  # noqa: E731, B023
        record = make(400, {"loss/train": noisy, "batch/class_counts": None}, at=at)
        if course(record).state == "stuck":
            with pytest.raises(NotApplicable, match="too noisy to tell"):
                check(record)
            break
    else:
        pytest.fail("no draw was noisy enough to ask")
    quiet = lambda s, v: flat(1.0, 0.02)(s, v)  # noqa: E731
    assert check(make(400, {"loss/train": quiet, "batch/class_counts": None}, at=at)) is not None


def test_cannot_know_from_19_steps(make):
    with pytest.raises(NotApplicable, match="19 readings of loss/train; 20"):
        check(make(19))


def test_a_guess_is_no_yardstick_of_a_weighted_loss(make):
    """Class weights put the loss above ln 10 all the way down; unweighted, the same level is a plateau."""
    steps = np.arange(400)
    loss = 2.35 + 3 * np.exp(-steps / 40)
    examples = lambda mean: np.outer(mean, np.linspace(0.9, 1.1, 11))  # noqa: E731
    plain = {"loss/train": loss, "examples/loss_quantiles": (steps, examples(loss))}
    weighted = {"loss/train": loss, "examples/loss_quantiles": (steps, examples(loss / 3))}
    assert check(make(400, plain)) is not None
    assert check(make(400, weighted)) is None
    # A tenth of the examples, surely wrong, cost most of it: the deciles say nothing of their mean.
    tailed = {"examples/loss_quantiles": (steps, np.tile([*[0.1] * 10, 60.0], (400, 1)))}
    assert check(make(400, plain | tailed)) is None
    assert check(make(400, plain | tailed | {"examples/loss_mean": (steps, loss)})) is not None
    assert check(make(400, plain | {"examples/loss_mean": (steps, loss / 3)})) is None


def test_a_level_above_a_guess_has_learned_nothing_however_noisy(make):
    noisy = lambda middle: lambda s, v: (s, middle + 2 * np.exp(-s / 9) + 0.3 * np.sin(s * s))  # noqa: E731
    assert check(make(400, {"loss/train": noisy(2.35)})) is not None
    assert course(make(400, {"loss/train": noisy(2.2)})).state == "learning"
