"""Test ``vario.rules.target_scale``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.rules import target_scale

N = np.arange(400)


def target(mean, std):
    return {"target/mean": mean, "target/std": std, "batch/class_counts": None}


def test_fires_on_large_targets(make):
    found = target_scale.check(make(400, target(300.0, 400.0)))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(500))
    assert target_scale.check(make(400, target(300.0, 400.0) | {"loss/train": 2.5e5})).severity == "warning"


def test_it_is_as_sure_as_targets_are_beyond_the_limit(make):
    sure = [target_scale.check(make(400, target(size, 0.0))).confidence for size in (110.0, 300.0, 3000.0)]
    assert 0.7 < sure[0] < sure[1] < sure[2]
    tiny = [
        target_scale.check(make(400, target(size, 0.0) | {"loss/train": 0.1})).confidence
        for size in (9e-4, 1e-5)
    ]
    assert 0.7 <= tiny[0] < tiny[1]


def test_tiny_targets_count_only_where_the_run_fails(make):
    assert target_scale.check(make(400, target(0.0, 1e-4))) is None
    assert target_scale.check(make(400, target(0.0, 1e-4) | {"loss/train": 0.1})).severity == "warning"


def test_silent_on_standardised_targets(make):
    assert target_scale.check(make(400, target(0.0, 1.0) | {"loss/train": 1.0})) is None


def test_the_loss_tells_where_it_is_written_by_hand_and_never_falls(make):
    own = {"batch/class_counts": None, "loss/train": 2.5e7}
    out = {("activation/mean", "layers.8"): 0.0, ("activation/std", "layers.8"): 0.3}
    found = target_scale.check(make(400, own | out))
    assert (found.severity, found.evidence[0].value) == ("warning", pytest.approx(5000))
    assert target_scale.check(make(400, own | out | {"loss/train": 50.0})) is None
    falling = lambda s, v: (s, 2.5e7 * np.exp(-s / 50.0))  # noqa: E731
    assert target_scale.check(make(400, own | out | {"loss/train": falling})) is None


def test_a_loss_that_counts_distances_tells_by_its_gradient(make):
    """Targets of 8,000 under an absolute error: over a gradient of 1. Ten squares of 30 have one of 600."""
    own = {"batch/class_counts": None, ("gradient/norm", "layers.8.bias"): 1.0}
    one = lambda rows: [r | {"shape": [1]} if r["name"] == "layers.8.bias" else r for r in rows]  # noqa: E731
    found = target_scale.check(make(400, own | {"loss/train": 8000.0}, parameters=one))
    assert (found.severity, found.evidence[0].value) == ("warning", pytest.approx(8000))
    squares = own | {"loss/train": 9000.0, ("gradient/norm", "layers.8.bias"): 600.0}
    assert target_scale.check(make(400, squares, parameters=one)) is None
    assert target_scale.check(make(400, own | {"loss/train": 80.0}, parameters=one)) is None


@pytest.mark.parametrize(("loss", "slope", "size"), [(9e8, 6e4, 3e4), (3e4, 0.8, 3e4 / 0.8)])
def test_errors_to_one_side_tell_of_targets_that_the_run_comes_nearer_to(make, loss, slope, size):
    """A squared error of 30,000 has a gradient of twice that; a distance, or a root of squares, about 1."""
    one = lambda rows: [r | {"shape": [1]} if r["name"] == "layers.8.bias" else r for r in rows]  # noqa: E731

    def found(gradient, given=1.0):
        own = {"batch/class_counts": None, ("gradient/norm", "layers.8.bias"): gradient, "input/std": given}
        own |= {"loss/train": lambda s, v: (s, loss * (0.3 + 0.7 * np.exp(-s / 50.0))), "input/mean": 0.0}
        return target_scale.check(make(400, own, parameters=one))

    assert (found(slope).severity, found(slope).evidence[0].value) == ("advice", pytest.approx(size, rel=0.1))
    assert found(32 * slope) is None  # a sum of 32
    assert found(slope, given=1000.0) is None  # outputs may be as large as inputs


def test_a_mean_of_squares_that_ran_away_from_a_large_start_tells_as_well(make):
    """Errors of 450 at a rate that standardised targets would bear."""
    own = {"batch/class_counts": None, "input/mean": 0.0, "input/std": 1.0}

    def found(start, terms):
        lost = lambda s, v: (s, np.where(s < 5, start * 10.0 ** np.minimum(s, 5), np.nan))  # noqa: E731
        return target_scale.check(make(400, own | {"loss/train": lost, "loss/terms": terms}))

    assert found(2e5, 1.0).severity == "warning"
    assert found(2e5, 1.0).evidence[0].value == pytest.approx(2e5**0.5)
    assert found(2e5, 32.0) is None  # a sum
    assert found(5e3, 1.0) is None  # a rate too high for usual targets


def test_bears_nan_and_cannot_know_without_targets(make):
    assert target_scale.check(make(400, target(np.where(N % 2, np.nan, 300.0), 400.0))) is not None
    with pytest.raises(NotApplicable, match="0 readings"):
        target_scale.check(make(400, {"logits/largest": 5.0}))
    with pytest.raises(NotApplicable, match="fewer than 3"):
        target_scale.check(make(400, target(np.nan, 1.0)))
