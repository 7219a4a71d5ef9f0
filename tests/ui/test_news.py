from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.sample import write_series
from tests.ui.serving import TOKEN, Asking, served
from vario.nouns import Reading
from vario.record.store import RecordWriter
from vario.ui.news import Pulse

STEPS_PER_SECOND = 200
WRITER = """
import json, sys, time
from vario.nouns import Reading
from vario.record.store import RecordWriter

path, steps, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
writer = RecordWriter(path)
writer.meta("command", ["python", "train.py"])
spent, busy, began = [], 0.0, time.perf_counter()
for step in range(steps):
    readings = [Reading("loss/train", 1.0 / (step + 1))]
    readings += [Reading("gradient/norm", step + i / 1000, f"layers.{i}.weight") for i in range(199)]
    at, used = time.perf_counter(), time.thread_time()
    writer.readings("model", step, readings)
    spent.append(time.perf_counter() - at)
    busy += time.thread_time() - used
    time.sleep(max(0.0, began + (step + 1) / rate - time.perf_counter()))
writer.event("", steps - 1, "exit", data={"code": 0})
writer.close()
spent.sort()
print(json.dumps({"mean_us": 1e6 * sum(spent) / steps, "median_us": 1e6 * spent[steps // 2],
                  "worst_ms": 1e3 * spent[-1], "cpu_us": 1e6 * busy / steps,
                  "seconds": time.perf_counter() - began}))
"""
SERVER = """
import socket, sys
from pathlib import Path
import uvicorn
from vario.ui.server import Dashboard

listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
print(port, flush=True)
app = Dashboard(Path(sys.argv[1]), token=sys.argv[2], port=port).app
config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_level="error")
uvicorn.Server(config).run(sockets=[listener])
"""


class Page:
    """What a page does: at every change, it asks for what is new of some series, and for the heat map."""

    def __init__(self, asking: Asking) -> None:
        self.asking, self.next, self.changes = asking, 0, 0
        self.steps: list[np.ndarray] = []
        self.problems: list[str] = []

    def look(self) -> None:
        wheres = "".join(f"&where=layers.{i}.weight" for i in (0, 66, 198))
        query = f"name=gradient/norm{wheres}&from={self.next}&points=20000"
        header, numbers = self.asking.get(f"/api/run/one/series?{query}").unpacked()
        parts, at = [], 0
        for count in header["counts"]:
            parts.append(numbers[at : at + 4 * count].reshape(4, count))
            at += 4 * count
        for part, offset in zip(parts, (0.0, 0.066, 0.198), strict=True):
            if not np.array_equal(part[0], parts[0][0]) or not np.allclose(part[1], part[0] + offset):
                self.problems.append(f"values are wrong after step {self.next}")
        if len(parts[0][0]):
            self.steps.append(parts[0][0])
            self.next = int(parts[0][0][-1]) + 1
        assert self.asking.get("/api/run/one/heatmap?name=gradient/norm").status == 200

    def follow(self, steps: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self.asking.events("one") as events:
            while self.next < steps and time.monotonic() < until:
                events.next("change", seconds=60)
                self.changes += 1
                self.look()


def live(home: Path, *, seconds: int, pages: int = 1, control: bool = False) -> dict[str, Any]:
    """A writer, a server and pages, each as they are in life; what became of it.

    `control`: beside them another writer, elsewhere, that nobody looks at.
    """
    steps = STEPS_PER_SECOND * seconds
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(home), TOKEN], stdout=subprocess.PIPE, text=True
    )
    writer = alone = None
    try:
        assert started.stdout is not None
        asking = Asking(int(started.stdout.readline()), None)  # type: ignore[arg-type]
        command = [sys.executable, "-c", WRITER, str(home / "one"), str(steps), str(STEPS_PER_SECOND)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if control:
            command[3] = str(home.with_name("elsewhere") / "one")
            alone = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while asking.get("/api/run/one").status != 200 or not asking.get("/api/run/one").json()["steps"]:
            time.sleep(0.05)
        shown = [Page(asking) for _ in range(pages)]
        threads = [threading.Thread(target=page.follow, args=(steps, 4 * seconds + 60)) for page in shown]
        for thread in threads:
            thread.start()
        memory = []
        while any(thread.is_alive() for thread in threads):
            memory.append(resident(started.pid))
            time.sleep(0.25)
        said = json.loads(writer.communicate()[0])
        other = json.loads(alone.communicate()[0]) if alone is not None else {}
        return {"pages": shown, "memory_mb": memory, "steps": steps, "control": other, **said}
    finally:
        for process in (writer, alone, started):
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def check(result: dict[str, Any]) -> None:
    for page in result["pages"]:
        assert page.problems == []
        np.testing.assert_array_equal(np.concatenate(page.steps), np.arange(result["steps"]))
        assert page.changes <= 2.2 * result["seconds"] + 10  # at most two a second
    assert max(result["memory_mb"]) < 200


def test_every_step_of_a_run_reaches_the_page_while_it_is_written(tmp_path: Path) -> None:
    check(live(tmp_path, seconds=4))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # ten minutes where the machine has time for it, more where it has not
def test_ten_minutes_at_200_steps_a_second_with_the_page_open(tmp_path: Path) -> None:
    result = live(tmp_path, seconds=600, pages=2, control=True)
    memory = result["memory_mb"]
    tenth = len(memory) // 10
    early, late = np.median(memory[2 * tenth : 3 * tenth]), np.median(memory[-tenth:])
    print({key: value for key, value in result.items() if key not in ("pages", "memory_mb")})
    print(f"server: {early:.0f} MB after two minutes, {late:.0f} MB at the end, {max(memory):.0f} MB at most")
    check(result)
    assert late - early < 30  # what is kept of the points has a bound; the summaries of chunks grow slowly
    budget_us = 0.03 * 1e6 / STEPS_PER_SECOND  # 3 % of a step
    # On a busy machine both writers wait for the processor; what the page adds is the difference.
    assert result["cpu_us"] - result["control"]["cpu_us"] < budget_us
    assert result["mean_us"] - result["control"]["mean_us"] < budget_us
    assert result["median_us"] < budget_us


def test_a_page_hears_at_once_where_a_run_stands(tmp_path: Path) -> None:
    write_series(tmp_path / "one", {("loss/train", ""): (range(7), [1.0] * 7)}).close()
    with served(tmp_path) as asking, asking.events("one") as events:
        told = events.next("change")
        assert told["run"] == "one" and told["steps"] == 7 and told["last_step"] == 6
        while told["findings_version"] < 1:
            told = events.next("change")


def test_nothing_is_said_where_nothing_changes_but_that_the_server_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vario.ui import news

    monkeypatch.setattr(news, "HEARTBEAT", 1.0)
    write_series(tmp_path / "one", {("loss/train", ""): ([0], [1.0])}).close()
    with served(tmp_path) as asking, asking.events("one") as events:
        while events.next("change")["findings_version"] < 1:
            pass
        with pytest.raises(TimeoutError):
            events.next("change", seconds=3)
        assert events.text.count(": still here") >= 2 and "event: change" not in events.text


def test_a_page_hears_of_a_run_at_most_twice_a_second(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "one")
    writer.readings("model", 0, [Reading("loss/train", 1.0)])
    writer.flush()
    done = threading.Event()

    def write() -> None:
        step = 1
        while not done.wait(0.01):
            writer.readings("model", step, [Reading("loss/train", 1.0)])
            writer.flush()
            step += 1

    with served(tmp_path) as asking, asking.events("one") as events:
        thread = threading.Thread(target=write)
        thread.start()
        try:
            began, heard = time.monotonic(), 0
            while time.monotonic() - began < 3:
                events.next("change")
                heard += 1
            spent = time.monotonic() - began
        finally:
            done.set()
            thread.join()
    writer.close()
    assert 2 <= heard <= 2 * spent + 2


def test_a_new_run_is_news_for_the_list(tmp_path: Path) -> None:
    with served(tmp_path) as asking, asking.events() as events:
        time.sleep(1)
        write_series(tmp_path / "one", {("loss/train", ""): ([0], [1.0])}).close()
        events.next("runs")
        assert [row["id"] for row in asking.get("/api/runs").json()["runs"]] == ["one"]


def test_a_pulse_keeps_no_transaction_open(tmp_path: Path) -> None:
    """An open one would make the writer's log grow without end."""
    writer = RecordWriter(tmp_path / "one")
    writer.readings("model", 0, [Reading("loss/train", 1.0)])
    writer.flush()
    pulse = Pulse(tmp_path / "one")
    assert pulse.steps() == 1
    assert pulse._connection is not None and not pulse._connection.in_transaction
    for step in range(1, 4):
        writer.readings("model", step, [Reading("loss/train", 1.0)])
        writer.flush()
        assert pulse.steps() == step + 1
    assert writer._connection is not None
    busy, *_ = writer._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    assert not busy
    pulse.close()
    writer.close()


def test_a_pulse_of_a_missing_or_broken_record_is_nothing(tmp_path: Path) -> None:
    assert Pulse(tmp_path / "none").steps() == 0
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.sqlite").write_bytes(b"nothing" * 1000)
    assert Pulse(tmp_path / "broken").steps() == 0
