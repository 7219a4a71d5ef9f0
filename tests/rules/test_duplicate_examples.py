"""Test ``vario.rules.duplicate_examples``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import duplicate_examples

N = np.arange(400)
PASSES = np.arange(39, 400, 40)


def test_fires_as_advice_and_surer_the_more_rows_repeat(make):
    found = duplicate_examples.check(make(400, {"data/duplicate_share": 0.1}))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(0.1))
    half = duplicate_examples.check(make(400, {"data/duplicate_share": 0.5}))
    assert half.severity == "advice" and half.confidence > found.confidence


def test_rows_of_later_epochs_are_no_new_witnesses(make):
    once = duplicate_examples.check(make(400, {"data/duplicate_share": 0.1}))
    again = duplicate_examples.check(make(400, {"data/duplicate_share": 0.1, "data/repeat_share": 0.95}))
    assert again.evidence[0].low < once.evidence[0].low


def test_silent_on_few_and_on_sampling_with_replacement(make):
    assert duplicate_examples.check(make(400, {"data/duplicate_share": 0.01})) is None
    weighted = [
        Event("loader", 0, "loader 0", {"sampler": "WeightedRandomSampler"}),
        Event("epoch", 0, "loader 0", {"epoch": 0}),
    ]
    assert duplicate_examples.check(make(400, {"data/duplicate_share": 0.5}, events=weighted)) is None


def test_silent_where_one_epoch_draws_more_rows_than_there_are(make):
    """A sampler without end: 400 batches of 64 in the only epoch over 3,600 rows."""

    def endless(length, **settings):
        return [
            Event("loader", 0, "loader 0", {"sampler": "RandomSampler", "length": length, **settings}),
            Event("epoch", 0, "loader 0", {"epoch": 0}),
        ]

    assert duplicate_examples.check(make(400, {"data/duplicate_share": 0.5}, events=endless(3600))) is None
    whole = duplicate_examples.check(make(400, {"data/duplicate_share": 0.5}, events=endless(400 * 64)))
    assert whole.severity == "advice"
    pairs = endless(400 * 32, batch_size=32)  # and the model was given 64: two views of each
    assert duplicate_examples.check(make(400, {"data/duplicate_share": 0.5}, events=pairs)) is not None


def test_epochs_that_are_told_late_give_no_more_rows_for_that(make):
    """Epochs of 10 batches of 64 rows, over 640; the steps of their beginnings lie up to 40 apart."""
    loader = {"sampler": "RandomSampler", "length": 640, "batch_size": 64}
    starts = [0, 10, 20, 60, 60, 60, 100]
    events = [Event("loader", 0, "loader 0", loader)]
    events += [
        Event("epoch", at, "loader 0", {"epoch": k, "batches_before": 10 if k else None})
        for k, at in enumerate(starts)
    ]
    repeated = {"data/duplicate_share": 0.5}
    assert duplicate_examples.check(make(110, repeated, events=events)).severity == "advice"
    part = [Event("loader", 0, "loader 0", loader | {"length": 590}), *events[1:]]  # the tenth is of 14
    assert duplicate_examples.check(make(110, repeated, events=part)) is not None
    events[-1] = Event("epoch", 100, "loader 0", {"epoch": 6, "batches_before": 30})
    assert duplicate_examples.check(make(110, repeated, events=events)) is None


def test_cannot_know_without_hashes(make):
    with pytest.raises(NotApplicable, match="0 readings"):
        duplicate_examples.check(make(400))
    with pytest.raises(NotApplicable, match="192 rows"):
        duplicate_examples.check(make(400, {"data/duplicate_share": (N[:3], np.full(3, 0.5))}))
    with pytest.raises(NotApplicable, match="0 rows"):
        duplicate_examples.check(make(400, {"data/duplicate_share": np.nan}))


def test_without_a_loader_the_scripts_table_tells_of_copies(make):
    """Batches that hold a row twice were drawn with replacement, or from a table with copies."""
    table = [
        Event("table", 0, "", {"rows": 900, "copies": 0}),
        Event("table", 0, "", {"rows": 400, "copies": 300}),
    ]
    twice = {"data/twice_share": (N, np.where(N % 50 == 0, 0.05, 0.0))}
    found = duplicate_examples.check(make(400, twice, events=table))
    assert (found.severity, found.evidence[0].value) == ("advice", pytest.approx(0.75))
    large = Event("table", 0, "", {"rows": 9000, "copies": 900})  # more copies, a smaller share
    assert duplicate_examples.check(make(400, twice, events=[*table, large])).evidence[0].value == 0.75
    assert duplicate_examples.check(make(400, twice, events=table[:1])) is None
    assert duplicate_examples.check(make(400, {"data/twice_share": 0.0}, events=table)) is None
