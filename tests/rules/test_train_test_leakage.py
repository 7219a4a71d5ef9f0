"""Test ``vario.rules.train_test_leakage``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import train_test_leakage

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def seen(share, where="loader 1", examples=1000.0):
    return {
        ("eval/seen_share", where): (PASSES, np.full(10, share)),
        ("eval/examples", where): (PASSES, np.full(10, examples)),
    }


def test_fires_and_grades_by_share(make):
    found = train_test_leakage.check(make(400, seen(0.3)))
    assert (found.severity, found.where) == ("error", ("loader 1",))
    assert found.evidence[0].low < 0.3 < found.evidence[0].high
    assert train_test_leakage.check(make(400, seen(0.05))).severity == "warning"


def test_rows_that_leaked_are_known_only_after_an_epoch(make):
    growing = {("eval/seen_share", "loader 1"): (PASSES, np.minimum(np.linspace(0.0, 0.6, 10), 0.3))}
    assert train_test_leakage.check(make(400, seen(0.3) | growing)).evidence[0].value == pytest.approx(0.3)


def test_a_share_that_was_estimated_is_as_uncertain_as_one_of_fewer_rows(make):
    def told(share, of):
        series = {("eval/seen_of", "loader 1"): (PASSES, np.full(10, of))}
        return train_test_leakage.check(make(400, seen(share) | series))

    assert told(0.03, 30.0) is None  # 1 of 30
    wide, narrow = (told(0.3, of).evidence[0] for of in (30.0, 900.0))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_evaluating_the_training_data_beside_held_out_data_is_no_leak(make):
    assert train_test_leakage.check(make(400, seen(1.0, "loader 0") | seen(0.0))) is None
    assert train_test_leakage.check(make(400, seen(1.0, "loader 0"))).severity == "warning"


def test_a_held_out_loader_of_which_no_rows_were_known_is_one(make):
    """A model that writes on by itself is given rows that are in neither set."""
    events = [
        Event("loader", 0, "loader 0", {"data": "loader 0", "whole": True}),
        Event("epoch", 0, "loader 0", {"epoch": 0}),
        Event("loader", 99, "loader 1", {"data": "loader 0", "whole": True}),
    ]
    held_out = Event("loader", 99, "loader 2", {"data": "loader 2", "whole": True})
    assert train_test_leakage.check(make(400, seen(0.03), events=events)).severity == "warning"
    assert train_test_leakage.check(make(400, seen(0.03), events=[*events, held_out])) is None


def test_training_data_are_known_as_such_once_training_has_gone_through_them(make):
    growing = seen(1.0, "loader 0") | {("eval/seen_share", "loader 0"): (PASSES, np.linspace(0.3, 0.96, 10))}
    assert train_test_leakage.check(make(400, growing | seen(0.0))) is None


@pytest.mark.parametrize(("data", "whole"), [("loader 0", True), ("loader 0", False), ("loader 1", True)])
def test_a_loader_of_the_data_set_of_training_is_no_leak_before_training_has_gone_through_it(
    make, data, whole
):
    """Not so where it is of a part that its sampler knows, or of another data set."""
    events = [
        Event("loader", 0, "loader 0", {"data": "loader 0", "whole": True}),
        Event("loader", 99, "loader 1", {"data": data, "whole": whole}),
        Event("loader", 99, "loader 2", {"data": "loader 2", "whole": True}),
        Event("epoch", 0, "loader 0", {"epoch": 0}),
    ]
    meant = data == "loader 0" and whole
    some = seen(0.42) | seen(0.05, "loader 2")
    found = train_test_leakage.check(make(400, some, events=events))
    assert (found.severity, found.where) == (
        ("warning", ("loader 2",)) if meant else ("error", ("loader 1", "loader 2"))
    )
    at_training = seen(0.42, "loader 0") | seen(0.0, "loader 2")  # what is asked without a loader
    assert train_test_leakage.check(make(400, at_training, events=events)).where == ("loader 0",)


@pytest.mark.parametrize(("length", "severity"), [(1000, "advice"), (4000, "warning")])
def test_a_pass_over_all_of_the_training_data_is_meant_as_one(make, length, severity):
    events = [
        Event("loader", 0, "loader 0", {"length": length, "shuffle": True}),
        Event("epoch", 0, "loader 0", {"epoch": 0}),
    ]
    assert train_test_leakage.check(make(400, seen(1.0), events=events)).severity == severity


def test_the_scripts_own_table_tells_how_many_rows_there_are_and_how_many_repeat(make):
    table = [Event("table", 0, "", {"rows": 1000, "copies": 0})]
    assert train_test_leakage.check(make(400, seen(1.0), events=table)).severity == "advice"
    assert train_test_leakage.check(make(400, seen(0.3), events=table)).severity == "error"
    part = seen(1.0) | {("eval/examples", "loader 1"): (PASSES, np.r_[np.full(9, 600.0), 1200.0])}
    assert train_test_leakage.check(make(400, part, events=table)).severity == "warning"
    few = [Event("table", 0, "", {"rows": 1000, "copies": 150})]
    assert train_test_leakage.check(make(400, seen(0.3), events=few)).severity == "advice"


def test_words_are_not_taken_for_rows(make):
    """600 of 1,000 texts with ten words each were asked for: a part, as a test set would be."""
    words = {
        "batch/size": 32.0,
        "batch/class_counts": (N, np.full((400, 10), 32.0)),
        ("eval/examples", "training data"): (PASSES, np.full(10, 6000.0)),
    }
    table = [Event("table", 0, "", {"rows": 1000, "copies": 0})]
    record = make(400, seen(1.0, "training data") | words, events=table)
    assert train_test_leakage.check(record).severity == "warning"


def test_silent_below_a_per_cent_and_mild_where_rows_repeat_by_nature(make):
    assert train_test_leakage.check(make(400, seen(0.005))) is None
    assert (
        train_test_leakage.check(make(400, seen(0.3) | {"data/duplicate_share": 0.25})).severity == "advice"
    )


def test_few_distinct_rows_are_seen_in_training_whatever_is_held_out(make):
    found = train_test_leakage.check(make(400, seen(1.0) | {"data/duplicate_share": 0.7}))
    assert found.severity == "advice"


def test_cannot_know_without_hashes_or_on_few_rows(make):
    with pytest.raises(NotApplicable, match="0 rows"):
        train_test_leakage.check(make(400))
    with pytest.raises(NotApplicable, match="50 rows"):
        train_test_leakage.check(make(400, seen(0.5, examples=50.0)))
    with pytest.raises(NotApplicable):
        train_test_leakage.check(make(400, seen(np.nan)))


@pytest.mark.parametrize(("labelled", "fires"), [(64.0, True), (62.0, True), (8.0, False), (None, True)])
def test_cannot_know_where_labels_are_held_out_and_not_rows(make, labelled, fires):
    """All nodes of a graph are asked at once, in training and evaluation; a mask says whose loss is taken."""
    record = make(400, seen(1.0) | {"batch/size": 64.0, "batch/targets": labelled})
    if fires:
        assert train_test_leakage.check(record) is not None
    else:
        with pytest.raises(NotApplicable, match="about 12% of the rows"):
            train_test_leakage.check(record)
