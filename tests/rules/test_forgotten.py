from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from vario.record import Event, Record
from vario.record.memory import record_of
from vario.rules._forgotten import _most, forgotten

LOADER = Event("loader", 0, "loader 0", {"sampler": "RandomSampler", "replacement": False})


def of(looks: list[tuple[int, int, bool]], epochs: int, *, loader: Event | None = LOADER) -> Record:
    """Looks (epoch, example, right) at a run of ten steps an epoch; each look has a step of its own."""
    steps = [10 * epoch + i % 10 for i, (epoch, _, _) in enumerate(looks)]
    fill = [np.nan] * 15
    series: dict[Any, Any] = {
        ("worst/example", "loader 0"): (steps, [[example, *fill] for _, example, _ in looks]),
        ("worst/target", "loader 0"): (steps, [[1, *fill] for _ in looks]),
        ("worst/guess", "loader 0"): (steps, [[1 if right else 3, *fill] for *_, right in looks]),
    }
    events = [Event("epoch", 10 * epoch, "loader 0", {"epoch": epoch}) for epoch in range(epochs)]
    return record_of(series, events=[*([loader] if loader else []), *events])


def events_of(answers: tuple[bool, ...]) -> int:
    """The definition: right, and wrong at the next presentation."""
    return sum(a and not b for a, b in zip(answers, answers[1:], strict=False))


@pytest.mark.parametrize("known", [(0,), (2,), (0, 5), (1, 2), (1, 4), (0, 2, 3, 5)])
def test_the_bounds_are_those_of_all_histories_that_fit_what_was_seen(known: tuple[int, ...]) -> None:
    histories = list(itertools.product((False, True), repeat=6))
    for seen in {tuple(history[i] for i in known) for history in histories}:
        fitting = [events_of(h) for h in histories if tuple(h[i] for i in known) == seen]
        assert _most(list(seen), [i + 1 for i in known], 6) == max(fitting)
        assert events_of(seen) == min(fitting)


def test_the_most_forgotten_come_first_with_what_is_known() -> None:
    looks = [
        (0, 7, True),
        (0, 8, True),
        (1, 7, False),
        (1, 8, True),
        (2, 7, True),
        (3, 7, False),
        (3, 8, False),
    ]
    first, second = forgotten(of(looks, epochs=4))
    assert (first.example, first.least, first.most, first.looks, first.presentations) == (7, 2, 2, 4, 4)
    assert (second.example, second.least, second.most) == (8, 1, 1)
    assert forgotten(of(looks, epochs=4), most=1) == [first]


def test_an_example_that_was_never_right_before_it_was_wrong_is_not_told() -> None:
    assert forgotten(of([(0, 7, False), (1, 7, False), (2, 7, True)], epochs=3)) == []


def test_without_knowing_how_often_it_was_drawn_there_is_no_upper_bound() -> None:
    looks = [(0, 7, True), (1, 7, False)]
    other = Event("loader", 0, "loader 0", {"sampler": "WeightedRandomSampler", "replacement": True})
    for record in (of(looks, epochs=2, loader=other), of(looks, epochs=0), of(looks, epochs=2, loader=None)):
        (one,) = forgotten(record)
        assert (one.least, one.most, one.presentations) == (1, None, None)
    twice = of([(0, 7, True), (0, 7, False)], epochs=1)
    assert forgotten(twice)[0].most is None


def test_nothing_where_no_row_is_named_or_nothing_is_guessed() -> None:
    assert forgotten(record_of({"loss/train": ([0, 1], [1.0, 0.5])})) == []
    regression = {
        ("worst/example", "loader 0"): ([0], [[1.0] * 16]),
        ("worst/target", "loader 0"): ([0], [[0.5] * 16]),
    }
    assert forgotten(record_of(regression)) == []
