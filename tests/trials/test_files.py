"""Test ``vario.trials.files``: after a trial the files of the user are what they were."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import vario
from vario.trials.files import folder, kept_files
from vario.trials.local import LocalRunner

# Writes the best weights so far to one name and goes on with them at its end, as many scripts do. The two
# runs of a pair wait for one another, so that each has written before the other one reads.
SCRIPT = """
import os, sys, time
import torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(64, 4)
for step in range(20):
    loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
    optimizer.zero_grad(); loss.backward(); optimizer.step()
torch.save(model.state_dict(), "best.pt")
open(f"there-{os.getpid()}", "w").close()
until = time.time() + float(sys.argv[1])
while time.time() < until and sum(name.startswith("there-") for name in os.listdir()) < 2:
    time.sleep(0.05)
time.sleep(float(sys.argv[1]) / 40)
model.load_state_dict(torch.load("best.pt"))
print("read back")
"""


def keep(place: Path, path: Path) -> None:
    """As a run does before it writes over the file."""
    note = place / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    note.write_text(json.dumps({"path": str(path), "was": "kept"}))
    note.with_suffix(".data").write_text(path.read_text())


def test_put_back_are_files_that_were_there_also_where_a_run_removed_them(tmp_path):
    place = folder(tmp_path / "trials/one/runs")
    over, gone = tmp_path / "best.pt", tmp_path / "gone.pt"
    for path in (over, gone):
        path.write_text(f"mine: {path.name}")
    with pytest.raises(KeyboardInterrupt), kept_files(place) as back:
        keep(place, over)
        keep(place, gone)
        over.write_text("of a run")
        gone.unlink()
        raise KeyboardInterrupt
    assert over.read_text() == "mine: best.pt" and gone.read_text() == "mine: gone.pt"
    assert sorted(back) == [str(over), str(gone)] and [path.name for path in place.iterdir()] == ["in-use"]


def test_of_two_trials_at_once_the_last_one_puts_back(tmp_path):
    place = folder(tmp_path / "trials/one/runs")
    best = tmp_path / "best.pt"
    best.write_text("mine")
    with kept_files(place) as last:
        with kept_files(place) as first:
            keep(place, best)
            best.write_text("of a run of the first")
        assert not first and best.read_text() == "of a run of the first"
    assert last == [str(best)] and best.read_text() == "mine"


def test_what_a_killed_trial_left_is_set_aside_and_writes_over_nothing(tmp_path, capfd):
    place = folder(tmp_path / "trials/one/runs")
    best = tmp_path / "best.pt"
    best.write_text("from before the trial that was killed")
    place.mkdir(parents=True)
    keep(place, best)
    best.write_text("trained since")
    with kept_files(place) as back:
        assert "killed" in capfd.readouterr().err
    assert not back and best.read_text() == "trained since"
    (aside,) = tmp_path.glob("trials/kept-*/*-best.pt")
    assert aside.read_text() == "from before the trial that was killed"


def test_runs_that_read_each_other_s_weights_are_made_one_by_one(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VARIO_HOME", str(tmp_path / ".vario"))
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "best.pt").write_text("precious")
    made = vario.trial(["train.py", "20"], set_="optimizer.lr=0.1", seeds=1, runner=LocalRunner(2))
    assert made.pairs == 1 and not made.failures
    assert (tmp_path / "best.pt").read_text() == "precious"
    told = capfd.readouterr().err
    assert told.count("one by one") == 1 and "put back as before the trial: best.pt" in told
