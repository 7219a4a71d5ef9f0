from __future__ import annotations

import gc
import os
import signal
import sqlite3
import sys
import time
import weakref
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.record.conftest import finish, start, write_run
from vario.nouns import Reading, VarioError
from vario.record import processes
from vario.record.reader import open_run
from vario.record.store import RecordWriter


def test_each_call_sees_what_has_been_flushed(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    seen = []
    for step in range(2_600):
        writer.readings("model", step, [Reading("loss/train", float(step)), Reading("h", [step, 1], "a")])
        if step == 0:
            run = open_run(tmp_path)
            record = run.main
        if step % 130 == 0:
            writer.flush()
            steps, values = record.series("loss/train")
            np.testing.assert_array_equal(values, np.arange(step + 1.0))
            np.testing.assert_array_equal(record.series("h", "a")[1][:, 0], steps)
            seen.append(record.step_count)
    assert seen == list(range(1, 2_600, 130))
    for name in ("netD#10", "netD#²", "netD#2", "netD"):
        writer.readings(name, 0, [Reading("loss/train", 1.0)])
    writer.event("model", 3, "epoch")
    writer.meta("seed", 4)
    writer.flush()
    assert [r.stream for r in run.records()] == ["model", "netD", "netD#2", "netD#10", "netD#²"]
    assert run.events("epoch")[0].step == 3 and run.meta["seed"] == 4 and record.meta["seed"] == 4


def test_a_reader_beside_a_writing_process_never_sees_a_gap(tmp_path: Path) -> None:
    def child() -> None:
        writer = RecordWriter(tmp_path)
        for step in range(12_000):
            writer.readings("model", step, [Reading("x", float(step), str(i)) for i in range(20)])
        writer.close()

    writing = start(child)
    deadline, record, lengths = time.monotonic() + 30, None, [0]
    while lengths[-1] < 12_000:
        assert time.monotonic() < deadline
        try:
            record = record or open_run(tmp_path).main
        except VarioError:  # there is no file, table or step as yet
            continue
        steps, values = record.series("x", "7")
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
        np.testing.assert_array_equal(values, steps)
        assert len(steps) >= lengths[-1]
        lengths.append(len(steps))
    finish(writing)
    assert len(set(lengths)) > 3, "the reader never ran beside the writer"


def test_what_is_kept_costs_nothing_and_cannot_be_changed(tmp_path: Path) -> None:
    write_run(tmp_path)
    record = open_run(tmp_path).main
    first = record.series("loss/train")
    assert record.series("loss/train")[1] is first[1]
    with pytest.raises(ValueError, match="read-only"):
        first[1][0] = 3.0


def test_a_series_of_a_hundred_thousand_steps_is_read_in_few_calls(tmp_path: Path) -> None:
    """Chunk by chunk, never point by point: calls are counted, Python's and C's."""
    draw = np.random.default_rng(0).standard_normal(100_000).tolist()
    writer = RecordWriter(tmp_path)
    for step in range(100_000):
        writer.readings("model", step, [Reading("x", draw[step])])
    writer.close()
    record = open_run(tmp_path).main
    calls: list[str] = []
    sys.setprofile(lambda frame, event, argument: calls.append(event) if "call" in event else None)
    try:
        steps, values = record.series("x")
    finally:
        sys.setprofile(None)
    np.testing.assert_array_equal(steps, np.arange(100_000))
    np.testing.assert_array_equal(values, draw)
    assert len(calls) < 4_000, "more than forty a chunk of a thousand points"


def test_the_main_stream(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)

    def write(stream: str, steps: int, names: str = "x") -> None:
        for step in range(steps):
            writer.readings(stream, step, [Reading(name, 1.0) for name in names])

    def main() -> str:
        writer.flush()
        return open_run(tmp_path).main.stream

    write("model@1", 50)
    assert main() == "model@1"
    write("netD", 10)
    assert main() == "netD"  # rank 0 before the others
    write("netG", 11)
    assert main() == "netG"  # more steps
    write("oldG", 11, "xy")
    assert main() == "oldG"  # more series
    write("oldGs", 11, "xy")
    assert main() == "oldGs"  # the longer name
    write("alpha", 11, "xy")
    assert main() == "alpha"  # the alphabet


def test_a_run_without_steps_says_so(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path)
    writer.meta("command", ["x"])
    writer.close()
    run = open_run(tmp_path)
    assert run.records() == []
    with pytest.raises(VarioError, match="holds no training step"):
        _ = run.main


def test_a_corrupt_chunk_loses_that_chunk_and_is_told(tmp_path: Path) -> None:
    write_run(tmp_path)
    with sqlite3.connect(tmp_path / "record.sqlite") as connection:
        query = (
            "select chunk.id, first, last, points from chunk join series on series.id=series where place='b'"
        )
        id, first, last, points = connection.execute(query + " order by first").fetchall()[1]
        broken = bytearray(points)
        broken[len(broken) // 2] ^= 1
        connection.execute("update chunk set points=? where id=?", (bytes(broken), id))
    run = open_run(tmp_path)
    assert run.damage == ()
    steps, values = run.main.series("gradient/norm", "b")
    np.testing.assert_array_equal(steps, [s for s in range(2_500) if not first <= s <= last])
    np.testing.assert_array_equal(values, -steps)
    run.main.series("gradient/norm", "b")
    (told,) = run.damage
    assert f"steps {first} to {last}" in told and "gradient/norm at 'b'" in told
    assert len(run.main.series("gradient/norm", "a")[0]) == 2_500 and len(run.damage) == 1


def test_a_corrupt_flush_loses_that_flush_and_is_told(tmp_path: Path) -> None:
    write_run(tmp_path, steps=200, close=False)
    with sqlite3.connect(tmp_path / "record.sqlite") as connection:
        connection.execute("update tail set block=substr(block, 1, 40) where id=2")
    run = open_run(tmp_path)
    assert 0 < len(run.main.series("loss/train")[0]) < 200
    assert len(run.damage) == 1 and "'model'" in run.damage[0]


def run_with(path: Path, *, exits: dict[str, dict], processes_: int = 1) -> None:
    def child(stream: str, data: dict | None) -> None:
        writer = RecordWriter(path)
        writer.readings(stream, 0, [Reading("x", 1.0)])
        if data is not None:
            writer.event(stream, 0, "exit", data=data)
        writer.close()

    for stream, data in exits.items():
        finish(start(lambda stream=stream, data=data: child(stream, data)))


@pytest.mark.parametrize(
    ("exits", "status"),
    [
        ({"a": {"code": 0}}, "finished"),
        ({"a": {"code": 1}}, "failed"),
        ({"a": {"code": 0, "error": "ValueError"}}, "failed"),
        ({"a": {"code": 137, "signal": 9}}, "killed"),
        ({"a": {"code": 0}, "b": {"code": 3}}, "failed"),
        ({"a": None}, "killed"),  # it died without a word
        ({"a": {"code": 0}, "b": None}, "killed"),
        ({"a": None, "": {"code": 0}}, "finished"),  # its launcher knows better
        ({"a": None, "": {"code": 143, "signal": "SIGTERM"}}, "killed"),
    ],
)
def test_status_of_a_run_that_is_over(tmp_path: Path, exits: dict, status: str) -> None:
    run_with(tmp_path, exits=exits)
    assert open_run(tmp_path).status == status


def test_status_of_a_run_that_goes_on(tmp_path: Path) -> None:
    def child() -> None:
        RecordWriter(tmp_path).readings("model", 0, [Reading("x", 1.0)])
        os.write(told, b"x")
        time.sleep(60)

    reading, told = os.pipe()
    pid, pipe = start(child)
    os.read(reading, 1)
    run = open_run(tmp_path)
    assert run.status == "running"
    assert abs(run.last_written - time.time()) < 60
    run_with(tmp_path, exits={"other rank": {"code": 0}})
    assert run.status == "running"
    os.kill(pid, signal.SIGKILL)
    while run.status == "running":  # until the kernel has ended it; a zombie counts as dead
        time.sleep(0.01)
    os.waitpid(pid, 0)
    for end in (pipe, reading, told):
        os.close(end)


def test_a_process_number_used_again_is_not_that_process(tmp_path: Path) -> None:
    RecordWriter(tmp_path).readings("model", 0, [Reading("x", 1.0)])
    assert open_run(tmp_path).status == "running"
    with sqlite3.connect(tmp_path / "record.sqlite") as connection:
        connection.execute("update process set started=started || '0'")
    assert open_run(tmp_path).status == "killed"


def test_another_machine_is_believed_for_ten_minutes(tmp_path: Path) -> None:
    RecordWriter(tmp_path).readings("model", 0, [Reading("x", 1.0)])
    with sqlite3.connect(tmp_path / "record.sqlite") as connection:
        connection.execute("update process set host='elsewhere', pid=1")
    assert open_run(tmp_path).status == "running"
    with sqlite3.connect(tmp_path / "record.sqlite") as connection:
        connection.execute("update process set heartbeat=heartbeat - ?", (processes.SILENCE_SECONDS + 1,))
    assert open_run(tmp_path).status == "killed"


def test_a_closed_run_lets_go_of_its_points_at_once(tmp_path: Path) -> None:
    with closing(RecordWriter(tmp_path)) as writer:
        for step in range(2_000):
            writer.readings("model", step, [Reading("loss/train", 1.0)])
    gc.disable()  # points in a circle of references would wait for it, and a dashboard would grow
    try:
        with open_run(tmp_path) as run:
            held = weakref.ref(run.main.series("loss/train")[1])
            assert held() is not None
        assert held() is None
    finally:
        gc.enable()
