from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.record.conftest import finish, start, without_rights, write_run
from vario.nouns import Reading, VarioError
from vario.record import store, tail
from vario.record.reader import open_run
from vario.record.store import RecordWriter


def intact(path: Path) -> bool:
    with sqlite3.connect(path / "record.sqlite") as connection:
        return connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def table(path: Path, query: str) -> list[tuple]:
    with sqlite3.connect(path / "record.sqlite") as connection:
        return connection.execute(query).fetchall()


def test_a_chunk_of_single_precision_fills_a_page(tmp_path: Path) -> None:
    writer, draw = (
        RecordWriter(tmp_path),
        np.random.default_rng(0).random((3 * tail.CHUNK_POINTS, 100), np.float32),
    )
    for step, row in enumerate(draw.tolist()):
        writer.readings("model", step, [Reading("x", value, str(i)) for i, value in enumerate(row)])
    writer.close()
    ((pages,),) = table(tmp_path, "pragma page_count")
    assert 300 < pages < 300 * 1.4, "300 chunks, and the pages that the tail left"


def test_points_pass_from_tail_to_chunks(tmp_path: Path) -> None:
    write_run(tmp_path, steps=2_499, close=False)
    counts = table(tmp_path, "select count from chunk")
    assert len(counts) == 6 and all(0 <= count - tail.CHUNK_POINTS < store.FLUSH_STEPS for (count,) in counts)
    low, mean, high = table(tmp_path, "select low, mean, high from chunk where series=2 and first=0")[0]
    last = table(tmp_path, "select last from chunk where series=2 and first=0")[0][0]
    assert (low, mean, high) == (0, last / 2, last)
    record = open_run(tmp_path).main
    np.testing.assert_array_equal(record.series("gradient/norm", "b")[1], -np.arange(2_499.0))
    np.testing.assert_array_equal(record.series("loss/train")[0], np.arange(2_499))


def test_close_leaves_one_plain_file_of_chunks(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert os.listdir(tmp_path) == ["record.sqlite"]
    assert table(tmp_path, "select count(*) from tail") == [(0,)]
    assert table(tmp_path, "pragma journal_mode") == [
        ("delete",)
    ]  # it can be read where nothing can be written
    assert open_run(tmp_path).main.step_count == 2_500


def test_series_of_different_cadence_and_width(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    for step in range(2_200):
        batch = [Reading("loss/train", float(step))]
        if step % 7 == 0:
            batch += [Reading("activation/mean", step / 7, "fc"), Reading("h", [step, np.nan, np.inf], "fc")]
        if step % 11 == 0:  # the same series in another company
            batch = [Reading("h", np.array([step, 1, 2]), "other"), *batch]
        writer.readings("model", step, batch)
    for closed in (False, True):
        writer.flush()
        if closed:
            writer.close()
        record = open_run(tmp_path).main
        np.testing.assert_array_equal(record.series("loss/train")[1], np.arange(2_200.0))
        steps, values = record.series("h", "fc")
        np.testing.assert_array_equal(steps, np.arange(0, 2_200, 7))
        np.testing.assert_array_equal(values, [[step, np.nan, np.inf] for step in steps])
        np.testing.assert_array_equal(record.series("h", "other")[1][:, 0], np.arange(0, 2_200, 11))
        np.testing.assert_array_equal(record.series("activation/mean", "fc")[1], np.arange(315.0))


def test_a_series_that_changes_its_width_costs_nobody_else_a_step(tmp_path: Path) -> None:
    """Two tasks in turn, of two and of ten classes: the counts of one are lost, its losses are not."""
    writer = RecordWriter(tmp_path)
    for step in range(60):
        batch = [Reading("counts", np.ones(10 if step % 2 else 2)), Reading("loss/train", float(step))]
        if step % 2:
            with pytest.raises(
                VarioError, match="counts at '' of stream 'model' had 2 values per step, now 10"
            ):
                writer.readings("model", step, batch)
        else:
            writer.readings("model", step, batch)
    writer.close()
    record = open_run(tmp_path).main
    np.testing.assert_array_equal(record.series("loss/train")[0], np.arange(60))
    np.testing.assert_array_equal(record.series("counts")[0], np.arange(0, 60, 2))


def test_flushes_every_fifty_steps_or_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])
    writer = RecordWriter(tmp_path)
    writer.readings("model", 0, [Reading("loss/train", 1.0)])  # the first one shows at once
    record = open_run(tmp_path).main

    def seen() -> int:
        return len(record.series("loss/train")[0])

    assert seen() == 1
    for step in range(1, 50):
        writer.readings("model", step, [Reading("loss/train", 1.0)])
        writer.readings("model", step, [Reading("other", 1.0)])  # a second call within the step is no step
    assert seen() == 1
    writer.readings("model", 50, [Reading("loss/train", 1.0)])
    assert seen() == 51
    writer.readings("model", 51, [Reading("loss/train", 1.0)])
    assert seen() == 51
    now[0] += 1.0
    writer.readings("model", 52, [Reading("loss/train", 1.0)])
    assert seen() == 53


def test_a_sign_of_life_is_given_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1e9]
    monkeypatch.setattr(store.time, "time", lambda: now[0])
    writer = RecordWriter(tmp_path)
    seen = []
    for later in (0.0, 0.4, 0.4, 0.4, -7.0):  # the clock may be set back
        now[0] += later
        writer.readings("model", len(seen), [Reading("loss/train", 1.0)])
        writer.flush()
        seen.append(open_run(tmp_path).last_written - 1e9)
    writer.close()
    assert seen == pytest.approx([0.0, 0.0, 0.0, 1.2, -5.8])


def test_a_wide_tail_becomes_chunks_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "TAIL_BYTES", 100_000)
    writer = RecordWriter(tmp_path)
    for step in range(200):
        writer.readings("model", step, [Reading("h", np.arange(200.0) * step)])
    writer.flush()
    assert table(tmp_path, "select sum(count) from chunk")[0][0] >= 100
    np.testing.assert_array_equal(open_run(tmp_path).main.series("h")[1][-1], np.arange(200.0) * 199)


def test_events_and_meta_as_they_were_given(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.event(
        "model",
        3,
        "epoch",
        "loader 0",
        {"n": np.int64(4), "x": float("nan"), "p": Path("a"), "a": np.ones(2)},
    )
    writer.event("", -1, "notice")
    writer.meta("command", ["python", "a.py"])
    writer.meta("seed", 3)
    writer.flush()
    writer.meta("command", ["python", "b.py"])
    writer.flush()
    run = open_run(tmp_path)
    first, second = run.events()
    assert (first.kind, first.step, first.where, first.stream) == ("epoch", 3, "loader 0", "model")
    assert first.data["n"] == 4 and first.data["x"] != first.data["x"] and first.data["a"] == [1, 1]
    assert abs(first.time - time.time()) < 60
    assert (second.kind, second.step, second.stream, second.data) == ("notice", -1, "", {})
    assert run.meta["command"] == ["python", "b.py"]
    assert run.records()[0].step_count == 4  # an event at step 3 proves four steps


def test_arrays_are_written_whole_beside_the_record(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    wanted = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array([1, 2], np.int16)}
    path = writer.array("spectrum/layers", "model", 12, wanted)
    writer.close()
    assert os.listdir(tmp_path / "arrays") == [path.name]
    (stored,) = open_run(tmp_path).arrays("spectrum/layers")
    assert (stored.stream, stored.step) == ("model", 12)
    for name, value in stored.load().items():
        np.testing.assert_array_equal(value, wanted[name])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(VarioError, match=path.name):
        stored.load()


def test_what_is_no_reading_is_refused_by_name(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    with pytest.raises(VarioError, match="'loss'"):
        writer.readings("model", 0, [Reading("loss/train", "loss")])  # type: ignore[arg-type]
    with pytest.raises(VarioError, match="shape"):
        writer.readings("model", 0, [Reading("h", np.ones((2, 2)))])  # type: ignore[arg-type]
    writer.readings("model", 0, [Reading("h", [1.0, 2.0])])
    with pytest.raises(VarioError, match="h at .* had 2 values per step, now 3"):
        writer.readings("model", 1, [Reading("h", [1.0, 2.0, 3.0])])
    with pytest.raises(VarioError, match="had 2"):
        writer.readings("model", 1, [Reading("h", 1.0)])
    writer.readings("model", 2, [Reading("h", [5.0, 6.0])])
    writer.close()
    np.testing.assert_array_equal(open_run(tmp_path).main.series("h")[1], [[1, 2], [5, 6]])
    with pytest.raises(VarioError, match="1 values per step here and 2 in the record"):
        RecordWriter(tmp_path).readings("model", 3, [Reading("h", 1.0)])


def test_nothing_is_written_before_the_first_reading(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    writer.flush()
    writer.close()
    assert not (tmp_path / "run").exists()


def test_a_second_writer_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    write_run(tmp_path, steps=30)
    second = RecordWriter(tmp_path)
    second.readings("model", 29, [Reading("loss/train", 7.0)])  # written again: the last one stands
    second.readings("model", 30, [Reading("loss/train", 8.0)])
    second.close()
    steps, values = open_run(tmp_path).main.series("loss/train")
    np.testing.assert_array_equal(steps, np.arange(31))
    assert values[-3:].tolist() == [1 / 29, 7.0, 8.0]


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    def rank(number: int) -> int:
        writer = RecordWriter(tmp_path)
        for step in range(1_500):
            writer.readings("model" if not number else f"model@{number}", step, [Reading("x", number * step)])
            writer.readings("shared", number + 4 * step, [Reading("x", number)])
        writer.close()
        return number

    assert [finish(child) for child in [start(lambda n=n: rank(n)) for n in range(4)]] == [0, 1, 2, 3]
    assert intact(tmp_path)
    run = open_run(tmp_path)
    for number, record in enumerate(run.records()[:4]):
        np.testing.assert_array_equal(record.series("x")[1], number * np.arange(1_500.0))
    np.testing.assert_array_equal(run.records()[4].series("x")[1], np.tile(np.arange(4.0), 1_500))


def test_a_forked_child_writes_its_own_and_leaves_the_parents(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.event("model", 0, "before")
    writer.event("model", 1, "pending")  # still in memory when the child is made

    def child() -> None:
        writer.readings("child", 0, [Reading("x", 1.0)])
        writer.event("child", 0, "child")
        writer.close()

    finish(start(child))
    writer.readings("model", 2, [Reading("x", 2.0)])
    writer.close()
    run = open_run(tmp_path)
    assert sorted(event.kind for event in run.events()) == ["before", "child", "pending"]
    assert len(table(tmp_path, "select * from process")) == 2
    assert [record.last("x") for record in run.records()] == [1.0, 2.0]


def test_twenty_kills_in_mid_write_lose_nothing_that_was_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHUNK_POINTS", 100)  # many kills fall on the making of chunks
    draw = random.Random(0)
    promised = {}
    for kill in range(20):
        stream = f"kill {kill}"

        reading, promise = os.pipe()

        def child(stream: str = stream, promise: int = promise) -> None:
            writer = RecordWriter(tmp_path)
            for step in range(10**9):
                writer.readings(stream, step, [Reading("x", float(step), str(i)) for i in range(40)])
                if step % 7 == 6:
                    writer.flush()
                    os.write(promise, step.to_bytes(8, "little"))

        pid, pipe = start(child)
        os.close(pipe)
        os.close(promise)
        first = os.read(reading, 8)
        time.sleep(draw.uniform(0.0, 0.15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reading, "rb") as rest:
            promised[stream] = int.from_bytes((first + rest.read())[-8:], "little")
        assert intact(tmp_path)
    run = open_run(tmp_path)
    assert max(promised.values()) > 100, "no kill came after a chunk was made"
    for record in run.records():
        for where in ("0", "39"):
            steps, values = record.series("x", where)
            assert len(steps) > promised[record.stream]
            np.testing.assert_array_equal(steps, np.arange(len(steps)))
            np.testing.assert_array_equal(values, steps)
    assert not run.damage and run.status == "killed"


def test_a_full_disk_is_told_and_what_was_flushed_stays(tmp_path: Path) -> None:
    def child() -> tuple[str, int]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        writer, draw, told, step = RecordWriter(tmp_path), np.random.default_rng(0), "", 0
        while not told:
            try:
                for _ in range(50):
                    row = draw.random(40).tolist()
                    writer.readings("model", step, [Reading("x", row[i], str(i)) for i in range(40)])
                    step += 1
            except VarioError as error:
                told = str(error)
                step += 1  # the reading itself was taken: only the flush failed
        failed = open_run(tmp_path).main.series("x", "3")[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.close()  # there is room again: nothing is missing
        return told, step - 1, len(failed)

    told, last, before = finish(start(child))
    assert str(tmp_path) in told and "free some space" in told
    assert intact(tmp_path)
    steps, _ = open_run(tmp_path).main.series("x", "3")
    np.testing.assert_array_equal(steps, np.arange(last + 1))
    assert 50 <= before <= last


def test_a_flush_that_failed_half_way_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise sqlite3.OperationalError("database or disk is full")

    writer = RecordWriter(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(store.packing, "pack_block", refuse)  # after the series have got their numbers
        with pytest.raises(VarioError, match="disk is full"):
            writer.readings("model", 0, [Reading("x", 1.0), Reading("y", 2.0)])
    other = RecordWriter(tmp_path)
    other.readings("other", 0, [Reading("z", 3.0)])
    writer.readings("model", 1, [Reading("x", 4.0), Reading("y", 5.0)])
    writer.close()
    other.close()
    model, beside = open_run(tmp_path).records()
    assert model.series("x")[1].tolist() == [1, 4] and model.series("y")[1].tolist() == [2, 5]
    assert beside.series("z")[1].tolist() == [3]


def test_memory_stays_bounded_while_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "UNWRITTEN_BYTES", 80 * 100)
    (tmp_path / "record.sqlite").write_bytes(b"in the way" * 100)
    writer = RecordWriter(tmp_path)
    failures = 0
    for step in range(1_000):
        try:
            writer.readings("model", step, [Reading("h", np.ones(10))])
        except VarioError:
            failures += 1
        assert writer._unwritten <= 80 * 152
    assert failures >= 1_000 // store.FLUSH_STEPS


def test_a_folder_that_cannot_be_written_is_named(public_folder: Path) -> None:
    def child() -> str:
        with pytest.raises(VarioError) as caught:
            RecordWriter(public_folder / "run").readings("model", 0, [Reading("x", 1.0)])
        return str(caught.value)

    public_folder.chmod(0o555)
    told = without_rights(child)
    assert str(public_folder / "run") in told and "VARIO_HOME" in told


def test_another_programs_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table theirs(x)")
    before = path.read_bytes()
    with pytest.raises(VarioError, match="another program"):
        RecordWriter(tmp_path).readings("model", 0, [Reading("x", 1.0)])
    assert path.read_bytes() == before
    path.write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with pytest.raises(VarioError, match="not a database"):
        RecordWriter(tmp_path).readings("model", 0, [Reading("x", 1.0)])
    assert os.listdir(tmp_path) == ["record.sqlite"]


def test_works_without_write_ahead_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vario.record.schema.file_system", lambda path: "nfs4")
    writer = write_run(tmp_path, steps=120, close=False)
    assert table(tmp_path, "pragma journal_mode") == [("delete",)]  # truncate, seen by another connection
    assert sorted(os.listdir(tmp_path)) == ["record.sqlite", "record.sqlite-journal"]
    record = open_run(tmp_path).main
    assert len(record.series("loss/train")[0]) == 120
    writer.readings("model", 120, [Reading("loss/train", 1.0)])
    writer.close()
    assert len(record.series("loss/train")[0]) == 121


def test_writing_needs_neither_torch_nor_the_users_random_state(tmp_path: Path) -> None:
    program = (
        "import random, sys, numpy\n"
        "before = random.getstate(), numpy.random.get_state()[1].tolist()\n"
        "from pathlib import Path\n"
        "from tests.record.conftest import write_run\n"
        "from vario.record import runs, reader, export\n"
        "path = runs.create_run(Path(sys.argv[1]), command=['x'])\n"
        "write_run(path)\n"
        "run = reader.open_run(runs.find_run('last', Path(sys.argv[1])))\n"
        "[export.export(run, kind, Path(sys.argv[1]) / kind) for kind in ('csv', 'parquet', 'tensorboard')]\n"
        "assert before == (random.getstate(), numpy.random.get_state()[1].tolist())\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "False", done.stderr


def test_a_series_that_is_read_more_often_has_a_tail_of_its_own(tmp_path: Path) -> None:
    """The others must not become small chunks because of it; what is not flushed yet is in neither."""
    writer = RecordWriter(tmp_path)
    for step in range(0, 3_000, 10):
        steps = list(range(step, step + 10))
        writer.points("model", "loss/train", steps, [s / 7 for s in steps])
        writer.readings("model", step, [Reading("gradient/norm", float(step), str(i)) for i in range(5)])
    writer.flush()
    counts = table(tmp_path, "select count from chunk where series=1")
    assert len(counts) == 3 and all(tail.CHUNK_POINTS <= count < 1_100 for (count,) in counts)
    assert table(tmp_path, "select count(*) from chunk where series>1") == [(0,)]
    with open_run(tmp_path) as run:
        steps, values = run.main.series("loss/train")
        np.testing.assert_array_equal(steps, np.arange(3_000))
        np.testing.assert_array_equal(values, np.arange(3_000) / 7)
        assert len(run.main.series("gradient/norm", "3")[0]) == 300
        low, high = run.main.overview("loss/train", bins=2)[1:4:2]
        assert low[0] == 0 and high[-1] == 2_999 / 7
    writer.close()
    with open_run(tmp_path) as run:
        np.testing.assert_array_equal(run.main.series("loss/train")[1], np.arange(3_000) / 7)
    assert table(tmp_path, "select count(*) from chunk where series=3") == [(1,)]


def test_points_of_a_series_of_vectors_are_refused(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.readings("model", 0, [Reading("loss/train", (1.0, 2.0))])
    with pytest.raises(VarioError, match="had 2 values per step, now 1"):
        writer.points("model", "loss/train", [1], [0.5])
    writer.close()
