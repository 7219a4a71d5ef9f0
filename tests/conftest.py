"""Runs of scripts, shared by the tests that look at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.observed import Ran, ran


@pytest.fixture(scope="session")
def runs_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    (base / "runs").mkdir(exist_ok=True)
    return base / "runs"


@pytest.fixture(scope="session")
def watched(runs_base: Path) -> Callable[[str], Ran]:
    return lambda name: ran(name, runs_base, watched=True)


@pytest.fixture(scope="session")
def bare(runs_base: Path) -> Callable[[str], Ran]:
    return lambda name: ran(name, runs_base, watched=False)
