"""What counts as a cure in the benchmark: better, and well."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.diagnosis.cure import MUCH, judged
from vario.nouns import Verdict
from vario.trials.result import Arms, Trial

SEEDS = ("0", "1", "2")


def trial(
    *,
    before: float = 2.0,
    after: float = 1.0,
    findings: int = 0,
    ill: int = 3,
    word: str = "helps",
    lost: int = 0,
    role: str = "treatment",
    examined: int = 3,
    of: str = "vanishing-gradients",
) -> Trial:
    """Three pairs: the loss before and after, and in how many runs of each arm the finding was."""
    plain = Arms("baseline", "baseline", findings={of: ill}, examined=3, values=dict.fromkeys(SEEDS, before))
    values: Mapping[str, float] = dict.fromkeys(SEEDS, after) | dict.fromkeys(SEEDS[:lost], float("nan"))
    treated = Arms("T", role, findings={of: findings}, examined=examined, values=values if examined else {})
    verdict = Verdict("T", word, (after - before, -9, 9), 0.1, 0.9, 3, 0, 1.0)  # type: ignore[arg-type]
    return Trial(
        "t", Path(), ("train.py",), "eval/loss", "recorded", False, "steps", 3, 3, False, None,
        (verdict,), {}, (), (plain, treated), (),
    )  # fmt: skip


def cured(made: Trial, finding: str = "vanishing-gradients") -> bool:
    arm = judged(made, finding, "T")
    assert arm is not None
    return arm.cured


def test_a_cure_is_better_and_the_finding_is_gone() -> None:
    assert cured(trial())
    assert cured(trial(findings=1, word="undecided"))
    assert not cured(trial(findings=2))
    assert not cured(trial(after=2.5))


def test_a_sure_but_trivial_gain_beside_a_finding_that_stays_is_no_cure() -> None:
    """Ten sigmoids exchanged for ReLU: "helps, -0.0008", and the plateau stayed."""
    assert not cured(trial(before=2.3, after=2.2992, findings=3))


def test_one_seed_of_three_that_learns_is_no_cure() -> None:
    """First weights by fan-in in ten layers of ReLU: one run learned, two stayed at a guess."""
    made = trial(before=2.306)
    treated = dataclasses.replace(made.arm("T"), values={"0": 2.3059, "1": 0.425, "2": 2.3048})
    assert not cured(dataclasses.replace(made, arms=(made.arms[0], treated)))


@pytest.mark.parametrize(
    ("after", "word", "right"), [(1.7, "helps", True), (1.9, "helps", False), (1.7, "undecided", False)]
)
def test_an_illness_of_the_loss_is_judged_by_the_loss(after: float, word: str, right: bool) -> None:
    made = trial(after=after, word=word, findings=3, of="overfitting")
    assert cured(made, "overfitting") is right and MUCH == 0.1
    assert not cured(trial(after=after, word=word, findings=3))


def test_of_accuracy_more_is_better() -> None:
    more = dataclasses.replace(trial(before=0.5, after=0.8), higher_is_better=True)
    less = dataclasses.replace(trial(before=0.8, after=0.5), higher_is_better=True)
    assert cured(more) and not cured(less)


def test_a_treatment_that_loses_a_seed_is_no_cure() -> None:
    assert not cured(trial(lost=1))


def test_where_the_script_alone_breaks_a_run_to_the_end_is_better() -> None:
    assert cured(trial(before=float("nan")))
    assert not cured(trial(before=float("nan"), after=float("nan")))


def test_who_was_not_ill_or_not_treated_is_not_judged() -> None:
    assert judged(trial(ill=1), "vanishing-gradients", "T") is None
    assert judged(trial(role="control", examined=0), "vanishing-gradients", "T") is None
    assert not cured(trial(examined=0))
