from __future__ import annotations

from typing import Any

import numpy as np

from vario.record import Event, Record
from vario.record.memory import record_of
from vario.report.examples import MISLABELLED, Sketch, example_tables
from vario.report.tables import examples

PICTURE = "data:image/png;base64,iVBORw0KGgo="


def record(*events: Event) -> Record:
    fill = [np.nan] * 14
    series: dict[Any, Any] = {
        (f"worst/{name}", "loader 0"): (range(0, 40, 10), [[*pair, *fill] for pair in values])
        for name, values in {
            "example": [(7, 8)] * 4,
            "loss": [(3.0, 1.0)] * 4,
            "target": [(1, 2)] * 4,
            "guess": [(0, 2), (0, 3), (0, 2), (0, 3)],
            "probability": [(0.01, 0.4)] * 4,
        }.items()
    }
    loader = Event("loader", 0, "loader 0", {"sampler": "SequentialSampler"})
    epochs = [Event("epoch", step, "loader 0", {}) for step in range(0, 40, 10)]
    return record_of(series, events=[loader, *epochs, *events])


def test_worst_and_forgotten_are_told_with_what_is_known() -> None:
    worst, forgotten = example_tables(record())
    assert worst.head[0] == "worst example" and worst.head[4] == "guessed wrong"
    assert [row[0] for row in worst.rows] == ["7", "8"] and worst.sketches == [None, None]
    assert worst.rows[0][4] == "always" and worst.rows[1][4] == "2 of 3"  # the first tenth is left out
    assert forgotten.rows == [["8", "2 times", "4", "4", "loader 0"]]
    assert example_tables(record_of({"loss/train": ([0], [1.0])})) == []


def test_sketches_stand_beside_their_numbers_and_only_pictures_are_pictures() -> None:
    kept = [
        Event("example", 5, "loader 0", {"example": 7, "picture": PICTURE}),
        Event("example", 5, "loader 0", {"example": 8, "picture": 'x" onerror="alert(1)'}),
        Event("example", 9, "loader 1", {"example": 8, "text": "of another loader"}),
    ]
    worst, _ = example_tables(record(*kept))
    assert worst.sketches == [Sketch(picture=PICTURE), None]
    html = examples([record(*kept)], ())
    assert html.count("<img") == 1 and PICTURE in html and "onerror" not in html
    words = [Event("example", 5, "loader 0", {"example": 8, "text": "<b>words</b>"})]
    words.append(Event("example", 5, "loader 0", {"example": 7, "numbers": [1.5, 2], "more": True}))
    worst, forgotten = example_tables(record(*words))
    assert [sketch.text for sketch in worst.sketches if sketch] == ["1.5, 2 …", "<b>words</b>"]
    assert forgotten.sketches == [Sketch(text="<b>words</b>")]
    assert "<b>words" not in examples([record(*words)], ())


def test_where_labels_are_wrong_it_is_said_which_examples_are_likely_mislabelled() -> None:
    of = record()
    assert MISLABELLED in examples([of], {of.stream}) and MISLABELLED not in examples([of], {"another"})
    nothing = record_of({"loss/train": ([0], [1.0])})
    assert examples([nothing], {nothing.stream}) == ""
