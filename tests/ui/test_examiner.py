from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.sample import write_series
from vario.nouns import VarioError
from vario.ui.examiner import Examiner, examined


@pytest.fixture
def examiner() -> Any:
    made = Examiner()
    yield made
    made.close()


def a_run(path: Path) -> Path:
    values = [2.0 - i / 50 for i in range(100)]
    write_series(path, {("loss/train", ""): (list(range(100)), values)}).close()
    return path


def test_the_other_process_says_what_this_one_would(tmp_path: Path, examiner: Any, monkeypatch: Any) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the one of Python')")
    monkeypatch.chdir(tmp_path)
    path = a_run(tmp_path / "one")
    told = examiner(path)
    assert told["run"] == "one" and told["not_applicable"]
    assert told == json.loads(json.dumps(examined(path)))


def test_a_damaged_record_is_told_and_the_next_one_is_examined(tmp_path: Path, examiner: Any) -> None:
    broken = a_run(tmp_path / "broken")
    (broken / "record.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(VarioError, match="record"):
        examiner(broken)
    assert examiner(a_run(tmp_path / "two"))["run"] == "two"


def test_a_process_that_dies_is_told_and_replaced(tmp_path: Path, examiner: Any) -> None:
    path = a_run(tmp_path / "one")
    examiner(path)
    examiner._process.kill()
    with pytest.raises(VarioError, match="broken off"):
        examiner(path)
    assert examiner(path)["run"] == "one"


def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    examiner = Examiner()
    examiner(a_run(tmp_path / "one"))
    process = examiner._process
    examiner.close()
    assert process is not None and process.poll() is not None
    with pytest.raises(VarioError):
        examiner(tmp_path / "one")
