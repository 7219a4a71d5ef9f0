"""What the runs of a trial wrote over, put back: see ``vario.remedies.slots_files``.

Trials of one home share the folder, since what the second finds may be what a run of the first wrote: the
last one that ends puts everything back. Not on Windows, which has no such locks: there nothing is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

__all__ = ["folder", "kept_files"]


def folder(runs: Path) -> Path:
    """Where the runs below ``runs`` (TRIALS/TRIAL/runs) keep what was there."""
    return runs.parent.parent / "kept"


@contextmanager
def kept_files(place: Path) -> Iterator[list[str]]:
    """While a trial runs; the list is filled at the end with the files that were put back."""
    back: list[str] = []
    if sys.platform == "win32":
        yield back
        return
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "in-use", "a") as users:
        if _is_alone(users):
            _set_aside(place)
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield back
        finally:
            if _is_alone(users):
                back += _put_back(place)


def _is_alone(users: IO[str]) -> bool:
    """Whether no other trial of this home runs; then none can begin until the lock is given up."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _set_aside(place: Path) -> None:
    """What a trial left that was killed: the user may have made new files since, so they stay as they are."""
    left = [copy for copy in place.glob("*.data") if copy.with_suffix(".json").exists()]
    aside = place.with_name(f"kept-{time.strftime('%Y%m%d-%H%M%S')}")
    for copy in left:
        name = Path(json.loads(copy.with_suffix(".json").read_text())["path"]).name
        aside.mkdir(exist_ok=True)
        os.replace(copy, aside / f"{copy.stem[:6]}-{name}")
    if left:
        os.write(2, f"vario: an earlier trial was killed; what its runs wrote over is in {aside}\n".encode())
    for file in place.glob("*.*"):
        file.unlink()


def _put_back(place: Path) -> list[str]:
    back = []
    for note in sorted(place.glob("*.json")):
        told = json.loads(note.read_text())
        copy = note.with_suffix(".data")
        if told["was"] == "kept" and copy.exists():
            try:
                _replace(copy, Path(told["path"]))
                back.append(told["path"])
            except OSError as error:
                os.write(2, f"vario: {told['path']}: {error.strerror}; as it was, it is {copy}\n".encode())
                continue
        for suffix in (".json", ".writer", ".lock"):
            note.with_suffix(suffix).unlink(missing_ok=True)
    return back


def _replace(copy: Path, path: Path) -> None:
    """The file as it was, at once: at no time is there half of it."""
    beside = path.with_name(f".{path.name}.vario")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(copy, beside)
    os.replace(beside, path)
    copy.unlink()
