"""Test runs on this machine with programs of a few lines: ends and their reasons, limits, memory, room."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from vario.record.reader import open_run
from vario.trials.child import run_to_end
from vario.trials.local import AT_LEAST, LocalRunner
from vario.trials.pairs import Job
from vario.trials.runner import Limits, Outcome


def job(tmp_path: Path, text: str, seed: int = 0) -> Job:
    script = tmp_path / f"script{seed}.py"
    script.write_text(text)
    return Job("baseline", seed, (str(script), "one two"))


def ended(tmp_path: Path, text: str, limits: Limits | None = None) -> Outcome:
    return run_to_end(job(tmp_path, text), tmp_path / "runs", limits=limits or Limits())


def test_a_run_that_ends_well_has_no_reason_and_is_a_record(tmp_path: Path) -> None:
    outcome = ended(tmp_path, "import sys; print(sys.argv[1]); print('e', file=sys.stderr)")
    assert outcome.reason == "" and outcome.path is not None
    assert (outcome.path / "stdout.txt").read_text() == "one two\n"
    with open_run(outcome.path) as run:
        assert run.status == "finished" and run.meta["arm"] == "baseline"


def test_a_crash_gives_its_last_words(tmp_path: Path) -> None:
    outcome = ended(tmp_path, "raise RuntimeError('boom')")
    assert outcome.reason == "exit code 1: RuntimeError: boom"
    assert ended(tmp_path, "import os; os.kill(os.getpid(), 9)").reason == "signal 9"
    told = ended(tmp_path, "import sys; print('loading'); print('no --data'); sys.exit(3)")
    assert told.reason == "exit code 3; its last line: no --data"
    missing = run_to_end(Job("a", 0, ("no-such-program",)), tmp_path, limits=Limits())
    assert "no-such-program" in missing.reason
    assert open_run(outcome.path).status == "failed"  # type: ignore[arg-type]


def test_a_run_without_a_sign_of_life_has_hung(tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = ended(tmp_path, "import time\ntime.sleep(60)", Limits(stall=0.02))
    assert outcome.reason.startswith("hung: no step and no output for") and not outcome.stopped
    assert time.monotonic() - began < 30


def test_a_run_that_goes_on_is_ended_at_the_limit_of_minutes_and_is_no_failure(tmp_path: Path) -> None:
    text = "import time\nwhile True: print('x', flush=True); time.sleep(0.05)"
    outcome = ended(tmp_path, text, Limits(minutes=0.04))
    assert outcome.stopped and outcome.reason == ""
    silent = ended(tmp_path, "print('x', flush=True)\nimport time\ntime.sleep(60)", Limits(minutes=0.08))
    assert not silent.stopped and silent.reason.startswith("hung: no step and no output in the last")


def test_what_a_run_started_ends_with_it(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)"
    )
    outcome = ended(tmp_path, text, Limits(stall=0.03))
    grandchild = int((outcome.path / "stdout.txt").read_text())  # type: ignore[operator]
    for _ in range(100):
        if not Path(f"/proc/{grandchild}").exists() or "Z" in _state(grandchild):
            return
        time.sleep(0.05)
    pytest.fail("the grandchild lives on")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_runs_end_when_their_trial_is_killed(tmp_path: Path) -> None:
    import subprocess

    script = tmp_path / "sleeps.py"
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    code = (
        "from pathlib import Path; from vario.trials.child import run_to_end\n"
        "from vario.trials.pairs import Job; from vario.trials.runner import Limits\n"
        f"run_to_end(Job('a', 0, ({str(script)!r},)), Path({str(tmp_path / 'runs')!r}), limits=Limits())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    pid = 0
    for _ in range(400):
        found = list((tmp_path / "runs").glob("*/stdout.txt"))
        if found and found[0].read_text().strip():
            pid = int(found[0].read_text())
            break
        time.sleep(0.05)
    assert pid
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "Z" in _state(pid):
            return
        time.sleep(0.05)
    pytest.fail("the run lives on")


def test_several_run_at_once_and_no_more_than_were_asked_for(tmp_path: Path) -> None:
    runner = LocalRunner(2, free=lambda: 1 << 40)
    text = "import os; print(os.environ['OMP_NUM_THREADS'])"
    for seed in range(2):
        assert runner.has_room()
        runner.start(job(tmp_path, text, seed), tmp_path / "runs")
    assert not runner.has_room()
    seen = []
    while len(seen) < 2:
        outcome = runner.wait(1.0)
        seen += [outcome.job.seed] if outcome else []
    assert sorted(seen) == [0, 1] and runner.wait(0.01) is None and runner.has_room()


def test_nothing_is_started_where_memory_would_not_hold_it(tmp_path: Path) -> None:
    free = [1 << 40]
    runner = LocalRunner(4, free=lambda: free[0])
    runner.start(job(tmp_path, "import time; time.sleep(60)"), tmp_path / "runs")
    assert runner.has_room()
    free[0] = AT_LEAST  # the first may still grow to that
    assert not runner.has_room()
    free[0] = -1  # a system that does not tell
    assert runner.has_room()
    runner.stop()
    free[0] = 0
    assert runner.has_room()  # one is always tried
    assert runner.wait(0.0) is None


def test_each_accelerator_gets_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    runner = LocalRunner(2, free=lambda: -1)
    text = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    for seed in range(2):
        runner.start(job(tmp_path, text, seed), tmp_path / "runs")
    paths = []
    while len(paths) < 2:
        outcome = runner.wait(1.0)
        paths += [outcome.path] if outcome else []
    assert sorted((path / "stdout.txt").read_text().strip() for path in paths) == ["3", "5"]
    assert LocalRunner().jobs == min(2, len(os.sched_getaffinity(0)))


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
