from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.record.conftest import without_rights, write_run
from vario.nouns import Reading, VarioError
from vario.record import schema
from vario.record.reader import open_run
from vario.record.store import RecordWriter


def make_old(path: Path) -> None:
    """Turns the record into one of version 0: no processes, and no process of an event."""
    with sqlite3.connect(path / "record.sqlite") as connection:
        connection.execute("drop table process")
        connection.execute("alter table event drop column process")
        connection.execute("pragma user_version=0")


def version(path: Path) -> int:
    with sqlite3.connect(path / "record.sqlite") as connection:
        return int(connection.execute("pragma user_version").fetchone()[0])


def test_every_version_has_a_way_to_the_next() -> None:
    assert sorted(schema.MIGRATIONS) == list(range(schema.VERSION))


def test_an_old_record_opens_and_reading_leaves_it_as_it_is(tmp_path: Path) -> None:
    writer = write_run(tmp_path, steps=1_200, close=False)
    writer.event("model", 5, "exit", data={"code": 0})
    writer.close()
    make_old(tmp_path)
    before = (tmp_path / "record.sqlite").read_bytes()
    run = open_run(tmp_path)
    assert len(run.main.series("loss/train")[0]) == 1_200
    assert run.status == "finished" and run.events()[0].step == 5
    assert (tmp_path / "record.sqlite").read_bytes() == before


def test_a_writer_brings_an_old_record_up_to_date(tmp_path: Path) -> None:
    write_run(tmp_path, steps=60)
    make_old(tmp_path)
    writer = RecordWriter(tmp_path)
    writer.readings("model", 60, [Reading("loss/train", 1.0)])
    writer.event("model", 60, "notice")
    writer.close()
    assert version(tmp_path) == schema.VERSION
    assert len(open_run(tmp_path).main.series("loss/train")[0]) == 61


def test_what_leaves_the_tail_is_not_written_over(tmp_path: Path) -> None:
    """Debian's SQLite fills what is deleted with zeros: half of all pages that a record wrote were that."""
    writer = RecordWriter(tmp_path)
    written = 0
    for step in range(1_100):
        writer.readings("model", step, [Reading(f"series/{i}", float(i * step) ** 0.5) for i in range(60)])
        if step in (999, 1_050):
            pages = (tmp_path / "record.sqlite-wal").stat().st_size // 4096
            written, before = pages, written
    writer.close()
    chunks = 60 * 8 * 1_000 / 4096  # the mantissas of square roots do not shrink
    assert written - before < 1.5 * chunks


def test_a_newer_record_is_refused_by_both(tmp_path: Path) -> None:
    write_run(tmp_path, steps=60)
    with sqlite3.connect(tmp_path / "record.sqlite") as connection:
        connection.execute(f"pragma user_version={schema.VERSION + 1}")
    for work in (
        lambda: open_run(tmp_path),
        lambda: RecordWriter(tmp_path).readings("model", 0, [Reading("x", 1.0)]),
    ):
        with pytest.raises(VarioError, match=r"format 2; this vario reads up to 1.*pip install --upgrade"):
            work()
    assert version(tmp_path) == schema.VERSION + 1


def test_missing_and_empty(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "record.sqlite"):
        with pytest.raises(VarioError, match="no record at"):
            open_run(path)
    (tmp_path / "record.sqlite").touch()
    with pytest.raises(VarioError, match="is empty"):
        open_run(tmp_path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite"
    path.write_text("not a database, only some text that is long enough to be taken for one" * 100)
    with pytest.raises(VarioError, match="not a database"):
        open_run(tmp_path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("create table theirs(x)")
    with pytest.raises(VarioError, match="another program"):
        open_run(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.95])
def test_a_truncated_record_is_an_error_that_names_the_file_or_a_loss_that_is_told(
    tmp_path: Path, share: float
) -> None:
    write_run(tmp_path, steps=20_000)
    path = tmp_path / "record.sqlite"
    with path.open("r+b") as file:
        file.truncate(int(share * path.stat().st_size))
    try:
        run = open_run(tmp_path)
        lost = [where for where in "ab" if len(run.main.series("gradient/norm", where)[0]) < 20_000]
    except VarioError as error:
        assert str(path) in str(error) and "restore it" in str(error).lower()
    else:
        assert lost and run.damage


@pytest.mark.parametrize("files", [("",), ("", "-wal"), ("", "-wal", "-shm")])
@pytest.mark.parametrize("close", [False, True])
def test_a_record_in_a_folder_that_cannot_be_written(
    public_folder: Path, tmp_path: Path, files: tuple[str, ...], close: bool
) -> None:
    """As on a mounted disk: closed, or with what a killed process left behind, or without its side files."""
    writer = write_run(tmp_path, steps=1_300, close=close)
    folder = public_folder / "run"
    folder.mkdir()
    for suffix in () if close else files:
        shutil.copy(tmp_path / f"record.sqlite{suffix}", folder)
    if close:
        shutil.copy(tmp_path / "record.sqlite", folder)
    before = sorted(os.listdir(folder))
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)

    def child() -> tuple[int, float]:
        record = open_run(folder).main
        return record.step_count, record.last("gradient/norm", "a")

    if close or len(files) > 1:
        assert without_rights(child) == (1_300, 1_299.0)
    else:  # all is in the WAL that was left out: nothing can be known, and that is said
        with pytest.raises(VarioError):
            without_rights(child)
    assert sorted(os.listdir(folder)) == before
    folder.chmod(0o755)
    writer.close()


def test_a_record_that_may_not_be_read_is_an_error(public_folder: Path) -> None:
    write_run(public_folder / "run", steps=10)
    (public_folder / "run" / "record.sqlite").chmod(0)

    def child() -> str:
        with pytest.raises(VarioError) as caught:
            open_run(public_folder / "run")
        return str(caught.value)

    assert "permission" in without_rights(child).lower()


def test_file_system_knows_its_own_machine() -> None:
    if Path("/proc/self/mounts").exists():
        assert schema.file_system(Path("/proc/self")) == "proc"


def test_a_writer_waits_for_one_who_has_the_record_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / schema.FILE_NAME
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("begin exclusive")
    refused: list[int] = []

    def impatient(address: str) -> sqlite3.Connection:
        if refused:
            holder.execute("rollback")
        refused.append(1)
        return sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)

    monkeypatch.setattr(schema, "_connect", impatient)
    schema.open_for_writing(path).close()
    assert len(refused) == 2
    holder.execute("begin exclusive")
    refused.clear()
    monkeypatch.setattr(schema, "TIMEOUT_SECONDS", -1.0)
    with pytest.raises(VarioError, match="locked"):
        schema.open_for_writing(path)
    holder.close()
