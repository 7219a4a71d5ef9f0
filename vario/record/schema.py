"""The tables of `record.sqlite`, their version, and the opening of a file that may be anything.

A record names itself by SQLite's `application_id` and carries its version in `user_version`. An older
version is migrated: in place by a writer, in a copy in memory by a reader, who may have no right to
write. A newer one is refused, because guessing at it would show wrong numbers.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vario.nouns import VarioError

FILE_NAME = "record.sqlite"
APPLICATION_ID = 0x7661726F  # "varo"
VERSION = 1
TIMEOUT_SECONDS = 30.0
CHECKPOINT_PAGES = 4_000  # the disk is waited for once in so many pages of the WAL

TABLES = """
create table meta(key text primary key, value text not null) without rowid;
create table process(id integer primary key, host text not null, pid integer not null,
    started text not null, opened real not null, heartbeat real not null, unique(host, pid, started));
create table stream(name text primary key, last_step integer not null) without rowid;
create table series(id integer primary key, stream text not null, name text not null, place text not null,
    width integer not null, unique(stream, name, place));
create table tail(id integer primary key, stream text not null, block blob not null);
create table chunk(id integer primary key, series integer not null, first integer not null,
    last integer not null, count integer not null, low real, mean real, high real, points blob not null);
create index chunk_of_series on chunk(series, id, first, last, count, low, mean, high);
create table event(id integer primary key, process integer, time real not null, stream text not null,
    step integer not null, kind text not null, place text not null, data text not null);
create table array(id integer primary key, stream text not null, step integer not null,
    name text not null, file text not null);
"""

# WAL needs memory shared between its readers and writers, which these file systems do not give.
NETWORK_FILE_SYSTEMS = frozenset(
    "nfs nfs3 nfs4 cifs smb smb2 smb3 smbfs ncpfs afs 9p ceph lustre gpfs beegfs glusterfs orangefs pvfs2 "
    "fuse.sshfs fuse.glusterfs fuse.s3fs fuse.gcsfuse fuse.rclone fuse.juicefs virtiofs".split()
)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection to the record at `path`, which is made or migrated where that is needed.

    Processes that open or leave a record at the same moment shut one another out, and SQLite does not
    always wait for its timeout then, so we do.
    """
    until = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return _opened_for_writing(path)
        except VarioError as error:
            if "locked" not in str(error.__cause__) or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _opened_for_writing(path: Path) -> sqlite3.Connection:
    try:
        connection = _connect(f"{path.resolve().as_uri()}?mode=rwc")
    except sqlite3.Error as error:
        raise cannot_write(path, error) from error
    try:
        if not _is_blank(connection):
            _version(connection, path)  # before anything is changed: it may be another program's file
        wanted = "truncate" if file_system(path) in NETWORK_FILE_SYSTEMS else "wal"
        (mode,) = connection.execute(f"pragma journal_mode={wanted}").fetchone()
        if mode not in ("wal", "truncate"):
            connection.execute("pragma journal_mode=truncate")
        connection.execute("pragma synchronous=normal")
        connection.execute("pragma secure_delete=off")  # else what leaves the tail is written over with zeros
        connection.execute(f"pragma wal_autocheckpoint={CHECKPOINT_PAGES}")
        with transaction(connection, path):
            if _is_blank(connection):
                _create(connection)
            _migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise cannot_write(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that reads the record at `path` and leaves the file as it is."""
    if not path.is_file():
        raise VarioError(f"there is no record at {path}. `vario runs` lists the runs that are here.")
    if not os.access(path, os.R_OK):
        raise VarioError(
            f"no permission to read the record {path}. Ask its owner, or copy it as one who may."
        )
    if path.stat().st_size == 0:
        raise VarioError(f"the record {path} is empty: its run ended before it wrote anything. Run it again.")
    try:
        connection = _open_read_only(path)
        old = _version(connection, path) < VERSION
    except sqlite3.DatabaseError as error:
        raise VarioError(
            f"{path} cannot be read as a record: {error}. It is damaged or is no file of vario; "
            "restore it from a copy or delete its directory."
        ) from error
    return _migrated_copy(connection, path) if old else connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """`begin immediate` to commit; undone on any exception, SQLite's own told as a VarioError."""
    try:
        connection.execute("begin immediate")
        yield connection
        connection.execute("commit")
    except sqlite3.Error as error:
        raise cannot_write(path, error) from error
    finally:
        if connection.in_transaction:
            try:
                connection.execute("rollback")
            except sqlite3.Error:  # the disk refuses even this; the next reader rolls back from the journal
                pass


def leave(connection: sqlite3.Connection) -> None:
    """Closes a writer's connection; the last one to leave makes the record one plain file."""
    try:
        connection.execute("pragma busy_timeout=0")
        connection.execute("pragma journal_mode=delete")
    except sqlite3.OperationalError:  # another process reads or writes: it keeps its WAL
        pass
    connection.close()


def cannot_write(path: Path, error: sqlite3.Error) -> VarioError:
    """What to tell the user when SQLite refuses to write `path`."""
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        out = "It is another program's file: move it away or set VARIO_HOME."
    elif not os.access(path.parent, os.W_OK):
        out = f"The folder {path.parent} is read-only: set VARIO_HOME to one that can be written."
    else:
        out = "If the disk is full, free some space or set VARIO_HOME to another disk."
    return VarioError(f"cannot write the record {path}: {error}. {out}")


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, "" where the machine does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    place, best, kind = str(path.resolve()), -1, ""
    for fields in map(str.split, lines):
        mount = fields[1].replace("\\040", " ")
        if len(mount) >= best and (place == mount or place.startswith(mount.rstrip("/") + "/")):
            best, kind = len(mount), fields[2]
    return kind


def _connect(address: str) -> sqlite3.Connection:
    return sqlite3.connect(
        address, uri=True, timeout=TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Plainly; or, where SQLite cannot make its side files, from a private copy with the WAL beside it."""
    connection = _connect(f"{path.resolve().as_uri()}?mode=ro")
    try:
        connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if "unable to open" not in str(error) and "readonly" not in str(error):
            raise
        return _private_copy(path)
    return connection


def _private_copy(path: Path) -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="vario-") as folder:
        copy = Path(folder) / path.name
        try:
            for suffix in ("", "-wal"):
                beside = path.with_name(path.name + suffix)
                if suffix == "" or beside.exists():
                    shutil.copyfile(beside, copy.with_name(copy.name + suffix))
        except OSError as error:
            raise VarioError(f"cannot read the record {path}: {error}. Check its permissions.") from error
        connection = _connect(copy.as_uri())
        memory = _connect(":memory:")
        try:
            connection.backup(memory)
        finally:
            connection.close()
    return memory


def _is_blank(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    return bool(tables == 0)


def _create(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"pragma application_id={APPLICATION_ID}")
    connection.execute(f"pragma user_version={VERSION}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (name,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    if name != APPLICATION_ID:
        raise VarioError(f"{path} is a SQLite file of another program, not a record. Name a run of vario.")
    if version > VERSION:
        raise VarioError(
            f"the record {path} has format {version}; this vario reads up to {VERSION}. "
            "It was written by a newer vario: pip install --upgrade vario"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    for version in range(_version(connection, path), VERSION):
        MIGRATIONS[version](connection)
        connection.execute(f"pragma user_version={version + 1}")


def _migrated_copy(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    memory = _connect(":memory:")
    connection.backup(memory)
    connection.close()
    _migrate(memory, path)
    return memory


def _know_processes(connection: sqlite3.Connection) -> None:
    """Version 0 had no table of processes and did not say who wrote an event."""
    connection.execute(
        "create table process(id integer primary key, host text not null, pid integer not null, started text "
        "not null, opened real not null, heartbeat real not null, unique(host, pid, started))"
    )
    connection.execute("alter table event add column process integer")


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {0: _know_processes}
