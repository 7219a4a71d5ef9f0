"""The runs of a home directory: making one, finding one by what the user typed, listing all.

The id of a run is the moment it was made and a word, as in `20260314-150926-heron`: ids sort by time,
can be said aloud, and a few letters more than the date are enough to name one.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vario.nouns import VarioError
from vario.record.schema import FILE_NAME

WORDS = (
    "avocet bittern bunting buzzard chough condor crane curlew dipper dove dunlin eagle egret eider falcon "
    "finch fulmar gannet goshawk grebe harrier hawk heron hobby hoopoe ibis jackdaw jay kestrel kite knot "
    "lapwing lark linnet martin merlin oriole osprey ouzel owl petrel pipit plover puffin quail rail raven "
    "redwing robin rook ruff sandpiper serin shrike siskin skua snipe stork swallow swan swift teal tern "
    "thrush wren"
).split()
LISTED = 8  # candidates that an error names
TRIALS = "trials"  # the directory of trials in a home: it holds runs, and is none


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line of the list of runs; `problem` says why a directory could not be read, "" where it could."""

    id: str
    path: Path
    created: float
    status: str
    command: str
    steps: int
    problem: str = ""


def home() -> Path:
    """Where records go: `$VARIO_HOME`, else `.vario` in the working directory."""
    return Path(os.environ.get("VARIO_HOME") or ".vario").expanduser()


def create_run(home: Path, *, command: Sequence[str], meta: Mapping[str, Any] | None = None) -> Path:
    """A new directory under `home` with a record that holds `command`, `created` and `meta`."""
    moment = time.time()
    path = _new_directory(home, datetime.fromtimestamp(moment).strftime("%Y%m%d-%H%M%S"))
    from vario.record.store import RecordWriter  # naming a run goes without numpy

    writer = RecordWriter(path)
    for key, value in {"command": list(command), "created": moment, **(meta or {})}.items():
        writer.meta(key, value)
    writer.close()
    return path


def find_run(reference: str = "last", home: Path | None = None) -> Path:
    """The directory of the run that `reference` names: an id, a unique prefix of one, a path, or `last`."""
    place = home if home is not None else _home()
    by_path = Path(reference).expanduser()
    if by_path.name == FILE_NAME and by_path.exists():
        return by_path.parent
    if (by_path / FILE_NAME).exists():
        return by_path
    runs = sorted((path for path in _directories(place) if (path / FILE_NAME).exists()), key=_made)
    if reference != "last" and by_path.exists() and not any(run.name.startswith(reference) for run in runs):
        within = _directories(by_path) if by_path.is_dir() else []
        inside = sorted(path for path in within if (path / FILE_NAME).exists())
        out = (
            f"It holds runs; name one, such as {inside[-1]}" if inside else "`vario runs` lists what is here"
        )
        raise VarioError(f"{reference} is no run: there is no {FILE_NAME} in it. {out}.")
    if not runs:
        raise VarioError(
            f"there are no runs in {place}. `vario run train.py` makes one; $VARIO_HOME says where to look."
        )
    if reference == "last":
        return runs[-1]
    found = [path for path in runs if path.name.startswith(reference)]
    exact = [path for path in found if path.name == reference]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        raise VarioError(
            f"{reference!r} is the start of {len(found)} runs: {_names(found)}. Type more of one."
        )
    raise VarioError(f"no run in {place} begins with {reference!r}. The latest: {_names(runs)}.")


def to_type(run: Path) -> str:
    """What names this run on a command line here: its id where it lies in the usual home, else its path."""
    there = run.resolve()
    if there.parent == _home().resolve():
        return there.name
    here = Path.cwd()
    return shlex.quote(str(there.relative_to(here) if there.is_relative_to(here) else there))


def list_runs(home: Path) -> list[RunSummary]:
    """Every directory under `home`, oldest first; one that holds no readable record says why."""
    return [_summary(path) for path in sorted(_directories(home), key=_made)]


def _home() -> Path:
    return home()


def _new_directory(home: Path, moment: str) -> Path:
    """`secrets` and not `random`: the user's random state must stay as it is."""
    words = list(WORDS)
    for number in range(1, 1_000):
        name = f"{moment}-{secrets.choice(words)}" + (f"-{number}" if number > len(WORDS) else "")
        try:
            (home / name).mkdir(parents=True)
        except FileExistsError as error:
            if not home.is_dir():
                raise VarioError(f"{home} is a file; runs need a directory. Set VARIO_HOME.") from error
            continue
        except OSError as error:
            raise VarioError(
                f"cannot make a run in {home}: {error}. Set VARIO_HOME to a directory that can be written."
            ) from error
        return home / name
    raise VarioError(f"{home} already holds a thousand runs of {moment}. Try again in a second.")


def _directories(home: Path) -> list[Path]:
    try:
        return [
            path
            for path in home.iterdir()
            if path.is_dir() and not path.name.startswith(".") and path.name != TRIALS
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise VarioError(
            f"cannot look into {home}: {error}. Set VARIO_HOME to the directory of the runs."
        ) from error


def _made(path: Path) -> tuple[float, str]:
    """When a run was made: its id says so; a directory with a name of its own is as old as its record."""
    moment = re.match(r"\d{8}-\d{6}", path.name)
    if moment:
        try:
            return datetime.strptime(moment[0], "%Y%m%d-%H%M%S").timestamp(), path.name
        except ValueError:  # digits, but no date
            pass
    try:
        return (path / FILE_NAME).stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def _summary(path: Path) -> RunSummary:
    from vario.record.reader import open_run

    try:
        with open_run(path) as run:
            steps = max((record.step_count for record in run.records()), default=0)
            command = run.meta.get("command", "")
            text = command if isinstance(command, str) else " ".join(map(str, command))
            created = float(run.meta.get("created", _made(path)[0]))
            return RunSummary(path.name, path, created, run.status, text, steps)
    except VarioError as error:
        return RunSummary(path.name, path, _made(path)[0], "unreadable", "", 0, str(error))


def _names(paths: Sequence[Path]) -> str:
    latest = [path.name for path in paths[: -LISTED - 1 : -1]]
    return ", ".join(latest) + (f" and {len(paths) - LISTED} more" if len(paths) > LISTED else "")
