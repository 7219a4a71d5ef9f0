"""Test the slots as a trial uses them: real processes, the record, trainers, and processes of torchrun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.observed import TORCHRUN, Ran
from tests.remedies.treated import launched
from tests.test_neutral import differences
from vario.record.reader import Run
from vario.remedies.slots_told import FAILED, went_wrong
from vario.remedies.treatment import Treatment

TRAINERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("lightning_trainer", "hf_trainer")]


def told(run: Run, slot: str) -> list[str]:
    return [
        event.kind for event in run.events() if event.kind.startswith("treatment") and event.where == slot
    ]


@pytest.mark.parametrize(
    "name",
    [
        "plain_loop",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("gan", "grad_scaler", "closure", "lbfgs", "accumulation")
        ),
        *TRAINERS,
    ],
)
def test_the_identity_leaves_what_the_bare_script_leaves(
    name: str, bare: Callable[[str], Ran], tmp_path: Path
) -> None:
    code, err, run, state = launched(name, Treatment("baseline", seed=0), tmp_path)
    with run:
        assert (code, run.main.step_count > 0) == (0, True), err
        assert went_wrong(run, Treatment("baseline")) == ""
    differing = list(differences(state, bare(name).state))
    assert not differing, f"{name} differs in {differing[:5]}"


def test_what_was_put_in_stands_in_the_record(tmp_path: Path) -> None:
    treatment = Treatment.parse("AdamW:lr=0.02+loader.batch_size=48")
    code, err, run, _ = launched("plain_loop", treatment, tmp_path)
    with run:
        assert code == 0, err
        assert went_wrong(run, treatment) == ""
        assert told(run, "optimizer") == ["treatment", "treatment"] and told(run, "loader") == ["treatment"]
        record = run.main
        assert record.step_count == 12
        _, rates = record.series("hyper/lr", record.wheres("hyper/lr")[0])
        assert rates[0] == pytest.approx(0.02), "the record sees the rate that the optimizer steps with"
        assert record.events("optimizer")[0].data["class"] == "AdamW"
        assert went_wrong(run, Treatment.parse("layer.GELU=SiLU")), "another treatment was not put in"


def test_a_failure_ends_the_run_and_says_why(tmp_path: Path) -> None:
    treatment = Treatment.parse("sam")
    code, err, run, state = launched("plain_loop", treatment, tmp_path)
    with run:
        assert (code, state) == (FAILED, {})
        assert "vario: the treatment 'sam' cannot be put in" in err and "without a closure" in err
        assert "without a closure" in went_wrong(run, treatment)


def test_what_was_not_reached_makes_it_no_run_of_the_treatment(tmp_path: Path) -> None:
    treatment = Treatment.parse("layer.GELU=SiLU")
    code, err, run, _ = launched("plain_loop", treatment, tmp_path)
    with run:
        assert code == 0, err
        assert "was not reached: the script built no module of class GELU" in went_wrong(run, treatment)


def test_processes_of_torchrun_are_treated_and_their_starter_spoils_nothing(
    bare: Callable[[str], Ran], tmp_path: Path
) -> None:
    treatment = Treatment.parse("gradient-noise+optimizer.lr=0.05")
    code, err, run, state = launched("ddp", treatment, tmp_path, *TORCHRUN)
    with run:
        assert code == 0, err
        assert went_wrong(run, treatment) == ""
        assert told(run, "optimizer-around").count("treatment") == 2, "both ranks"
    assert list(differences(state, bare("ddp").state))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightning_trainer", "hf_trainer"])
@pytest.mark.parametrize(
    "text", ["SGD:lr=0.1,momentum=0.9", "stable-spam", "optimizer.lr=0.002", "loader.batch_size=8", "sam"]
)
def test_trainers_are_treated(name: str, text: str, bare: Callable[[str], Ran], tmp_path: Path) -> None:
    treatment = Treatment.parse(text)
    code, err, run, state = launched(name, treatment, tmp_path)
    with run:
        if (name, text) == ("hf_trainer", "sam"):  # Lightning gives a closure
            assert code == FAILED and "without a closure" in went_wrong(run, treatment)
            return
        assert code == 0, err
        assert went_wrong(run, treatment) == ""
        assert run.main.step_count > 0
    assert list(differences(state, bare(name).state))
