"""Test ``vario.record.until``: nothing of what came later is seen."""

from __future__ import annotations

import numpy as np

from vario.record import Event
from vario.record.memory import record_of
from vario.record.until import until


def test_nothing_after_the_step_is_seen() -> None:
    steps = np.arange(100)
    events = [Event("epoch", 10), Event("epoch", 60), Event("exit", 40)]
    record = record_of({"a": (steps, steps * 2.0), ("late", "x"): ([80], [1.0])}, events=events)
    early = until(record, 50)
    at, values = early.series("a")
    assert (at[-1], values[-1], early.last("a"), early.step_count) == (49, 98.0, 98.0, 50)
    assert early.names() == ("a",) and early.wheres("late") == ()
    assert [event.step for event in early.events()] == [10]  # and how it ended is not known
    assert early.overview("a", bins=5)[0][-1] == 49
    assert np.isnan(early.last("late", "x"))


def test_a_whole_record_stays_as_it_is() -> None:
    record = record_of({"a": ([0, 1, 2], [1.0, 2.0, 3.0])})
    assert until(record, 100).series("a")[1].tolist() == [1.0, 2.0, 3.0]
    assert until(record, 100).step_count == 3
