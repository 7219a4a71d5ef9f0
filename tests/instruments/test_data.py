from __future__ import annotations

import numpy as np

from tests.instruments.sample import read
from vario.capture.rows import RowsSeen
from vario.instruments.data import Data


def epochs(*batches_of_epochs: list[list[int]]) -> list[dict[str, float]]:
    """What is read at each batch of these rows, epoch after epoch."""
    seen, found = RowsSeen(), []
    for epoch, batches in enumerate(batches_of_epochs):
        for position, rows in enumerate(batches):
            came = seen.train("loader 0", epoch, position, np.array(rows, dtype=np.int64))
            found.append(
                {
                    series.removeprefix("data/"): value
                    for (series, _), value in read(Data(), rows=came).items()
                }
            )
    return found


def test_an_unshuffled_epoch_comes_back_in_the_same_order() -> None:
    first, _, again, _ = epochs([[1, 2], [3, 4]], [[1, 2], [3, 4]])
    assert first == {"duplicate_share": 0.0}, "in the first epoch there is no order to compare with"
    assert again == {"duplicate_share": 0.0, "repeat_share": 1.0, "same_order": 1.0}


def test_a_shuffled_epoch_brings_the_same_rows_in_another_order() -> None:
    assert epochs([[1, 2], [3, 4]], [[2, 1], [4, 3]])[2]["same_order"] == 0.0


def test_duplicates_within_an_epoch_are_found() -> None:
    assert [found["duplicate_share"] for found in epochs([[1, 2], [2, 9], [7, 7]])] == [0.0, 0.5, 0.5]


def test_it_is_silent_where_rows_are_unknown() -> None:
    assert read(Data()) == {}
