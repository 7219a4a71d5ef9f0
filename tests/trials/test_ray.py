"""Test runs as Ray tasks: the same results to the last digit, a killed worker tried again, lost runs told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_cli_trial import TRAIN
from vario.nouns import VarioError
from vario.remedies.treatment import Treatment
from vario.trials.local import LocalRunner
from vario.trials.measure import choose, course
from vario.trials.pairs import Job
from vario.trials.runner import Limits, Outcome


def test_without_ray_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from vario.trials.ray import RayRunner

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(VarioError, match=r"vario\[ray\]"):
        RayRunner()


@pytest.fixture
def ray() -> Iterator[None]:
    found = pytest.importorskip("ray")
    yield
    found.shutdown()


def finished(runner: object) -> Outcome:
    for _ in range(600):
        outcome = runner.wait(1.0)  # type: ignore[attr-defined]
        if outcome is not None:
            return outcome
    raise AssertionError("no run has ended")


@pytest.mark.slow
def test_the_same_results_to_the_last_digit(ray: None, tmp_path: Path) -> None:
    from vario.record.reader import open_run
    from vario.trials.ray import RayRunner

    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    job = Job("baseline", 3, (str(script), "--lr", "0.05"), Treatment("baseline").with_seed(3).to_json())
    values = []
    for runner in (LocalRunner(1), RayRunner(jobs=1)):
        runner.start(job, tmp_path / "runs")
        outcome = finished(runner)
        assert outcome.reason == "" and outcome.path is not None
        with open_run(outcome.path) as run:
            assert run.status == "finished"
            values.append(course(run, choose(run, None)).values.tolist())
    assert values[0] == values[1] and len(values[0]) == 60


@pytest.mark.slow
def test_a_killed_worker_is_tried_again(ray: None, tmp_path: Path) -> None:
    from vario.trials.ray import RayRunner

    script = tmp_path / "train.py"
    # the first try ends the worker above it; the second finds the mark and ends well
    script.write_text(
        "import os, pathlib, signal, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "if not mark.exists():\n    mark.write_text('')\n    os.kill(os.getppid(), signal.SIGKILL)\n"
        "    time.sleep(60)\nprint('second try')"
    )
    runner = RayRunner(jobs=1)
    runner.start(Job("baseline", 0, (str(script),)), tmp_path / "runs")
    outcome = finished(runner)
    assert outcome.reason == "" and (outcome.path / "stdout.txt").read_text() == "second try\n"  # type: ignore[operator]


@pytest.mark.slow
def test_a_crash_on_a_node_is_a_result_with_its_reason(ray: None, tmp_path: Path) -> None:
    from vario.trials.ray import RayRunner

    script = tmp_path / "train.py"
    script.write_text("raise RuntimeError('boom')")
    runner = RayRunner(jobs=2, limits=Limits(minutes=5))
    runner.start(Job("baseline", 0, (str(script),)), tmp_path / "runs")
    assert runner.has_room()
    assert finished(runner).reason == "exit code 1: RuntimeError: boom"
    assert runner.wait(0.0) is None


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_said(ray: None) -> None:
    from vario.trials.ray import RayRunner

    with pytest.raises(VarioError, match="no Ray cluster answers at auto"):
        RayRunner("auto")
