"""Test treatments that a recorded run asks for, and the control that it does not ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.sample import cures_of, sick_diagnosis, sick_run
from vario.nouns import Diagnosis, Finding, Prescription, VarioError
from vario.record.reader import Run
from vario.remedies import catalog
from vario.trials import prescribed as room
from vario.trials.asked import Asked


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A sick run, with one change to set for every finding and a method for the second."""
    found = sick_diagnosis()
    cures = cures_of(found)
    extra = Prescription("sam", method="sam", trial="vario trial digits.py --with sam:rho=0.1")
    cures[found.findings[1]] = (Prescription("look at the data"), extra)
    monkeypatch.setattr(room, "diagnose", lambda run: found)
    monkeypatch.setattr(room, "prescribe_all", lambda diagnosis, run: cures)
    (tmp_path / "digits.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return sick_run(tmp_path / "run")


def test_the_first_prescription_of_each_cause_is_tried(run: Run) -> None:
    treatments = room.from_findings(run)
    assert [(t.name, why) for t, why in treatments] == [
        ("optimizer.lr=0.05", "learning-rate-too-high"),
        ("sam:rho=0.1", "batch-too-small"),
    ]


def test_a_finding_is_named_by_its_number(run: Run) -> None:
    assert room.of_finding(f"{run.path}:1")[0].settings == (("optimizer.lr", "0.05"),)
    assert room.of_finding(f"{run.path}:2")[0].name == "sam:rho=0.1"
    for reference, said in (
        (f"{run.path}:9", "the run has 3 findings"),
        (f"{run.path}:1.7", "has 1 prescriptions that a trial can"),
        ("last", "write RUN:1"),
        (f"{run.path}:one", "write RUN:1"),
    ):
        with pytest.raises(VarioError, match=said):
            room.of_finding(reference)


def test_a_run_without_a_remedy_to_try_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "diagnose", lambda run: Diagnosis((), ()))
    with pytest.raises(VarioError, match="no finding with a prescription"):
        room.from_findings(run)


def test_the_control_treats_nothing_that_the_run_has(run: Run) -> None:
    drawn = {room.control_for(run, ["sam"], salt=str(n)).name.partition(":")[0] for n in range(12)}
    assert len(drawn) > 3 and "sam" not in drawn
    ill = {finding.id for finding in sick_diagnosis().findings}
    for name in drawn:
        assert not ill & set(catalog.find(name).card["treats"])
    assert room.control_for(run, [], salt="x") == room.control_for(run, [], salt="x")


def test_auto_takes_the_runs_own_command_and_a_control(run: Run) -> None:
    plan = Asked(auto=str(run.path)).plan()
    assert plan.command[0].endswith("digits.py") and plan.peeking
    assert [arm.role for arm in plan.arms] == ["baseline", "treatment", "treatment", "control"]
    assert [a.role for a in Asked(auto=str(run.path), control="none").plan().arms][-1] == "treatment"
    assert Asked(["digits.py", "--x"], from_finding=[f"{run.path}:1"]).plan().command == ("digits.py", "--x")


def test_a_change_that_no_slot_can_make_is_passed_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("diverging", "error", 1.0, (), (0, 1), ())
    cures = (Prescription("x", trial="vario trial a.py --set nonsense.x=1"), Prescription("y"))
    monkeypatch.setattr(room, "diagnose", lambda run: Diagnosis((finding,), ("diverging",)))
    monkeypatch.setattr(room, "prescribe_all", lambda diagnosis, run: {finding: cures})
    with pytest.raises(VarioError, match="no finding with a prescription"):
        room.from_findings(run)
