"""Test ``vario.capture.doors``: what no step of a run asks for is not loaded into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vario.capture.curvature.door import NEEDS
from vario.capture.needs import CURVATURE, KEEP

SCRIPT = """
import sys, torch, vario
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with vario.watch(model, optimizer, home=sys.argv[1]):
    for k in range(20):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.ones(8, 3)), torch.ones(8, 1)).backward()
        optimizer.step()
        if k in (1, 19):
            print(*(name for name in sys.modules if name.startswith("vario.capture.")))
"""


def test_a_plain_run_loads_no_curvature_and_its_first_steps_no_formulas(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, later = map(str.split, done.stdout.splitlines())
    assert "vario.capture.attach" in first
    assert not [name for name in first if name.endswith((".probe", ".formulas", ".spectra"))]
    assert "vario.capture.per_example.probe" in later
    assert not [name for name in later if name.startswith("vario.capture.curvature")]


def test_the_needs_that_open_the_door_are_those_that_it_meets() -> None:
    assert CURVATURE == NEEDS | {KEEP}
