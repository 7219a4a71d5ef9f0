"""Files that the runs of a trial share: what one writes over is kept first, and mixed ones are noticed.

All runs of a trial work in the folder of the user, and an unmodified script writes to the same names in each.
Before a file that was there is written over, a copy is kept; the trial puts it back at its end. Where a run
reads back a file that it wrote and another run has written since (the best weights so far, say), the run
would go on with weights of another: it is ended, with the reason.

Seen are files opened by Python and ``torch.save``; not what a library's own C or Rust code writes.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vario.remedies.slots_told import Told

__all__ = ["keep_files"]

TOO_LARGE = 4 << 30  # bytes that are not copied: a store of data that is opened for changes, not a checkpoint
WRITES = os.O_WRONLY | os.O_RDWR
NOWHERE = ("/dev/", "/proc/", "/sys/")


def keep_files(place: Path, told: Told) -> None:
    """Listen to all files that this process opens; ``place`` is where the trial keeps what was there."""
    files = _Files(place, told)
    sys.addaudithook(files.heard)
    _hear_torch_save(files)


class _Files:
    def __init__(self, place: Path, told: Told) -> None:
        self._place, self._told = place, told
        self._run = os.environ.get("VARIO_RUN", str(os.getpid()))
        self._left_out = (*NOWHERE, f"{place.resolve().parent}{os.sep}")  # records of vario's own
        self._mine: set[str] = set()
        self._busy = self._warned = False

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook of Python: it is told before the thing is done."""
        if self._busy:
            return
        if event == "open":
            self.opened(arguments[0], writes=bool((arguments[2] or 0) & (WRITES | os.O_TRUNC)))
        elif event == "os.rename" and arguments[2:] == (-1, -1):
            self.opened(arguments[0], writes=True)
            self.opened(arguments[1], writes=True)
        elif event == "os.remove" and arguments[1] == -1:
            self.opened(arguments[0], writes=True)

    def opened(self, name: Any, *, writes: bool) -> None:
        """Note that the file is written, or read, from here on."""
        if not isinstance(name, str | bytes | os.PathLike) or (not writes and not self._mine):
            return
        self._busy = True  # what is opened here is ours
        try:
            path = os.path.realpath(os.fsdecode(name))
            if path.startswith(self._left_out) or "__pycache__" in path or os.path.isdir(path):
                return
            if writes:
                self._write(path)
            elif path in self._mine:
                self._read(path)
        except OSError as error:  # a full disk, say: the run goes on, and what was there is not kept
            if not self._warned:
                sys.stderr.write(f"vario: {os.fsdecode(name)}: {error.strerror}; it is not kept as it was\n")
            self._warned = True
        finally:
            self._busy = False

    def _write(self, path: str) -> None:
        with self._alone(path) as note:
            if not note.exists():
                note.write_text(json.dumps({"path": path, "was": _kept(path, note.with_suffix(".data"))}))
            note.with_suffix(".writer").write_text(self._run)
        self._mine.add(path)

    def _read(self, path: str) -> None:
        with self._alone(path) as note:
            writer = note.with_suffix(".writer")
            other = writer.exists() and writer.read_text() != self._run
        if other:
            self._told.fail(
                "files",
                f"{path} was written by this run and then by another one, so it would go on with what is not"
                " its own",
            )

    @contextmanager
    def _alone(self, path: str) -> Iterator[Path]:
        """The note on a file, while no other process looks at it."""
        self._place.mkdir(parents=True, exist_ok=True)
        note = self._place / f"{hashlib.sha256(path.encode()).hexdigest()[:24]}.json"
        with open(note.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield note


def _kept(path: str, copy: Path) -> str:
    """What the file was before the trial: "kept" where there is a copy of it now."""
    if not os.path.isfile(path):
        return "new"
    if os.path.getsize(path) > TOO_LARGE:
        return "too large"
    shutil.copy2(path, copy)
    return "kept"


def _hear_torch_save(files: _Files) -> None:
    """It opens its file in C++, which Python does not hear of."""
    import torch

    original = torch.save

    @functools.wraps(original)
    def save(obj: object, f: Any, *args: Any, **words: Any) -> None:
        if isinstance(f, str | os.PathLike):
            files.opened(f, writes=True)
        original(obj, f, *args, **words)

    torch.save = torch.serialization.save = save
