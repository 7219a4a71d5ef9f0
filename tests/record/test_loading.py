from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from vario.nouns import Reading
from vario.record import Record, Run, loading, open_run, packing, record_of
from vario.record.schema import FILE_NAME
from vario.record.store import RecordWriter

RNG = np.random.default_rng(7)
LENGTH = 40_500  # 40 chunks and, while the writer is open, a tail
VALUES = {
    "plain": RNG.standard_normal(LENGTH).astype(np.float32).astype(float),
    "spiky": np.where(np.arange(LENGTH) == 12_345, 1e6, RNG.random(LENGTH)),
    "endless": np.where(np.arange(LENGTH) == 20_000, np.inf, 1.0),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grown") / "run"
    writer = RecordWriter(path)
    for step in range(LENGTH):
        writer.readings("model", step, [Reading("a/b", VALUES[w][step], w) for w in VALUES])
    writer.flush()  # not closed: the tail stays
    return path


def in_memory(where: str) -> Record:
    return record_of({"a/b": (np.arange(LENGTH), VALUES[where])})


@pytest.mark.parametrize("where", VALUES)
@pytest.mark.parametrize("bins", [1, 7, 40, 100])
def test_an_overview_from_chunks_holds_what_the_points_hold(grown: Path, where: str, bins: int) -> None:
    with open_run(grown) as run:
        steps, low, mean, high = run.main.overview("a/b", where, bins=bins)
    values = VALUES[where]
    assert bins / 3 <= len(steps) <= bins and steps[-1] == LENGTH - 1
    assert np.nanmin(low) == values.min() and np.nanmax(high) == values.max()
    starts = np.append(0, steps[:-1].astype(int) + 1)
    for i, (a, b) in enumerate(zip(starts, steps.astype(int) + 1, strict=True)):
        assert low[i] == values[a:b].min() and high[i] == values[a:b].max()
        np.testing.assert_allclose(mean[i], values[a:b].mean(), rtol=1e-12, atol=1e-15)


def test_an_overview_from_chunks_opens_none_but_those_at_the_edges(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = loading.packing.opened
    monkeypatch.setattr(loading.packing, "opened", lambda blob: opened.append(1) or real(blob))
    with open_run(grown) as run:
        run.main.overview("a/b", "plain", bins=60)
        assert not opened
        steps, low, _, high = run.main.overview("a/b", "plain", bins=60, first=1_500, last=38_499)
        assert len(opened) == 2
    inside = VALUES["plain"][1_500:38_500]
    assert low.min() == inside.min() and high.max() == inside.max()
    assert steps[0] >= 1_500 and steps[-1] == 38_499


@pytest.mark.parametrize(
    "window", [(0, 10), (900, 2_100), (39_000, 40_499), (40_400, 10**9), (-5, 3), (7, 6)]
)
def test_a_window_is_the_points_inside_it_at_full_resolution(grown: Path, window: tuple[int, int]) -> None:
    first, last = window
    with open_run(grown) as run:
        steps, low, mean, high = run.main.overview("a/b", "plain", bins=5_000, first=first, last=last)
    expected = np.arange(max(first, 0), min(last, LENGTH - 1) + 1)
    np.testing.assert_array_equal(steps, expected)
    for part in (low, mean, high):
        np.testing.assert_array_equal(part, VALUES["plain"][expected])


def test_memory_and_file_agree_on_windows_and_last_values(grown: Path) -> None:
    kept = in_memory("spiky")
    with open_run(grown) as run:
        for window in ((100, 4_000), (12_000, 13_000)):
            ours = run.main.overview("a/b", "spiky", bins=300, first=window[0], last=window[1])
            theirs = kept.overview("a/b", bins=300, first=window[0], last=window[1])
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)
        assert run.main.last("a/b", "spiky") == kept.last("a/b") == VALUES["spiky"][-1]
        assert np.isnan(run.main.last("a/b", "nowhere"))


def test_a_value_written_again_replaces_the_first_in_the_overview_too(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    for step in [*range(5_000), *range(1_000, 3_000)]:  # a loop that went back to a checkpoint
        writer.readings("model", step, [Reading("a/b", 100.0 if step == 2_000 else 1.0)])
    for step in range(2_000, 2_001):
        writer.readings("model", step, [Reading("a/b", 2.0)])
    writer.close()
    with open_run(tmp_path / "run") as run:
        assert run.main.overview("a/b", bins=3)[3].max() == 2.0
    chunks = sqlite3.connect(tmp_path / "run" / "record.sqlite")
    for first, last, count in chunks.execute("select first, last, count from chunk"):
        assert count <= last - first + 1, "a chunk says which steps it holds, each once"
    chunks.close()


def test_series_read_together_share_their_steps(grown: Path) -> None:
    with open_run(grown) as run:
        first, second = run.main.series("a/b", "plain"), run.main.series("a/b", "spiky")
        assert first[0] is second[0]
        assert not first[0].flags.writeable and not first[1].flags.writeable


def test_what_is_kept_stays_within_its_budget_and_all_is_still_read(grown: Path) -> None:
    size = LENGTH * 8
    with open_run(grown, budget=3 * size) as run:
        for _ in range(2):
            for where in VALUES:
                np.testing.assert_array_equal(run.main.series("a/b", where)[1], VALUES[where])
        kept = run._source._loading
        assert len(kept._loaded) == 1  # with its tail, one takes two sizes
        assert kept._spent == sum(one.size() for one in kept._loaded.values()) <= 3 * size


def test_points_written_while_the_run_is_open_are_seen_and_old_arrays_stay(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    run = None
    for step in range(5_000):
        writer.readings("model", step, [Reading("a/b", float(step)), Reading("a/v", [step, -step])])
        if step % 333 == 0:
            writer.flush()
            run = run or open_run(tmp_path / "run")
            for name in ("a/b", "a/v"):
                seen.append(run.main.series(name))
            assert run.main.last("a/b") == step
            np.testing.assert_array_equal(run.main.overview("a/b", bins=2)[0][-1:], [step])
    assert isinstance(run, Run)
    for steps, values in seen:
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
        column = values if values.ndim == 1 else values[:, 0]
        np.testing.assert_array_equal(column, steps)
    run.close()
    writer.close()


def test_a_still_record_does_not_move_and_a_writer_is_not_held_up(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    writer.readings("model", 0, [Reading("a/b", 1.0)])
    writer.flush()
    with open_run(tmp_path / "run") as run:
        with run.still():
            assert len(run.main.series("a/b")[0]) == 1
            thread = threading.Thread(
                target=lambda: (writer.readings("model", 1, [Reading("a/b", 2.0)]), writer.flush())
            )
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), "the writer waits for a reader"
            assert len(run.main.series("a/b")[0]) == 1
        assert len(run.main.series("a/b")[0]) == 2
    writer.close()


def test_records_without_the_wide_index_are_read_alike(grown: Path, tmp_path: Path) -> None:
    """Records of earlier versions have an index of chunks without their summaries."""
    target = tmp_path / "old" / "record.sqlite"
    target.parent.mkdir()
    source = sqlite3.connect(grown / "record.sqlite")
    copy = sqlite3.connect(target)
    source.backup(copy)
    copy.execute("drop index chunk_of_series")
    copy.execute("create index chunk_of_series on chunk(series, id)")
    copy.commit()
    copy.close()
    source.close()
    with open_run(target.parent) as old, open_run(grown) as new:
        for one, other in zip(
            old.main.overview("a/b", "plain", bins=20),
            new.main.overview("a/b", "plain", bins=20),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


def chunks(path: Path, first: int, count: int) -> np.ndarray:
    """So many chunks of one series, as a writer leaves them; their values, one of them no number."""
    values = np.sin(np.arange(first, first + 1000 * count) / 700) + np.arange(1000 * count) % 7
    values[123] = np.nan
    with closing(sqlite3.connect(path / FILE_NAME)) as connection, connection:
        (series,) = connection.execute("select id from series").fetchone()
        for at in range(0, len(values), 1000):
            part, steps = values[at : at + 1000], np.arange(first + at, first + at + 1000)
            held = (
                series,
                int(steps[0]),
                int(steps[-1]),
                1000,
                *packing.summary(part),
                packing.pack(steps, part),
            )
            connection.execute(
                "insert into chunk(series, first, last, count, low, mean, high, points) "
                "values(?, ?, ?, ?, ?, ?, ?, ?)",
                held,
            )
    return values


def test_where_chunks_are_few_an_overview_is_of_their_parts_and_grows_with_them(tmp_path: Path) -> None:
    with closing(RecordWriter(tmp_path)) as writer:
        writer.readings("model", 0, [Reading("loss/train", 0.5)])
    values = np.append(0.5, chunks(tmp_path, 1, 60))
    with open_run(tmp_path) as run:
        ends, low, mean, high = run.main.overview("loss/train", bins=300)
        assert 150 <= len(ends) <= 301 and ends[-1] == 60_000
        with closing(RecordWriter(tmp_path)) as writer:
            writer.readings("model", 60_001, [Reading("loss/train", 9.5)])
            writer.flush()
            values = np.append(values, 9.5)
            tail = run.main.overview("loss/train", bins=300)
            assert tail[0][-1] == 60_001 and tail[3][-1] == 9.5
        values = np.append(values, chunks(tmp_path, 60_002, 4))
        grown = run.main.overview("loss/train", bins=300)
    with open_run(tmp_path) as fresh:
        for ours, anew in zip(grown, fresh.main.overview("loss/train", bins=300), strict=True):
            np.testing.assert_array_equal(ours, anew)
    ends, low, mean, high = grown
    begins = np.append(0, ends[:-1] + 1).astype(int)
    for begin, end, *told in zip(begins, ends.astype(int), low, mean, high, strict=True):
        part = values[begin : end + 1]
        assert told[0] == np.nanmin(part) and told[2] == np.nanmax(part)
        assert told[1] == pytest.approx(np.nanmean(part), rel=1e-2)


def test_readings_are_counted_without_opening_a_chunk(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(grown) as run:
        monkeypatch.setattr(packing, "opened", None)
        assert run.main.count("a/b", "plain") == LENGTH
        assert run.main.count("a/b", "nowhere") == run.main.count("nothing") == 0
    assert in_memory("plain").count("a/b") == LENGTH


def test_chunks_at_one_stride_become_one_grid_and_no_step_moves() -> None:
    draw = np.random.default_rng(3)
    for _ in range(300):
        grids: list[packing.Grid] = []
        at = 0
        for _ in range(int(draw.integers(1, 8))):
            stride, count = int(draw.integers(1, 4)), int(draw.integers(1, 4))
            at += int(draw.integers(0, 3))  # what comes next may follow at the stride of what was before
            grids.append((at, stride, count) if draw.random() < 0.8 else np.array([at], "<i8").tobytes())
            at += stride * count
        merged = loading._merged(grids)
        before, after = (np.concatenate([packing.stepping(g) for g in some]) for some in (grids, merged))
        assert after.tolist() == before.tolist()
    assert loading._merged([(0, 2, 500), (1000, 2, 500), (2000, 1, 1)]) == [(0, 2, 1001)]
    assert len(loading._merged([(0, 2, 500), (1000, 3, 500)])) == 2
