from __future__ import annotations

from tests.instruments.sample import read
from vario.instruments.time import Time


def test_it_gives_what_was_timed_and_no_more() -> None:
    found = read(Time(), times={"step": 0.5, "own": 0.0, "data_wait": None, "other": 3.0})
    assert found == {("time/step", ""): 0.5, ("time/own", ""): 0.0}


def test_it_is_silent_at_the_first_step() -> None:
    assert read(Time()) == {}
