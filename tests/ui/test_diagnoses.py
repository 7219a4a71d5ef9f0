from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from tests.report.sample import write_series
from vario.nouns import Reading, VarioError
from vario.record.store import RecordWriter
from vario.ui import diagnoses
from vario.ui.diagnoses import Diagnoses


class Counted:
    """Stands for a diagnosis: counts how often it was made, and of what."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.made = seconds, []
        self.at_once, self.most_at_once = 0, 0

    def __call__(self, path: Path) -> dict[str, Any]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds)
        self.made.append(path.name)
        self.at_once -= 1
        return {"findings": [len(self.made)]}


def a_run(path: Path) -> Path:
    write_series(path, {("loss/train", ""): ([0, 1], [2.0, 1.0])}).close()
    return path


def test_a_record_that_lies_still_is_diagnosed_once(tmp_path: Path) -> None:
    counted = Counted()
    made = Diagnoses(counted)
    path = a_run(tmp_path / "one")
    for _ in range(50):
        assert made.wait(path) == {"findings": [1]}
        time.sleep(0.002)
    assert counted.made == ["one"] and made.version(path) == 1
    made.close()


def test_a_growing_record_is_diagnosed_again_but_not_more_often_than_its_cost_allows(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(diagnoses, "LEAST_REST", 0.4)
    counted = Counted()
    made = Diagnoses(counted)
    writer = RecordWriter(tmp_path / "one")
    began = time.monotonic()
    for step in range(200):
        writer.readings("model", step, [Reading("loss/train", 1.0)])
        writer.flush()
        made.known(tmp_path / "one")
        time.sleep(0.01)
    spent = time.monotonic() - began
    writer.close()
    until = time.monotonic() + 20
    made.known(tmp_path / "one")
    while made._known[tmp_path / "one"].state != (diagnoses.stamp(tmp_path / "one"), ""):
        assert time.monotonic() < until, "the last state was never diagnosed"
        time.sleep(0.01)
    assert 3 <= len(counted.made) <= spent / 0.4 + 3
    made.close()


def test_only_one_diagnosis_is_made_at_a_time_and_the_one_looked_at_comes_first(tmp_path: Path) -> None:
    counted = Counted(0.05)
    made = Diagnoses(counted)
    paths = [a_run(tmp_path / f"run{i}") for i in range(6)]
    for path in paths:
        assert made.known(path) is None
    assert made.wait(paths[5]) is not None
    assert "run5" in counted.made[:2]  # one may have been under way
    for path in paths:
        made.wait(path)
    assert sorted(counted.made) == sorted(path.name for path in paths) and counted.most_at_once == 1
    made.close()


def test_asking_while_a_diagnosis_is_made_is_no_reason_for_another(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(diagnoses, "LEAST_REST", 0.0)
    monkeypatch.setattr(diagnoses, "REST", 0.0)
    counted = Counted(0.3)
    made = Diagnoses(counted)
    path = a_run(tmp_path / "one")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        made.known(path)
        time.sleep(0.02)
    assert counted.made == ["one"]
    made.close()


def test_a_change_of_status_alone_is_a_reason_to_look_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(diagnoses, "LEAST_REST", 0.0)
    counted = Counted()
    made = Diagnoses(counted)
    path = a_run(tmp_path / "one")
    made.wait(path, "running")
    made.known(path, "killed")
    until = time.monotonic() + 10
    while made.version(path) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert counted.made == ["one", "one"]
    made.close()


def test_what_breaks_is_told_and_the_next_run_is_diagnosed(tmp_path: Path) -> None:
    def examine(path: Path) -> dict[str, Any]:
        if path.name == "damaged":
            raise VarioError("the record is damaged")
        if path.name == "bug":
            raise KeyError("oops")
        return {"findings": []}

    made = Diagnoses(examine)
    told = made.wait(a_run(tmp_path / "damaged"))
    assert told and told["error"] == "the record is damaged" and told["findings"] == []
    told = made.wait(a_run(tmp_path / "bug"))
    assert told and "KeyError" in told["error"]
    assert made.wait(a_run(tmp_path / "well")) == {"findings": []}
    made.close()


def test_the_thread_ends(tmp_path: Path) -> None:
    made = Diagnoses(Counted())
    made.wait(a_run(tmp_path / "one"))
    made.close()
    until = time.monotonic() + 10
    while any(thread.name == "vario-diagnoses" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
