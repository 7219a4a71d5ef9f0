"""Starts the user's command, unchanged, so that every Python process in it that imports torch is watched.

A `sitecustomize` on PYTHONPATH does the rest. Standard streams are the command's own; signals reach it;
the exit code is its own, 128 + n where signal n ended it, as shells have it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

__all__ = ["environment", "launch"]

HOOK = Path(__file__).parent / "hook"
FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGINT")


def launch(
    command: Sequence[str],
    run_dir: Path | None,
    *,
    overhead: float = 0.03,
    metrics: Mapping[str, str] | None = None,
    treatment: str = "",
    keep_examples: int = 0,
) -> int:
    """Run `command` to its end; its exit code. `run_dir` None: run it without watching.

    ``script.py`` alone stands for this Python and the script. ``metrics`` are names and patterns for stdout.
    ``treatment`` is the JSON of what a trial changes in it; ``keep_examples`` is as for `vario.watch`.
    """
    arguments = _arguments(command)
    env = (
        dict(os.environ)
        if run_dir is None
        else environment(run_dir, overhead=overhead, metrics=metrics or {}, treatment=treatment)
    )
    if keep_examples > 0:
        env["VARIO_KEEP_EXAMPLES"] = str(keep_examples)
    started = _Started()
    before = {number: signal.signal(number, started.forward) for number in _numbers()}
    try:
        process = subprocess.Popen(arguments, env=env)
        started.is_there(process)
        code = process.wait()
    except OSError as error:
        sys.stderr.write(f"vario: cannot start {arguments[0]}: {error.strerror}\n")
        return 126 if isinstance(error, PermissionError) else 127
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def environment(
    run_dir: Path, *, overhead: float, metrics: Mapping[str, str], treatment: str = ""
) -> dict[str, str]:
    """The environment in which Python processes watch themselves, and put in the treatment of a trial."""
    path = os.environ.get("PYTHONPATH")
    inherited = {name: value for name, value in os.environ.items() if name != "VARIO_TREATMENT"}
    return {
        **inherited,
        **({"VARIO_TREATMENT": treatment} if treatment else {}),
        "PYTHONPATH": os.pathsep.join([str(HOOK), *([path] if path else [])]),
        "VARIO_RUN": str(run_dir.resolve()),
        "VARIO_OVERHEAD": repr(overhead),
        "VARIO_METRICS": json.dumps(dict(metrics)),
    }


def _arguments(command: Sequence[str]) -> list[str]:
    rest = list(command[1:] if command[:1] == ["--"] else command)
    if rest and (rest[0].endswith(".py") or rest[0] == "-m"):
        return [sys.executable, *rest]
    return rest


def _numbers() -> list[signal.Signals]:
    found = [signal.Signals[name] for name in FORWARDED if name in signal.Signals.__members__]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]  # as with nohup


class _Started:
    """Passes signals on to the command; those that come before it is known wait for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def forward(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._process is None:
            self._early.append(number)
        elif number != signal.SIGINT or not _is_in_foreground():  # a terminal sent Ctrl-C to both of us
            self._process.send_signal(number)

    def is_there(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        for number in self._early:
            self.forward(number, None)


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
