"""Runs of the scripts in tests/scripts, bare or under watch, each made once for all tests and workers."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vario.record.reader import Record, Run, open_run

SCRIPTS = Path(__file__).parent / "scripts"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WATCH = "import sys; from pathlib import Path; from vario.capture.launch import launch; sys.exit(launch("
COMMANDS = {"ddp": TORCHRUN}


@dataclass(frozen=True)
class Ran:
    """What is left of one run of a script."""

    place: Path
    code: int
    out: str
    err: str

    @property
    def run(self) -> Run:
        return open_run(self.place / "run")

    @property
    def record(self) -> Record:
        return self.run.main

    @property
    def state(self) -> Any:
        import torch

        return torch.load(self.place / "state.pt", weights_only=False, map_location="cpu")

    def printed(self, word: str) -> list[float]:
        """The numbers that follow `word` in what the script printed."""
        return [float(number) for number in re.findall(rf"^.*?\b{word} ([-0-9.e]+)", self.out, re.M)]


def ran(name: str, base: Path, *, watched: bool, overhead: float = 1.0) -> Ran:
    """The run of scripts/`name`.py, made now unless some test made it before."""
    place = base / f"{name}-{f'watched-{overhead}' if watched else 'bare'}"
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "code").exists():
            _make(name, place, watched=watched, overhead=overhead)
    read = [(place / part).read_text() for part in ("code", "out", "err")]
    return Ran(place, int(read[0]), read[1], read[2])


def _make(name: str, place: Path, *, watched: bool, overhead: float) -> None:
    command = [sys.executable, *COMMANDS.get(name, []), str(SCRIPTS / f"{name}.py")]
    if watched:
        text = f"{WATCH}{command!r}, Path({str(place / 'run')!r}), overhead={overhead}))"
        command = [sys.executable, "-c", text]
    env = {**os.environ, "FINAL_STATE": str(place / "state.pt"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    (place / "out").write_text(done.stdout)
    (place / "err").write_text(done.stderr)
    (place / "code").write_text(str(done.returncode))
