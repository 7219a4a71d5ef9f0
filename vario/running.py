"""``vario run``: make a record, start the unchanged command under watch, say what was found.

Whatever fails on our side, the command runs and its exit code is ours.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from vario.nouns import VarioError

__all__ = ["overhead_share", "run"]


def run(
    command: Sequence[str],
    *,
    home: Path | None = None,
    overhead: str = "3%",
    metrics: Sequence[str] = (),
    quiet: bool = False,
    live: bool = False,
    keep_examples: int = 0,
) -> int:
    """Run ``command`` under watch; its own exit code (128 + n where signal n ended it).

    ``overhead`` is "3%" or "0.03"; ``metrics`` are "NAME=REGEX"; ``live`` tells findings while it runs;
    ``keep_examples`` is of how many of the worst examples a sketch goes into the record.
    Raises VarioError for a mistake in them, before anything is started.
    """
    from vario.capture.launch import launch
    from vario.live import Telling
    from vario.record.runs import create_run
    from vario.record.runs import home as default_home

    _fill_standard_streams()
    share = overhead_share(overhead)
    patterns = dict(_metric(text) for text in metrics)
    say: Callable[[str], None] = (lambda text: None) if quiet else _say
    place = home or default_home()
    try:
        directory = create_run(place.resolve(), command=command, meta=_surroundings(share))
    except VarioError as error:
        say(f"vario: not watching: {error} The command runs all the same.")
        return launch(list(command), None, overhead=share, metrics=patterns)
    budget = f"{100 * share:.3g} % of the step time, after half a second and the first steps"
    say(f"vario: watching {_short(command)} as {directory.name} (budget: {budget})")
    with Telling(directory, _say) if live else nullcontext():
        code = launch(list(command), directory, overhead=share, metrics=patterns, keep_examples=keep_examples)
    _close(directory, code, say)
    return code


def _fill_standard_streams() -> None:
    """Where a shell has closed one, SQLite would take its number for itself and pass it on to the command.

    What is opened here is closed again when the command starts, which finds it as the shell left it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def overhead_share(text: str) -> float:
    """The share of the step time that "3%", "3 %" or "0.03" means; 0 to 1 without the first end."""
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(%?)\s*", text)
    try:
        share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise VarioError(f"--overhead {text}: write a share of the step time such as 3% or 0.03.")
    return share


def _metric(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise VarioError(f"--metric {text!r}: {pattern!r} is not a regular expression: {error}.") from None
    if not (name and equals and groups):
        raise VarioError(
            f"--metric {text!r}: write NAME=REGEX with one group around the number, "
            r"such as 'accuracy=accuracy: ([0-9.]+)'."
        )
    return name, pattern


def _surroundings(share: float) -> dict[str, Any]:
    """What the record should say of where and how the run was started."""
    import platform

    from vario import __version__

    return {
        "cwd": os.getcwd(),
        "vario": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
        "overhead": share,
    }


def _close(directory: Path, code: int, say: Callable[[str], None]) -> None:
    """Write down how the command ended, and say what was found."""
    from vario.record.reader import open_run
    from vario.record.runs import to_type
    from vario.record.store import RecordWriter
    from vario.remedies.prescribe import prescribe_all
    from vario.report.text import summary_text
    from vario.rules._diagnose import diagnose

    try:
        writer = RecordWriter(directory)
        writer.event("", -1, "exit", data={"code": code, "signal": code - 128 if code > 128 else 0})
        writer.close()
        with open_run(directory) as opened:
            diagnosis = diagnose(opened)
            say(summary_text(opened, diagnosis, prescribe_all(diagnosis, opened)))
    except VarioError as error:
        say(f"vario: {error}")
    except Exception as error:  # a failure of ours must not become one of the user's command
        say(
            f"vario: the summary failed ({type(error).__name__}: {error}); "
            f"`vario findings {to_type(directory)}`"
        )


def _short(command: Sequence[str]) -> str:
    text = shlex.join([os.path.basename(command[0]), *command[1:]])
    return text if len(text) <= 100 else text[:99] + "…"


def _say(text: str) -> None:
    if sys.stderr is None:  # closed by the shell
        return
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()
