"""What is measured on demand: at which steps, at what price, of an unmodified script."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from vario import measuring
from vario.capture.attach import Attachment
from vario.cli import app
from vario.nouns import Reading, VarioError
from vario.on_demand import Asked, OnDemandSession, _Spent
from vario.record.runs import create_run
from vario.record.store import RecordWriter


class Memory:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, Reading]] = []

    def readings(self, stream: str, step: int, readings: Iterable[Reading]) -> None:
        self.rows += [(step, reading) for reading in readings]

    def points(self, stream: str, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        self.rows += [(step, Reading(series, value)) for step, value in zip(steps, values, strict=True)]

    def event(self, stream: str, step: int, kind: str, where: str, data: Mapping[str, Any]) -> None: ...
    def meta(self, key: str, value: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def steps_of(asked: Asked, series: str, *, steps: int = 40) -> list[int]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    memory = Memory()
    session = OnDemandSession(lambda: memory, asked, overhead=0.03)
    attachment = Attachment(session)
    session.own_time = lambda: attachment.own
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(8, 4)) ** 2).mean().backward()
        optimizer.step()
    attachment.detach()
    session.end("", code=0)
    return sorted({step for step, reading in memory.rows if reading.series == series})


def test_it_runs_at_the_steps_asked_for_and_at_no_others() -> None:
    asked = Asked(("curvature", "spectra"), (1, 7, 8, 33))
    assert steps_of(asked, "curvature/top") == [1, 7, 8, 33]
    assert steps_of(asked, "curvature/along_step") == [1, 7, 8, 33], "the step before is known"
    others = set(steps_of(asked, "loss/train")) - {1, 7, 8, 33}
    assert max(others) > 8, "the ordinary instruments go on"


def test_a_share_of_the_time_is_kept() -> None:
    found = steps_of(Asked(("curvature",), (), 1e-9), "curvature/top", steps=30)
    assert found == [10], "once, to know the cost; then it cannot be afforded"
    assert len(steps_of(Asked(("curvature",), (), 1e9), "curvature/top", steps=30)) > 10


def test_of_the_time_so_far_what_was_spent_does_not_count() -> None:
    session = OnDemandSession(Memory, Asked(("curvature",), (), 0.2), overhead=0.03)
    spent = _Spent(began=time.perf_counter() - 10.5, spent=1.0, cost=0.95)  # 9.5 s of the script: 1.9 s of it
    assert not session._is_due(spent, 50)
    spent.cost = 0.85
    assert session._is_due(spent, 50)


def test_a_run_that_ends_before_the_steps_asked_for_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path, command=["train.py"])
    monkeypatch.setattr(measuring, "_watched", lambda command, home: (0, run))
    found = measuring.in_run(["train.py"], ["curvature"], steps=[500])
    assert found["notes"] == ["nothing was measured: the run took no optimizer step of [500]."]
    writer = RecordWriter(run)
    writer.readings("m", 500, [Reading("curvature/top", 2.0)])
    writer.close()
    assert not measuring.in_run(["train.py"], ["curvature"], steps=[500]).get("notes")


def test_what_is_asked_for_travels_as_text() -> None:
    asked = Asked(("curvature",), (1, 2), 0.5)
    assert Asked.from_text(asked.as_text()) == asked
    with pytest.raises(VarioError, match="'sharpness' cannot be measured; curvature"):
        Asked(("sharpness",)).instruments()


SCRIPT = """
import torch, sys
from torch import nn
torch.manual_seed(0)
net = nn.Linear(5, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=float(sys.argv[2]))
x = torch.randn(64, 5)
for _ in range(20):
    optimizer.zero_grad()
    nn.functional.mse_loss(net(x), x[:, :1]).backward()
    optimizer.step()
print("final", [round(v, 9) for v in net.weight.flatten().tolist()])
"""


def vario(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vario", *words], capture_output=True, text=True, timeout=250
    )


def test_an_unmodified_script_is_measured_and_not_changed(tmp_path: Path) -> None:
    """Least squares: the Hessian of (w, b) is 2/n X'X with a column of ones."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    bare = subprocess.run([sys.executable, str(script), "--lr", "0.05"], capture_output=True, text=True)
    asked = ["measure", str(script), "curvature", "--steps", "3,12", "--home", str(tmp_path / "home")]
    done = vario(*asked, "--json", "--lr", "0.05")
    assert done.returncode == 0, done.stderr
    printed, _, text = done.stdout.partition("\n")
    assert printed == bare.stdout.strip()
    found = json.loads(text)
    torch.manual_seed(0)
    nn.Linear(5, 1)
    x = torch.cat([torch.randn(64, 5), torch.ones(64, 1)], 1).double()
    values = np.linalg.eigvalsh((2 / 64 * x.T @ x).numpy())
    rows = {(row["series"], row["step"]): row for row in found["rows"] if not row["where"]}
    for step in (3, 12):
        top = rows["curvature/top", step]
        assert top["low"] <= values[-1] * (1 + 1e-4) and top["high"] >= values[-1] * (1 - 1e-4)
        assert top["value"] == pytest.approx(values[-1], rel=0.01)
        assert rows["curvature/trace", step]["value"] == pytest.approx(values.sum(), rel=0.05)
        assert rows["curvature/rate_share", step]["value"] == pytest.approx(0.05 * values[-1] / 2, rel=0.01)
    assert found["refused"] == []


def test_data_on_the_command_line(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    np.save(tmp_path / "plane.npy", draw.standard_normal((400, 2)) @ draw.standard_normal((2, 9)))
    done = CliRunner().invoke(app, ["measure", str(tmp_path / "plane.npy"), "intrinsic-dimension", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)["rows"]
    assert [round(row["value"]) for row in rows] == [2, 2]
    assert all(row["low"] < row["value"] < row["high"] for row in rows)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train.py", "sharpness"], "there is no script"),
        (["bad.npy", "intrinsic-dimension"], "cannot be read"),
        (["flat.npy", "intrinsic-dimension"], "rows of numbers"),
        (["few.npy", "intrinsic-dimension"], "different examples"),
    ],
)
def test_mistakes_end_in_one_line(words: list[str], reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_text("no array")
    np.save(tmp_path / "flat.npy", np.zeros(9))
    np.save(tmp_path / "few.npy", np.zeros((9, 2)))
    done = CliRunner().invoke(app, ["measure", str(tmp_path / words[0]), *words[1:]])
    assert isinstance(done.exception, VarioError)
    import re

    assert re.search(reason, str(done.exception))


@pytest.mark.slow
def test_the_dimension_of_a_script_by_its_runs(tmp_path: Path) -> None:
    """Least squares with 6 weights: about all of them are needed, and fewer than all do not suffice."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = vario(
        "measure", str(script), "intrinsic-dimension", "--home", str(tmp_path), "--json", "--lr", "0.2"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout[done.stdout.index("{") :])["rows"][-1]
    assert 1 <= answer["low"] <= answer["value"] <= 6
