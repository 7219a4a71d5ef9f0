"""Which examples the batches had in common whose loss stood out."""

from __future__ import annotations

import numpy as np
import pytest

from vario.record import Event, Record, record_of
from vario.rules._wild_batches import suspects

LENGTH, BATCH = 4000, 32


def record(batches: list[list[int]], *, length: int | None = LENGTH) -> Record:
    events = [Event("loader", 0, "loader 0", {"length": length})]
    events += [
        Event("wild_batch", 10 * at, "loader 0", {"step": 10 * at, "loss": 9.0, "examples": held})
        for at, held in enumerate(batches)
    ]
    return record_of({}, events=events)


def drawn(count: int, seed: int, planted: tuple[int, ...] = ()) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [
        [*planted, *draw.choice(LENGTH, BATCH - len(planted), replace=False).tolist()] for _ in range(count)
    ]


def test_the_one_that_all_have_in_common_is_named() -> None:
    (found,) = suspects(record(drawn(3, 0, (1337,))))
    assert found == ("loader 0", 1337, 3, 3)


def test_others_may_stand_out_for_another_reason() -> None:
    (found,) = suspects(record(drawn(6, 0, (1337,)) + drawn(4, 1)))
    assert found == ("loader 0", 1337, 6, 10)


def test_two_strange_examples_are_both_named() -> None:
    batches = drawn(5, 0, (1337,)) + drawn(5, 1, (7,))
    assert [(one.example, one.held) for one in suspects(record(batches))] == [(1337, 5), (7, 5)]


def test_a_batch_that_is_always_the_same_is_named_whole() -> None:
    assert len(suspects(record([list(range(32))] * 4))) == 32


@pytest.mark.parametrize("count", [3, 6, 20, 100])
def test_chance_is_not_taken_for_a_reason(count: int) -> None:
    assert sum(bool(suspects(record(drawn(count, seed)))) for seed in range(200)) <= 8, "1 % each, at most"


def test_two_batches_or_a_data_set_of_unknown_length_tell_nothing() -> None:
    assert not suspects(record(drawn(2, 0, (1337,))))
    assert not suspects(record(drawn(5, 0, (1337,)), length=None))
    assert not suspects(record([]))
