"""Test `vario.live`: findings are told while the command runs, and taken back; it ends as it would alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vario.live import Telling
from vario.nouns import Diagnosis, Finding, Reading
from vario.record.store import RecordWriter

VARIO = Path(sys.executable).with_name("vario")
# Breaks at step 30, and goes on until it is told to end.
BREAKS = """
import os, sys
from vario.nouns import Reading
from vario.record.store import RecordWriter
writer = RecordWriter(os.environ["VARIO_RUN"])
for step in range(60):
    writer.readings("model", step, [Reading("loss/train", 1.0 if step < 30 else float("nan"))])
writer.flush()
sys.stdin.readline()
writer.close()
sys.exit(3)
"""


def finding(name: str) -> Finding:
    return Finding(name, "error", 0.9, (), (0, 1), ())


def test_what_appears_is_told_once_and_what_goes_is_taken_back(tmp_path: Path, monkeypatch) -> None:
    said: list[str] = []
    now: list[Finding] = [finding("no-gradient")]
    monkeypatch.setattr("vario.rules._live.live", lambda run, made: Diagnosis(tuple(now), ()))
    telling = Telling(tmp_path / "run", said.append)
    telling.look()  # nothing is written yet
    assert not said
    writer = RecordWriter(tmp_path / "run")
    for step, found in enumerate(
        (["no-gradient"], ["no-gradient", "diverging"], ["diverging"], ["diverging"])
    ):
        now[:] = [finding(name) for name in found]
        writer.readings("model", step, [Reading("loss/train", 2.3)])
        writer.flush()
        telling.look()
        telling.look()
    writer.close()
    assert "(error, 90 % sure)" in said[0]
    assert [line.split(" (")[0] for line in said] == [
        "vario: step 1: no-gradient",
        "vario: step 2: diverging",
        "vario: step 3: taken back: no-gradient",
    ]


def test_findings_come_while_the_command_runs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(BREAKS)
    command = [str(VARIO), "run", "--live", "--home", str(tmp_path / "runs"), "train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as running:
        assert running.stdin is not None and running.stderr is not None
        assert running.stderr.readline().startswith("vario: watching train.py")
        assert running.stderr.readline().startswith("vario: step 60: non-finite (error, ")
        running.stdin.write("\n")
        running.stdin.close()
        assert running.wait() == 3


def test_a_failure_is_said_once_and_the_block_goes_on(tmp_path: Path, monkeypatch) -> None:
    said: list[str] = []

    def fails(self: Telling) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("vario.live.LEAST_REST", 0.01)
    monkeypatch.setattr(Telling, "look", fails)
    with Telling(tmp_path, said.append) as telling:
        telling._thread.join()
    assert said == ["vario: live findings end here (RuntimeError: broken)"]
