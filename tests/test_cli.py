"""Test ``vario.cli``: what holds for every verb."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_terminal_that_knows_only_ascii_gets_the_titles_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vario", "papers"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert b"P001" in done.stdout and b"?" in done.stdout
