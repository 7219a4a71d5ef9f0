from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.ui.serving import served
from vario.nouns import Verdict
from vario.record.runs import create_run
from vario.trials.result import FILE, Arms, Failure, Trial
from vario.ui.trials import trial_told


def a_trial(home: Path, *, finished: bool = True) -> Trial:
    """As `vario trial` keeps it: two arms on three seeds, one run lost."""
    path = create_run(
        home / "trials", command=("vario", "trial", "train.py"), meta={"trial": ["baseline", "sam"]}
    )
    verdict = Verdict("sam", "helps", (-0.1, -0.2, -math.inf), 0.03, math.nan, 3, 0, 1.9)
    arms = (
        Arms(
            "baseline", "baseline", values={"0": 1.0, "1": 1.1, "2": 0.9},
            curves={"0": [(0, 2.0), (10, 1.0)]},
        ),
        Arms(
            "sam", "treatment", values={"0": 0.9, "1": 1.0, "2": math.nan}, step_seconds=0.2,
            curves={"0": [(0, 2.0), (10, 0.9)]}, difference=[(10, -0.1, -0.2, math.inf)],
        ),
    )  # fmt: skip
    made = Trial(
        path.name, path, ("python", "train.py", "--name", "a b"), "eval/loss", "loss functions", False,
        "steps", 3, 3, True, None, (verdict,), {"steps": (verdict,)}, (), arms,
        (Failure("sam", 2, "diverged", str(path / "runs" / "x")),), seconds=12.0, finished=finished,
    )  # fmt: skip
    made.save()
    return made


def test_a_finished_trial_is_told_with_its_pairs_and_curves(tmp_path: Path) -> None:
    made = a_trial(tmp_path)
    with served(tmp_path) as asking:
        (row,) = asking.get("/api/runs").json()["trials"]
        assert row["id"] == made.id and row["status"] == "finished" and row["error"] is None
        assert row["verdicts"][0]["verdict"] == "helps" and row["command"] == "python train.py --name 'a b'"
        told = asking.get(f"/api/trial/{made.id}").json()
    base, sam = told["arms"]
    assert base["values"] == {"0": 1.0, "1": 1.1, "2": 0.9} and sam["values"]["2"] is None
    assert sam["curves"]["0"] == [[0.0, 2.0], [10.0, 0.9]] and sam["difference"] == [[10.0, -0.1, -0.2, None]]
    assert told["failures"][0]["reason"] == "diverged" and told["verdicts"][0]["difference"]["high"] is None
    assert told["metric"] == "eval/loss" and told["started"] > 0


def test_a_trial_that_stopped_and_one_under_way(tmp_path: Path) -> None:
    stopped = a_trial(tmp_path, finished=False)
    assert trial_told(tmp_path, stopped.id)["status"] == "stopped"
    path = create_run(
        tmp_path / "trials", command=("vario", "trial", "b.py"), meta={"trial": ["baseline", "sam"]}
    )
    (path / "runs" / "one").mkdir(parents=True)
    told = trial_told(tmp_path, path.name)
    assert told["status"] == "running" and told["runs_done"] == 1 and told["command"] == "b.py"
    assert [arm["name"] for arm in told["arms"]] == ["baseline", "sam"] and told["verdicts"] == []


def test_a_trial_is_told_anew_when_it_was_written_anew(tmp_path: Path) -> None:
    made = a_trial(tmp_path)
    assert trial_told(tmp_path, made.id)["metric"] == "eval/loss"
    raw = json.loads((made.path / FILE).read_text())
    (made.path / FILE).write_text(json.dumps(raw | {"metric": "eval/accuracy"}))
    assert trial_told(tmp_path, made.id)["metric"] == "eval/accuracy"


@pytest.mark.parametrize("text", ["{", "[]", '{"command": 3}'])
def test_a_damaged_trial_is_told_as_damaged(tmp_path: Path, text: str) -> None:
    made = a_trial(tmp_path)
    (made.path / FILE).write_text(text)
    with served(tmp_path) as asking:
        (row,) = asking.get("/api/runs").json()["trials"]
        assert row["status"] == "corrupt" and FILE in row["error"]
        answer = asking.get(f"/api/trial/{made.id}")
        assert answer.status == 409 and FILE in answer.json()["error"]
        assert asking.get("/api/trial/nobody").status == 404
        assert asking.get("/api/trial/..%2f..").status == 404
