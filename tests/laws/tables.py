"""Published measurements for the tests: in VARIO_SCALING_DATA or beside the project, never shipped."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "scaling"


def path(name: str) -> Path:
    """The file, or the test is skipped with the reason."""
    found = Path(os.environ.get("VARIO_SCALING_DATA", BESIDE)) / name
    if not found.is_file():
        pytest.skip(f"{name} is not here; set VARIO_SCALING_DATA to the folder of published tables")
    return found


def table(name: str) -> dict[str, NDArray[Any]]:
    """Columns; numbers where every cell is one."""
    with path(name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for key in rows[0]:
        cells = [row[key] for row in rows]
        try:
            columns[key] = np.array([float(cell) for cell in cells])
        except ValueError:
            columns[key] = np.array(cells)
    return columns


def chinchilla() -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """The 240 runs that the replication keeps: the five highest losses are left out."""
    data = table("chinchilla.csv")
    keep = np.sort(np.argsort(data["loss"])[:-5])
    return {"N": data["params"][keep], "D": data["tokens"][keep]}, data["loss"][keep]


def planted(
    count: int = 240, *, noise: float = 0.005, seed: int = 0
) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Runs of a two-term law with the replication's constants: a look-alike that may be shipped."""
    rng = np.random.default_rng(seed)
    n, ratio = 10 ** rng.uniform(7.5, 10.0, count), 10 ** rng.uniform(0.7, 2.3, count)
    loss = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * (n * ratio) ** -0.3658
    return {"N": n, "D": n * ratio}, loss * np.exp(noise * rng.standard_normal(count))
