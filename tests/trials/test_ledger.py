"""Test the list of runs that are done: when two runs are the same, and what survives a damaged file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vario.trials.ledger import Ledger, fingerprint, key_of
from vario.trials.pairs import Job
from vario.trials.runner import Outcome


def test_a_run_is_another_one_if_its_script_its_arguments_or_what_it_imports_change(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import model\nfrom parts import head\nimport torch\n")
    (tmp_path / "model.py").write_text("a = 1")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/__init__.py").write_text("")
    (tmp_path / "parts/head.py").write_text("b = 1")
    (tmp_path / "other.py").write_text("c = 1")
    seen = [fingerprint(["train.py"], tmp_path)]
    assert fingerprint(["train.py"], tmp_path) == seen[0]
    (tmp_path / "other.py").write_text("c = 2")  # nobody imports it
    assert fingerprint(["train.py"], tmp_path) == seen[0]
    seen.append(fingerprint(["train.py", "--lr=1"], tmp_path))
    for name in ("train.py", "model.py", "parts/head.py"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\nd = 1")
        seen.append(fingerprint(["train.py"], tmp_path))
    assert len(set(seen)) == 5
    (tmp_path / "train.py").write_text("def (")  # what does not parse is told apart by its text
    seen.append(fingerprint(["train.py"], tmp_path))
    assert seen[-1] not in seen[:-1]
    assert fingerprint(["-m", "parts.head"], tmp_path) != fingerprint(["-m", "parts"], tmp_path)


def test_the_key_holds_treatment_and_metric() -> None:
    keys = {key_of("base", t, m) for t in ("a", "b") for m in ((), (("x", "y"),))}
    assert len(keys) == 4


def test_what_was_put_in_is_found_by_another_ledger(tmp_path: Path) -> None:
    path, job = tmp_path / "ledger.jsonl", Job("sam", 3, ("train.py",), key="k")
    run = tmp_path / "runs/one"
    run.mkdir(parents=True)
    Ledger(path).put(Outcome(job, run, 1.5, "", True, 7))
    found = Ledger(path, minutes=0.01).get(job)
    assert found == Outcome(job, found.path, 1.5, "", True, 7)  # type: ignore[union-attr]
    assert found.path.resolve() == run.resolve()  # type: ignore[union-attr]
    assert Ledger(path, fresh=True).get(job) is None
    assert Ledger(path).get(dataclasses.replace(job, key="other")) is None
    run.rmdir()
    assert Ledger(path).get(job) is None  # its record is gone


def test_a_failed_run_is_a_result_unless_it_is_to_be_tried_again(tmp_path: Path) -> None:
    path, job = tmp_path / "ledger.jsonl", Job("sam", 3, (), key="k")
    Ledger(path).put(Outcome(job, None, 1.5, "exit code 1"))
    assert Ledger(path).get(job).reason == "exit code 1"  # type: ignore[union-attr]
    again = Ledger(path, retry_failed=True)
    assert again.get(job) is None
    again.put(Outcome(job, None, 2.0))
    assert Ledger(path).get(job).reason == ""  # type: ignore[union-attr]


def test_a_run_that_was_ended_early_is_made_again_where_it_may_take_longer(tmp_path: Path) -> None:
    path, job = tmp_path / "ledger.jsonl", Job("sam", 3, (), key="k")
    Ledger(path).put(Outcome(job, None, 121.0, "", True))
    assert Ledger(path, minutes=2).get(job) and Ledger(path, minutes=1).get(job)
    assert not Ledger(path, minutes=3).get(job) and not Ledger(path).get(job)


def test_a_line_that_was_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for key in ("a", "b"):
        Ledger(path).put(Outcome(Job("sam", 0, (), key=key), None, 1.0))
    path.write_bytes(path.read_bytes()[:-9])
    ledger = Ledger(path)
    assert ledger.get(Job("sam", 0, (), key="a")) and not ledger.get(Job("sam", 0, (), key="b"))
    ledger.put(Outcome(Job("sam", 0, (), key="c"), None, 1.0))
    assert Ledger(path).get(Job("sam", 0, (), key="c"))


def test_a_list_that_cannot_be_written_is_said_once_and_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    ledger = Ledger(tmp_path / "file" / "ledger.jsonl", fresh=True)
    jobs = [Job("AdamW", seed, (), key=str(seed)) for seed in range(2)]
    for job in jobs:
        ledger.put(Outcome(job, None, 1.0))
    known = [ledger.get(job) for job in jobs]
    assert [outcome.job for outcome in known if outcome is not None] == jobs
    said = capfd.readouterr().err
    assert said.count("what is run now will be run again") == 1
