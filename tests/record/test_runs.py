from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.record.conftest import finish, start, without_rights, write_run
from vario.nouns import VarioError
from vario.record import runs
from vario.record.reader import open_run


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VARIO_HOME", raising=False)
    assert runs.home() == Path(".vario")
    monkeypatch.setenv("VARIO_HOME", "/somewhere")
    assert runs.home() == Path("/somewhere")
    monkeypatch.setenv("VARIO_HOME", "")
    assert runs.home() == Path(".vario")


def test_a_new_run_has_a_short_id_and_a_record(tmp_path: Path) -> None:
    path = runs.create_run(tmp_path / "deep" / "home", command=["python", "a.py"], meta={"seed": 3})
    assert re.fullmatch(r"\d{8}-\d{6}-[a-z]+", path.name)
    run = open_run(path)
    assert run.id == path.name and run.meta["command"] == ["python", "a.py"] and run.meta["seed"] == 3
    assert run.meta["created"] > 1.7e9


def test_runs_made_at_once_differ(tmp_path: Path) -> None:
    def child() -> list[str]:
        return [runs.create_run(tmp_path, command=["x"]).name for _ in range(40)]

    names = sum((finish(c) for c in [start(child) for _ in range(3)]), [])
    assert len(set(names)) == 120 == len(list(tmp_path.iterdir()))


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for name in ("20260101-000000-heron", "20260101-000000-heron-2", "20260203-000000-lark", "baseline"):
        write_run(tmp_path / name, steps=5)
    (tmp_path / "20270101-000000-empty").mkdir()
    return tmp_path


def test_find_by_id_prefix_path_and_last(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = runs.find_run
    assert find("20260203-000000-lark", three) == find("202602", three) == three / "20260203-000000-lark"
    assert find("20260101-000000-heron", three).name == "20260101-000000-heron"  # exact beats prefix
    assert find("base", three).name == "baseline"
    assert find(str(three / "baseline"), Path("elsewhere")) == three / "baseline"
    assert find(str(three / "baseline" / "record.sqlite")) == three / "baseline"
    monkeypatch.setenv("VARIO_HOME", str(three))
    assert find("last").name == find().name == "baseline"  # as old as its record: made just now
    (three / "baseline" / "record.sqlite").unlink()
    assert find().name == "20260203-000000-lark"  # a directory without a record is no run


def test_a_path_that_is_no_run_is_told_so(three: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    for place in ("empty", "file.txt"):
        with pytest.raises(VarioError, match="is no run: there is no record.sqlite in it"):
            runs.find_run(str(tmp_path / place), three)
    with pytest.raises(VarioError, match="is no run.* It holds runs; name one, such as .*baseline"):
        runs.find_run(str(three), tmp_path / "elsewhere")


def test_what_is_typed_finds_the_run_from_here(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.find_run("last", three)
    monkeypatch.setenv("VARIO_HOME", str(three))
    assert runs.to_type(run) == run.name and runs.find_run(run.name) == run
    monkeypatch.setenv("VARIO_HOME", str(tmp_path / "elsewhere"))
    for place in (three.parent, tmp_path / "a b"):
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        (typed,) = shlex.split(runs.to_type(run))
        assert runs.find_run(typed).resolve() == run.resolve()
        assert Path(typed).is_absolute() == (place != three.parent)


def test_what_cannot_be_found_names_what_there_is(three: Path) -> None:
    with pytest.raises(VarioError, match=r"'2026' is the start of 3 runs: .*lark, .*heron-2, .*heron\."):
        runs.find_run("2026", three)
    with pytest.raises(VarioError, match=r"begins with 'nope'. The latest: baseline, 20260203"):
        runs.find_run("nope", three)
    for home in (three / "nowhere", three / "20270101-000000-empty"):
        with pytest.raises(VarioError, match="no runs in"):
            runs.find_run("last", home)


def test_the_list_tolerates_what_is_no_run(three: Path) -> None:
    foreign = three / "notes"
    foreign.mkdir()
    (foreign / "record.sqlite").write_text("no database" * 200)
    (three / "a file").touch()
    listed = {summary.id: summary for summary in runs.list_runs(three)}
    assert len(listed) == 6
    assert listed["20260203-000000-lark"].steps == 5 and not listed["20260203-000000-lark"].problem
    assert "not a database" in listed["notes"].problem and listed["notes"].status == "unreadable"
    assert "no record" in listed["20270101-000000-empty"].problem
    ids = [summary.id for summary in runs.list_runs(three) if summary.id.startswith("2026")]
    assert ids == sorted(ids) and len(ids) == 3
    assert runs.list_runs(three / "nowhere") == []


def test_a_home_that_cannot_be_made_is_named(public_folder: Path, tmp_path: Path) -> None:
    public_folder.chmod(0o555)

    def child() -> str:
        with pytest.raises(VarioError) as caught:
            runs.create_run(public_folder / "home", command=["x"])
        return str(caught.value)

    told = without_rights(child)
    assert str(public_folder) in told and "VARIO_HOME" in told
    (tmp_path / "home").touch()
    with pytest.raises(VarioError, match="VARIO_HOME"):
        runs.create_run(tmp_path / "home", command=["x"])


def test_the_directory_of_trials_is_no_run(tmp_path: Path) -> None:
    made = runs.create_run(tmp_path, command=["train.py"])
    runs.create_run(tmp_path / "trials", command=["vario", "trial"])
    assert [run.id for run in runs.list_runs(tmp_path)] == [made.name]
    assert runs.find_run("last", home=tmp_path) == made
