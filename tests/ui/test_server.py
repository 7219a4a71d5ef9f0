from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from tests.report.sample import LAYERS, empty_run, healthy_run, sick_run, write_series
from tests.ui.serving import Asking, served
from vario.nouns import Reading
from vario.record import open_run
from vario.record.store import RecordWriter

SICK, WELL, EMPTY, BROKEN, BLANK = (
    f"2026010{day}-120000-{name}"
    for day, name in enumerate(("heron", "kite", "rook", "wren", "dove"), start=1)
)
HOSTILE = "<script>alert(1)</script>\u202egnp.exe"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    sick_run(home / SICK).close()
    healthy_run(home / WELL).close()
    empty_run(home / EMPTY).close()
    (home / BROKEN).mkdir()
    (home / BROKEN / "record.sqlite").write_bytes(b"no record at all" * 500)
    (home / BLANK).mkdir()
    (home / BLANK / "record.sqlite").touch()
    (home / "notes").mkdir()
    return home


@pytest.fixture(scope="module")
def asking(home: Path) -> Iterator[Asking]:
    with served(home) as asking:
        yield asking


def test_the_list_says_of_every_run_how_it_is(asking: Asking, home: Path) -> None:
    told = asking.get("/api/runs").json()
    assert told["home"] == str(home)
    rows = {row["id"]: row for row in told["runs"]}
    assert [row["id"] for row in told["runs"]] == [BLANK, BROKEN, EMPTY, WELL, SICK]  # newest first
    assert rows[SICK]["status"] == "finished" and rows[SICK]["steps"] == 400
    assert rows[SICK]["command"] == "python digits.py --lr 3.0 --batch 64"
    assert 1 <= len(rows[SICK]["spark"]) <= 40
    with open_run(home / SICK) as run:
        assert rows[SICK]["loss_last"] == run.main.last("loss/train")
    assert rows[EMPTY]["status"] == "failed" and rows[EMPTY]["steps"] == 0
    for name in (BROKEN, BLANK):
        assert rows[name]["status"] == "corrupt" and name in rows[name]["error"]


def test_findings_come_to_the_list_by_themselves(asking: Asking) -> None:
    with asking.events() as events:
        for _ in range(20):
            rows = {row["id"]: row for row in asking.get("/api/runs").json()["runs"]}
            if rows[SICK]["findings"] and rows[WELL]["findings"]:
                break
            events.next("runs")
    full = asking.get(f"/api/run/{SICK}/findings").json()["findings"]
    assert sum(rows[SICK]["findings"].values()) == len(full) > 0
    assert rows[SICK]["top"] == [row["id"] for row in full if not row["explained_by"]][:3]
    assert rows[BROKEN]["findings"] is None


def test_a_run_tells_its_streams_charts_and_facts(asking: Asking) -> None:
    told = asking.get(f"/api/run/{SICK}").json()
    assert told["main"] == "model" and told["status"] == "finished" and told["damage"] == []
    (stream,) = told["streams"]
    series = {row["name"]: row for row in stream["series"]}
    assert set(LAYERS) <= set(series["gradient/norm"]["wheres"])
    assert series["gradient/norm"]["width"] == 0
    assert series["gradient/log_histogram"]["width"] == 64
    assert told["charts"][0]["title"] == "Loss"
    assert told["charts"][0]["lines"][0]["name"] == "loss/train"
    assert dict(told["facts"]["environment"])["versions: torch"] == "2.13.0"
    (table,) = told["facts"]["examples"]
    head, rows = table["head"], table["rows"]
    assert (
        head[0] == "worst example"
        and table["sketches"] == [None, None]
        and [row[0] for row in rows] == ["4711", "12"]
    )
    kinds = {event["kind"] for event in told["events"]}
    assert "exit" in kinds


def test_the_findings_are_those_of_the_command_line(asking: Asking, home: Path) -> None:
    code = "from vario.cli import main; main()"
    command = [sys.executable, "-c", code, "findings", str(home / SICK), "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = json.loads(said.stdout)
    told = asking.get(f"/api/run/{SICK}/findings").json()
    assert told["checked"] == expected["checked"] and told["not_applicable"] == expected["not_applicable"]
    assert len(told["findings"]) == len(expected["findings"]) > 0
    for ours, theirs in zip(told["findings"], expected["findings"], strict=True):
        for key, value in theirs.items():
            if key != "prescriptions":
                assert ours[key] == value
        assert [cure["change"] for cure in ours["prescriptions"]] == [
            cure["change"] for cure in theirs["prescriptions"]
        ]
        assert ours["claim"] and ours["title"]
    charted = [row for row in told["findings"] if row["charts"]]
    assert charted
    line = charted[0]["charts"][0]["lines"][0]
    assert asking.get(f"/api/run/{SICK}/series?name={line['name']}&where={line['where']}").status == 200


def test_a_series_comes_in_full_where_it_fits_and_in_stretches_where_not(asking: Asking, home: Path) -> None:
    with open_run(home / SICK) as run:
        steps, values = run.main.series("gradient/norm", "conv1.weight")
    query = f"/api/run/{SICK}/series?name=gradient/norm&where=conv1.weight&where=nowhere"
    header, numbers = asking.get(f"{query}&points=1000").unpacked()
    assert header["counts"] == [len(steps), 0]
    assert [line[2] for line in header["lines"]] == ["conv1.weight", "nowhere"]
    assert header["steps"] == 400 and header["columns"] == ["step", "mean", "low", "high"]
    at, mean, low, high = numbers.reshape(4, -1)
    np.testing.assert_array_equal(at, steps)
    for part in (mean, low, high):
        np.testing.assert_array_equal(part, values)
    header, numbers = asking.get(f"{query}&points=50").unpacked()
    at, mean, low, high = numbers.reshape(4, 50)
    assert low.min() == values.min() and high.max() == values.max()
    assert (low <= mean).all() and (mean <= high).all()
    header, numbers = asking.get(f"{query}&points=50&from=100&to=119").unpacked()
    np.testing.assert_array_equal(numbers.reshape(4, -1)[0], steps[(steps >= 100) & (steps < 120)])


def test_a_column_of_a_vector_series(asking: Asking, home: Path) -> None:
    with open_run(home / SICK) as run:
        name = next(name for name in run.main.names() if run.main.width(name) and "" in run.main.wheres(name))
        steps, values = run.main.series(name)
    header, numbers = asking.get(f"/api/run/{SICK}/series?name={name}&column=3&points=5000").unpacked()
    assert header["counts"] == [len(steps)] and header["lines"] == [["model", name, "", 3]]
    np.testing.assert_array_equal(numbers.reshape(4, -1)[1], values[:, 3])


def test_lines_of_several_series_come_in_one_answer(asking: Asking, home: Path) -> None:
    wanted = [["model", "loss/train", "", 0], ["model", "gradient/norm", "conv1.weight", 0]]
    query = "&".join(f"line={quote(json.dumps(line))}" for line in wanted)
    header, numbers = asking.get(f"/api/run/{SICK}/series?{query}&points=1000").unpacked()
    assert header["lines"] == wanted
    with open_run(home / SICK) as run:
        for (_, name, where, _), count in zip(wanted, header["counts"], strict=True):
            steps, values = run.main.series(name, where)
            at, mean, *_ = numbers[: 4 * count].reshape(4, count)
            np.testing.assert_array_equal(at, steps)
            np.testing.assert_array_equal(mean, values)
            numbers = numbers[4 * count :]
    assert not len(numbers)


def test_the_first_charts_can_be_had_before_anybody_knows_what_they_are(asking: Asking) -> None:
    told = asking.get(f"/api/run/{SICK}").json()
    first = [chart for chart in told["charts"] if chart["section"] == "loss"][:2]
    wanted = [
        [line[key] for key in ("stream", "name", "where")] for chart in first for line in chart["lines"]
    ]
    header, _ = asking.get(f"/api/run/{SICK}/series?first=2").unpacked()
    assert [line[:3] for line in header["lines"]] == wanted and min(header["counts"]) > 0


def test_a_heat_map_has_a_row_per_layer_in_the_order_of_the_model(asking: Asking, home: Path) -> None:
    header, numbers = asking.get(f"/api/run/{SICK}/heatmap?name=gradient/norm&columns=40").unpacked("<f4")
    assert header["layers"] == list(LAYERS) and len(header["steps"]) == 40 and header["steps"][-1] == 399
    rows = numbers.reshape(len(LAYERS), 40)
    with open_run(home / SICK) as run:
        steps, values = run.main.series("gradient/norm", LAYERS[2])
    for column in range(40):
        inside = (steps >= 10 * column) & (steps < 10 * column + 10)
        np.testing.assert_allclose(rows[2, column], values[inside].mean(), rtol=1e-5)
    header, numbers = asking.get(
        f"/api/run/{SICK}/heatmap?name=gradient/norm&columns=40&from=0&to=9"
    ).unpacked("<f4")
    row = numbers.reshape(len(LAYERS), 10)[2]
    np.testing.assert_allclose(row[steps[steps < 10]], values[steps < 10], rtol=1e-6)
    assert np.isnan(row).sum() == 10 - (steps < 10).sum()


def test_a_heat_map_leaves_empty_what_was_not_read(tmp_path: Path) -> None:
    run = tmp_path / "one"
    write_series(run, {("gradient/norm", "a"): ([0, 50, 99], [1.0, 2.0, 3.0])}).close()
    with served(tmp_path) as asking:
        header, numbers = asking.get("/api/run/one/heatmap?name=gradient/norm&columns=10").unpacked("<f4")
    assert header["layers"] == ["a"]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(numbers)), [0, 5, 9])


def test_a_distribution_is_that_of_the_report(asking: Asking) -> None:
    header, numbers = asking.get(f"/api/run/{SICK}/distribution?columns=20").unpacked("<f4")
    columns, bins = len(header["steps"]), header["bins"]
    assert columns and len(numbers) == columns * (len(header["shares"]) + bins)
    quantiles = numbers[: columns * len(header["shares"])].reshape(len(header["shares"]), columns)
    assert (np.diff(quantiles, axis=0) >= 0).all()
    density = numbers[columns * len(header["shares"]) :].reshape(columns, bins)
    assert density.max() == 255 and (density.max(axis=1) > 0).all()
    assert asking.get(f"/api/run/{SICK}/distribution?where=nowhere").unpacked()[0]["steps"] == []


def test_an_export_is_the_readings_as_a_table(asking: Asking, home: Path) -> None:
    answer = asking.get(f"/api/run/{SICK}/export?name=loss/train")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{SICK}-loss_train.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    with open_run(home / SICK) as run:
        steps, values = run.main.series("loss/train")
    assert [int(row["step"]) for row in rows] == steps.tolist()
    assert [float(row["value"]) for row in rows] == values.tolist()


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/run/nobody", 404, "nobody"),
        (f"/api/run/{BROKEN}", 409, "not a database"),
        (f"/api/run/{BROKEN}/series?name=loss/train", 409, "not a database"),
        (f"/api/run/{BLANK}", 409, "empty"),
        (f"/api/run/{EMPTY}/series?name=loss/train", 409, "no training step"),
        (f"/api/run/{SICK}/series", 400, "name="),
        (f"/api/run/{SICK}/series?name=loss/train&points=many", 400, "points=many"),
        (f"/api/run/{SICK}/series?name=loss/train&points=-1", 400, "out of range"),
        (f"/api/run/{SICK}/series?name=loss/train&from=1e999", 400, "from=1e999"),
        (f"/api/run/{SICK}/series?name=loss/train&stream=none", 404, "stream"),
        (f"/api/run/{SICK}/series?line=loss", 400, "line=loss"),
        (f"/api/run/{SICK}/series?line=[1,2,3,4]", 400, "line=[1"),
        (f"/api/run/{SICK}/series?line=" + quote('["none", "loss/train", "", 0]'), 404, "stream"),
        (f"/api/run/{SICK}/series?first=many", 400, "first=many"),
        (f"/api/run/{SICK}/export?name=loss/train&format=exe", 400, "csv"),
        (f"/api/run/{SICK}/heatmap?name=a&columns=1000000", 400, "columns"),
        ("/api/events?run=nobody", 404, "nobody"),
        ("/api/nothing", 404, "nothing"),
    ],
)
def test_what_cannot_be_answered_says_why(asking: Asking, path: str, status: int, said: str) -> None:
    answer = asking.get(path)
    assert answer.status == status and said in answer.json()["error"]


def test_a_series_that_is_not_there_is_empty_and_no_error(asking: Asking) -> None:
    header, numbers = asking.get(f"/api/run/{SICK}/series?name=no/thing&where=a").unpacked()
    assert header["counts"] == [0] and not len(numbers)
    header, numbers = asking.get(f"/api/run/{SICK}/heatmap?name=no/thing").unpacked("<f4")
    assert header["layers"] == [] and not len(numbers)


def test_an_empty_home_and_one_that_is_missing(tmp_path: Path) -> None:
    for home in (tmp_path, tmp_path / "missing"):
        with served(home) as asking:
            assert asking.get("/api/runs").json()["runs"] == []


def test_a_bug_is_told_and_the_server_lives(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(asking.dashboard.answers.shelf, "rows", broken)
    answer = asking.get("/api/runs")
    assert answer.status == 500 and "ZeroDivisionError" in answer.json()["error"]
    monkeypatch.undo()
    assert asking.get("/api/runs").status == 200


def test_hostile_names_travel_as_plain_text(tmp_path: Path) -> None:
    long = "layer." * 90
    folder = tmp_path / "<b>run"
    series = {("gradient/norm", HOSTILE): ([0, 1], [1.0, 2.0]), ("gradient/norm", long): ([0, 1], [1.0, 2.0])}
    write_series(folder, series).close()
    with served(tmp_path) as asking:
        told = asking.get("/api/run/%3Cb%3Erun").json()
        assert told["id"] == "<b>run" and HOSTILE in told["streams"][0]["series"][0]["wheres"]
        header, _ = asking.get("/api/run/%3Cb%3Erun/heatmap?name=gradient/norm").unpacked("<f4")
        assert header["layers"] == [HOSTILE, long]
        answer = asking.get("/api/run/%3Cb%3Erun/export?name=gradient/norm")
        assert "<" not in answer.headers["content-disposition"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith("text/csv")


def test_a_record_that_is_deleted_while_it_is_open_is_gone_and_a_new_one_is_seen(tmp_path: Path) -> None:
    healthy_run(tmp_path / "one", steps=60).close()
    with served(tmp_path) as asking, asking.events("one") as events:
        assert asking.get("/api/run/one").json()["steps"] == 60
        assert events.next("change")["status"] == "finished"
        shutil.rmtree(tmp_path / "one")
        assert asking.get("/api/run/one").status == 404
        assert asking.get("/api/run/one/findings").status == 404
        while events.next("change")["status"] != "gone":
            pass
        assert asking.get("/api/runs").json()["runs"] == []
        sick_run(tmp_path / "one", steps=30).close()
        while events.next("change")["steps"] != 30:
            pass
        assert asking.get("/api/run/one").json()["steps"] == 30


def test_a_record_that_is_damaged_while_it_is_open_is_told_and_never_a_500(tmp_path: Path) -> None:
    healthy_run(tmp_path / "one", steps=3_000, layers=LAYERS).close()
    file = tmp_path / "one" / "record.sqlite"
    size = file.stat().st_size
    with served(tmp_path) as asking:
        assert asking.get("/api/run/one").status == 200
        with file.open("r+b") as broken:
            broken.seek(20_000)
            broken.write(os.urandom(size - 40_000))
        for path in (
            "",
            "/findings",
            "/series?name=gradient/norm&where=fc1.weight",
            "/heatmap?name=update/ratio",
        ):
            answer = asking.get(f"/api/run/one{path}")
            assert answer.status in (200, 409), answer.body[:300]
        with file.open("r+b") as broken:
            broken.truncate(size // 3)
        for path in ("", "/series?name=weight/norm&where=fc1.weight", "/heatmap?name=weight/norm"):
            answer = asking.get(f"/api/run/one{path}")
            assert answer.status in (200, 409), answer.body[:300]
        assert asking.get("/api/runs").status == 200


WRITES = """
import sys, time
from vario.nouns import Reading
from vario.record.store import RecordWriter
writer = RecordWriter(sys.argv[1])
writer.meta("command", ["python", "train.py"])
for step in range(100_000):
    writer.readings("model", step, [Reading("loss/train", 1.0 / (step + 1))])
    writer.flush()
    print(step, flush=True)
    time.sleep(0.02)
"""


def test_a_run_in_flight_is_seen_to_run_and_a_killed_one_to_be_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(tmp_path / "one")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "0\n"
        with served(tmp_path) as asking, asking.events("one") as events:
            first = events.next("change")
            assert first["status"] == "running" and asking.get("/api/run/one").json()["status"] == "running"
            later = events.next("change")
            assert later["last_step"] > first["last_step"]
            process.send_signal(signal.SIGKILL)
            process.wait()
            while events.next("change")["status"] != "killed":
                pass
            assert asking.get("/api/run/one").json()["status"] == "killed"
            assert asking.get("/api/runs").json()["runs"][0]["status"] == "killed"
            while "killed" not in asking.get("/api/run/one/findings").json()["headline"]:
                events.next("change")  # the findings were made anew, since the run ended
    finally:
        process.kill()
        process.wait()


def test_many_runs_looked_at_in_turn_leave_few_files_open(tmp_path: Path) -> None:
    for number in range(12):
        write_series(tmp_path / f"run{number}", {("loss/train", ""): ([0, 1], [2.0, 1.0])}).close()
    with served(tmp_path) as asking:
        for _ in range(2):
            for number in range(12):
                assert asking.get(f"/api/run/run{number}/series?name=loss/train").status == 200
        assert len({link for link in _open_files() if str(tmp_path) in link and "record.sqlite" in link}) <= 8
        assert len(asking.dashboard.answers.shelf._opened) <= 4


def test_a_writer_is_never_held_up_by_readers(tmp_path: Path) -> None:
    """A page that asks for everything, again and again, while a writer flushes every step."""
    writer = RecordWriter(tmp_path / "one")
    writer.readings("model", 0, [Reading("loss/train", 1.0, str(i)) for i in range(50)])
    writer.flush()
    with served(tmp_path) as asking:
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                assert asking.get("/api/run/one/series?name=loss/train").status == 200

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for step in range(1, 1_500):
                writer.readings("model", step, [Reading("loss/train", 1.0, str(i)) for i in range(50)])
                writer.flush()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        writer.close()
        header, _ = asking.get("/api/run/one/series?name=loss/train&points=5000").unpacked()
        assert header["counts"] == [1_500] * 50


def _open_files() -> list[str]:
    """Where the open files lie; other threads close some meanwhile."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found
