"""Test ``vario.rules._worst_examples``."""

from __future__ import annotations

import numpy as np

from vario.record import record_of
from vario.rules._worst_examples import Worst, worst_examples

STEPS = np.array([3, 8])


def seen(examples, loss, **more):
    series = {"example": examples, "loss": loss, **more}
    return record_of(
        {(f"worst/{name}", "loader 0"): (STEPS, np.array(v, float)) for name, v in series.items()}
    )


CLASSES = {
    "target": [[1, 2, 3], [1, 0, np.nan]],
    "guess": [[4, 2, 3], [5, 9, np.nan]],
    "probability": [[0.1, 0.9, 0.9], [0.2, 0.01, np.nan]],
}


def test_looks_at_one_example_are_put_together() -> None:
    found = worst_examples(seen([[10, 11, 12], [10, 13, np.nan]], [[4, 3, 1], [2, 9, np.nan]], **CLASSES))
    assert [one.example for one in found] == [13, 10, 11, 12]
    assert found[1] == Worst("loader 0", 10, 2, loss=3.0, target=1.0, guess=5.0, probability=0.2, wrong=2)
    assert [one.example for one in worst_examples(seen([[1, 2], [3, 4]], [[1, 2], [3, 4]]), most=2)] == [4, 3]


def test_wrong_ones_are_those_never_got_right() -> None:
    record = seen([[10, 11, 12], [10, 13, np.nan]], [[4, 3, 1], [2, 9, np.nan]], **CLASSES)
    assert [one.example for one in worst_examples(record, wrong=True)] == [13, 10]


def test_a_record_without_them_has_none() -> None:
    assert worst_examples(record_of({})) == []
    assert np.isnan(worst_examples(seen([[1], [2]], [[1], [2]], target=[[5.0], [6.0]]))[0].guess)


def test_the_first_steps_are_left_out() -> None:
    parts = {"example": [[1.0], [2.0], [3.0]], "loss": [[9.0], [5.0], [1.0]], "target": [[0.0], [0.0], [0.0]]}
    steps = np.array([5, 10, 99])
    record = record_of({(f"worst/{name}", "loader 0"): (steps, np.array(v)) for name, v in parts.items()})
    assert record.step_count == 100
    assert [one.example for one in worst_examples(record)] == [2, 3]
