"""Test ``vario.rules.rank_collapse``: fires, stays silent, cannot know."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import rank_collapse

N = np.arange(400)


def rank(values, width=128.0):
    return {
        ("rank/effective", "encoder"): values,
        ("rank/width", "encoder"): width,
        "batch/class_counts": None,
    }


def test_fires_on_one_direction(make):
    found = rank_collapse.check(make(400, rank(np.where(N < 100, 60.0, 1.1))))
    assert (found.severity, found.where) == ("warning", ("encoder",))
    assert found.evidence[0].value == pytest.approx(1.1)


def test_silent_on_a_low_but_living_rank_and_on_narrow_layers(make):
    assert rank_collapse.check(make(400, rank(30.0))) is None
    assert rank_collapse.check(make(400, rank(1.1, width=2.0))) is None


def test_a_classifier_may_settle_on_its_classes(make):
    settled = rank(np.where(N < 100, 900.0, 9.5), width=1024.0)
    assert rank_collapse.check(make(400, settled)) is not None
    settled.pop("batch/class_counts")
    assert rank_collapse.check(make(400, settled)) is None


def test_what_was_low_from_the_start_is_a_collapse_only_where_training_fails(make):
    low = rank(1.5)
    assert rank_collapse.check(make(400, low)) is None
    assert rank_collapse.check(make(400, low | {"loss/train": 2.303})) is not None
    rises = rank(np.linspace(1.1, 1.6, 400)) | {"loss/train": 2.303}
    assert rank_collapse.check(make(400, rises)) is None


def test_two_classes_told_apart_lie_on_a_line(make):
    two = rank(np.where(N < 100, 60.0, 1.5)) | {"batch/class_counts": (N, np.full((400, 2), 16.0))}
    assert rank_collapse.check(make(400, two | {"loss/train": 0.69 * np.exp(-N / 50)})) is None
    assert rank_collapse.check(make(400, two | {"loss/train": 0.6931})) is not None


def test_cannot_know_without_ranks(make):
    with pytest.raises(NotApplicable, match="0 readings of rank/effective"):
        rank_collapse.check(make(400))
    with pytest.raises(NotApplicable, match="0 readings"):
        rank_collapse.check(make(400, rank(np.nan)))


def test_readings_that_lie_ever_further_apart_are_taken_by_their_steps(make):
    when, ranks = np.array([2, 4, 11, 22, 48, 96]), np.array([12.0, 7.0, 3.1, 2.4, 1.9, 1.7])
    falls = {
        ("rank/effective", "encoder"): (when, ranks),
        ("rank/width", "encoder"): (when, np.full(6, 64.0)),
    }
    found = rank_collapse.check(make(125, falls))
    assert found.evidence[0].value == pytest.approx(1.8)


def chain(*widths, kind="Sequential", between="BatchNorm1d"):
    """Modules of one chain of linear layers, with a norm and a function after each."""
    listed = [{"name": "", "class": "Net"}, {"name": "net", "class": kind}]
    for i, (a, b) in enumerate(pairwise(widths)):
        listed += [
            {"name": f"net.{3 * i}", "class": "Linear", "in_features": a, "out_features": b},
            {"name": f"net.{3 * i + 1}", "class": between},
            {"name": f"net.{3 * i + 2}", "class": "ReLU"},
        ]
    return Event("modules", 0, data={"modules": listed})


def test_fires_where_all_goes_through_two_numbers(make):
    def found(*widths, **how):
        series = {"rank/effective": None, "batch/class_counts": (N, np.full((400, 10), 16.0))}
        return rank_collapse.check(make(400, series, events=[chain(*widths, **how)]))

    narrow = found(64, 2, 32)
    assert (narrow.severity, narrow.where) == ("advice", ("net.0",))
    assert found(64, 2, 32, 10) is not None  # ten classes
    for widths in ((64, 3, 32), (64, 32, 2), (2, 2, 32), (64, 2, 1)):
        with pytest.raises(NotApplicable):  # wide enough, the outputs, the inputs, one output
            found(*widths)
    with pytest.raises(NotApplicable):
        found(64, 2, 32, kind="ModuleList")  # what hands on to what is not known


def test_two_numbers_tell_four_classes_apart(make):
    four = {"rank/effective": None, "batch/class_counts": (N, np.full((400, 4), 16.0))}
    with pytest.raises(NotApplicable):
        rank_collapse.check(make(400, four, events=[chain(64, 2, 32, 4)]))
    assert rank_collapse.check(make(400, four, events=[chain(64, 1, 32, 4)])) is not None
