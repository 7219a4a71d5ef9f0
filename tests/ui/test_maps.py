"""The heat map of a run in flight: what it adds up bit by bit is all there is, and it reads only news."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ui.serving import served
from vario.nouns import Reading
from vario.record import Record, open_run
from vario.record.schema import FILE_NAME
from vario.record.store import RecordWriter
from vario.ui.maps import GrowingMap

LAYERS = ("fc1.weight", "fc2.weight", "rare.weight")


def write(writer: RecordWriter, steps: range, values: np.ndarray) -> None:
    """Two layers at every step, one of them with gaps that are no number, and one at every fifth."""
    for step in steps:
        row = values[step]
        readings = [Reading("gradient/norm", row[0], LAYERS[0]), Reading("gradient/norm", row[1], LAYERS[1])]
        if step % 5 == 0:
            readings.append(Reading("gradient/norm", row[2], LAYERS[2]))
        writer.readings("model", step, readings)
    writer.flush()


@pytest.fixture
def values() -> np.ndarray:
    found = np.random.default_rng(3).normal(size=(2_600, 3))
    found[400:430, 1] = np.nan
    return found


def test_what_grows_bit_by_bit_is_the_mean_of_each_column(tmp_path: Path, values: np.ndarray) -> None:
    columns, at, sizes = 40, 0, np.random.default_rng(4).integers(1, 90, size=200)
    with closing(RecordWriter(tmp_path / "run")) as writer:
        write(writer, range(3), values)
        with open_run(tmp_path / "run") as run:
            growing = GrowingMap(run.main, "gradient/norm", LAYERS, columns)
            at = 3
            for size in sizes:
                if at + size > len(values):
                    break
                write(writer, range(at, at + size), values)
                at += size
                rows = growing.rows()
                assert rows.shape[1] <= columns
    with closing(sqlite3.connect(tmp_path / "run" / FILE_NAME)) as file:
        assert file.execute("select count(*) from chunk where first < 2000").fetchone()[0] > 3
    wide = growing.width
    assert wide >= 64 and at > 2_000
    for column in range(rows.shape[1]):
        part = values[wide * column : min(wide * (column + 1), at)]
        known = part[:, 1][~np.isnan(part[:, 1])]
        np.testing.assert_allclose(rows[0, column], part[:, 0].mean(), rtol=1e-9)
        np.testing.assert_allclose(rows[1, column], known.mean() if len(known) else np.nan, rtol=1e-9)
        rare = np.arange(wide * column, wide * column + len(part)) % 5 == 0
        assert part[rare, 2].min() <= rows[2, column] <= part[rare, 2].max()


def test_an_answer_reads_only_what_came_since_the_last(
    tmp_path: Path, values: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RecordWriter(tmp_path / "run")) as writer:
        write(writer, range(1_500), values)
        with open_run(tmp_path / "run") as run:
            growing = GrowingMap(run.main, "gradient/norm", LAYERS, 40)
            growing.rows()
            write(writer, range(1_500, 1_510), values)
            read: list[Any] = []
            window = Record.window

            def counted(self: Record, name: str, where: str = "", *, first: int, last: int) -> Any:
                read.append((first, last))
                return window(self, name, where, first=first, last=last)

            monkeypatch.setattr(Record, "window", counted)
            monkeypatch.setattr(Record, "series", None)
            monkeypatch.setattr(Record, "overview", None)
            growing.rows()
    assert read == [(1_500, 1_509)] * len(LAYERS)


def test_a_run_that_has_ended_is_told_whole(tmp_path: Path, values: np.ndarray) -> None:
    """Also what was written at a step that the map had passed."""
    with served(tmp_path) as asking, closing(RecordWriter(tmp_path / "run")) as writer:
        ask = "/api/run/run/heatmap?name=gradient/norm&columns=10"
        write(writer, range(100), values)
        asking.get(ask)
        writer.readings("model", 50, [Reading("gradient/norm", 1e6, LAYERS[0])])
        write(writer, range(100, 120), values)
        header, numbers = asking.get(ask).unpacked("<f4")
        assert header["layers"] == list(LAYERS) and header["steps"][-1] == 119
        assert numbers[: len(header["steps"])].max() < 10
        writer.event("", 119, "exit", data={"code": 0})
        writer.flush()
        header, numbers = asking.get(ask).unpacked("<f4")
        assert numbers[: len(header["steps"])].max() > 1e4
