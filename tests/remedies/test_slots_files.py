"""Test ``vario.remedies.slots_files``: what was there is kept, and no run takes the file of another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vario.remedies.slots_files import TOO_LARGE, _Files
from vario.remedies.slots_told import Told, TreatmentFailed


def listening(place: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> tuple[_Files, list[tuple]]:
    """A process of that run, which hears what is opened, and what it tells."""
    told: list[tuple] = []
    monkeypatch.setenv("VARIO_RUN", run)
    return _Files(place / "trials/kept", Told("sam", lambda *what: told.append(what))), told


def writes(files: _Files, path: Path, text: str) -> None:
    files.heard("open", (str(path), "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    path.write_text(text)


def reads(files: _Files, path: Path) -> None:
    files.heard("open", (path, "r", os.O_RDONLY))


def kept(place: Path) -> dict[str, str]:
    """The name of each file that was noted, with what is kept of it."""
    found = {}
    for note in (place / "trials/kept").glob("*.json"):
        told = json.loads(note.read_text())
        copy = note.with_suffix(".data")
        found[Path(told["path"]).name] = copy.read_text() if copy.exists() else told["was"]
    return found


def test_what_was_there_before_the_first_run_is_kept_and_nothing_later(tmp_path, monkeypatch):
    one, _ = listening(tmp_path, "one", monkeypatch)
    two, _ = listening(tmp_path, "two", monkeypatch)
    best, new, gone, moved = (tmp_path / name for name in ("best.pt", "new.pt", "gone.pt", "moved.pt"))
    for path in (best, gone, moved):
        path.write_text(f"mine: {path.name}")
    for files in (one, two):
        writes(files, best, "of a run")
        writes(files, new, "of a run")
    one.heard("os.remove", (str(gone), -1))
    one.heard("os.rename", (str(new), str(moved), -1, -1))
    assert kept(tmp_path) == {
        "best.pt": "mine: best.pt", "new.pt": "new", "gone.pt": "mine: gone.pt", "moved.pt": "mine: moved.pt"
    }  # fmt: skip


def test_what_is_only_read_and_what_is_vario_s_own_is_not_noted(tmp_path, monkeypatch):
    files, told = listening(tmp_path, "one", monkeypatch)
    data = tmp_path / "data.bin"
    data.write_text("rows")
    reads(files, data)
    for path in (tmp_path / "trials/run/record.sqlite", Path(os.devnull), tmp_path):
        files.heard("open", (path, "w", os.O_WRONLY))
    files.heard("open", (3, "w", os.O_WRONLY))  # a descriptor
    files.heard("os.remove", ("data.bin", 7))  # of another folder
    assert not kept(tmp_path) and not told


def test_a_store_that_is_too_large_to_be_copied_is_named(tmp_path, monkeypatch):
    files, _ = listening(tmp_path, "one", monkeypatch)
    large = tmp_path / "store.bin"
    with open(large, "wb") as file:
        file.truncate(TOO_LARGE + 1)  # a hole: it takes no room
    files.heard("open", (large, "r+b", os.O_RDWR))
    assert kept(tmp_path) == {"store.bin": "too large"}


def test_a_run_reads_back_its_own_file_and_not_one_that_another_wrote_over(tmp_path, monkeypatch):
    one, told_one = listening(tmp_path, "one", monkeypatch)
    two, told_two = listening(tmp_path, "two", monkeypatch)
    best = tmp_path / "best.pt"
    writes(one, best, "weights of one")
    reads(one, best)
    writes(two, best, "weights of two")
    reads(two, best)
    assert not told_one and not told_two
    with pytest.raises(TreatmentFailed):
        reads(one, best)
    assert [what[:2] for what in told_one] == [("treatment_failed", "files")]
    assert "best.pt was written by this run and then by another" in told_one[0][2]["reason"]


def test_a_cache_that_another_run_made_may_be_read(tmp_path, monkeypatch):
    one, _ = listening(tmp_path, "one", monkeypatch)
    two, told = listening(tmp_path, "two", monkeypatch)
    writes(one, tmp_path / "cache.bin", "tokens")
    writes(two, tmp_path / "log.txt", "a line")
    reads(two, tmp_path / "cache.bin")
    assert not told


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "trials").write_text("a file where a folder should be")
    files, told = listening(tmp_path, "one", monkeypatch)
    for name in ("a.txt", "b.txt"):
        writes(files, tmp_path / name, "of a run")
    assert not told and capsys.readouterr().err.count("not kept as it was") == 1
