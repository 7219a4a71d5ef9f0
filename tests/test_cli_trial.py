"""Test `vario trial`: whose options are whose, mistakes, and one real trial from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import vario.cli_trial as room
from vario.cli import app
from vario.trials.asked import Asked

VARIO = Path(sys.executable).with_name("vario")
TRAIN = """
import argparse, torch
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--seeds", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
for step in range(60):
    x = torch.randn(8, 4)
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    loss.backward()
    optimizer.step()
print("final error", loss.item())
"""


def asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Asked:
    """What the command line makes of its arguments; nothing is run."""
    seen: list[Asked] = []

    def instead(asked: Asked, runner: str, *rest: Any, **words: Any) -> None:
        seen.append(asked)
        raise typer.Exit(0)

    monkeypatch.setattr(room, "_conducted", instead)
    done = CliRunner().invoke(app, ["trial", *arguments])
    assert done.exit_code == 0, done.output
    return seen[0]


def test_what_is_not_ours_is_the_scripts_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(
        monkeypatch, "train.py", "--lr", "0.1", "--with", "sam", "-x", "data", "--seeds", "5",
        "--name=two words",
    )  # fmt: skip
    assert list(found.command) == ["train.py", "--lr", "0.1", "-x", "data", "--name=two words"]
    assert found.with_ == ["sam"] and found.seeds == 5
    found = asked(
        monkeypatch, "--with", "sam+optimizer.lr=0.1", "--set", "optimizer.lr=3", "--", "train.py", "--json"
    )
    assert list(found.command) == ["train.py", "--json"] and found.set_ == ["optimizer.lr=3"]
    found = asked(monkeypatch, "--with", "sam", "--", "torchrun", "--nproc-per-node", "2", "train.py")
    assert found.command[0] == "torchrun" and found.higher_is_better is None


def test_all_options_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(
        monkeypatch, "train.py", "--with", "sam", "--with", "infobatch", "--from-finding", "last:1",
        "--auto", "x", "--control", "none", "--metric", "a=b ([0-9]+)", "--higher-is-better",
        "--budget", "time", "--minutes", "2",
        "--stall", "3", "--tune", "lr=0.3,1", "--margin", "0.1", "--all-seeds", "--fresh", "--retry",
    )  # fmt: skip
    assert found == Asked(
        ["train.py"], ["sam", "infobatch"], [], ["last:1"], "x", "none", 10, "a=b ([0-9]+)", True, "time",
        2.0, 3.0, ["lr=0.3,1"], 2, 0.1, True, True, True,
    )  # fmt: skip
    assert found.limits.minutes == 2 and found.patterns == (("a", "b ([0-9]+)"),) and not found.peeking


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train.py"], "at least one treatment"),
        (["nosuch.py", "--with", "AdamW"], "there is no script nosuch.py"),
        (["train.py", "--with", "nosuch"], "no method is called so"),
        (["train.py", "--with", "AdamW", "--metric", "a=["], "not a regular expression"),
        (["train.py", "--with", "AdamW", "--with", "AdamW", "--seeds", "0"], "needs at least one"),
        (["--with", "AdamW"], "name the script"),
        (["train.py", "--with", "AdamW", "--runner", "slurm"], "write local, ray or ray:ADDRESS"),
        (["--reopen", "heron"], "there are no trials"),
        (["train.py", "--from-finding", "x"], "write RUN:1"),
    ],
)
def test_a_mistake_is_one_clear_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from vario.cli import main

    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VARIO_HOME", str(tmp_path / "runs"))
    monkeypatch.setattr(sys, "argv", ["vario", "trial", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("vario: ") and said in line and "\n" not in line


def test_a_real_trial_from_end_to_end(tmp_path: Path) -> None:
    """AdamW for AdamW is no difference, no rate is one, and a sampler without a loader is a reason."""
    (tmp_path / "train.py").write_text(TRAIN)
    environment = {**os.environ, "VARIO_HOME": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    command = [str(VARIO), "trial", "train.py", "--lr", "0.05", "--with", "AdamW"]
    command += ["--set", "optimizer.lr=1e-9", "--with", "infobatch", "--seeds", "2", "--json"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout)
    assert said["metric"] == "loss/train" and "training loss" in said["metric_source"]
    same, out_of_reach, nothing = said["verdicts"]
    assert same["verdict"] == "equivalent" and same["pairs"] == 2
    assert same["difference"] == {"value": 0, "low": 0, "high": 0}
    assert nothing["difference"]["value"] > 0.1 and nothing["pairs"] == 2
    assert out_of_reach["verdict"] == "undecided" and out_of_reach["pairs"] == 0
    assert out_of_reach["reason"]
    runs = list((tmp_path / "runs/trials").glob("*/runs/*/record.sqlite"))
    assert len(runs) == 7  # the treatment without a slot was tried once
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert json.loads(again.stdout)["verdicts"] == [
        {**row, "cost": pytest.approx(row["cost"])} for row in said["verdicts"]
    ]
    assert list((tmp_path / "runs/trials").glob("*/runs/*/record.sqlite")) == runs  # nothing was run again
    reopened = [str(VARIO), "trial", "--reopen", said["trial"], "--json"]
    opened = subprocess.run(reopened, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert json.loads(opened.stdout) == said
    lost = subprocess.run(
        [*reopened, "--out", str(tmp_path / "train.py" / "page.html")],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert json.loads(lost.stdout) == said and lost.returncode == 2
    assert lost.stderr.startswith("vario: the page cannot be written to ") and "--reopen" in lost.stderr
    page = (Path(said["path"]) / "report.html").read_text()
    assert "exactly no difference" in page
