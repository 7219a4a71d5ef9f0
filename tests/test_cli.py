"""Test ``vario.cli``: what holds for every verb."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.report.trial_sample import sample
from vario.cli import app


def test_a_terminal_that_knows_only_ascii_gets_the_titles_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vario", "papers"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert b"P001" in done.stdout and b"?" in done.stdout


def test_report_knows_trials_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIO_HOME", str(tmp_path))
    place = tmp_path / "trials" / "20261126-101112-heron"
    place.mkdir(parents=True)
    replace(sample(), path=place).save()
    done = CliRunner().invoke(app, ["report", "20261126-101112"])
    assert done.exit_code == 0, done.output
    assert "helps" in (place / "report.html").read_text(encoding="utf-8")
    missing = CliRunner().invoke(app, ["report", "nothing"])
    assert missing.exit_code != 0 and "there are no runs" in str(missing.exception)
