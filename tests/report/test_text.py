"""Findings in the terminal: short, folded, honest about what could not be known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.sample import cures_of, empty_run, healthy_run, sick_diagnosis, sick_run
from vario.nouns import Diagnosis, Evidence, Finding, Prescription, Reading
from vario.record import open_run
from vario.record.store import RecordWriter
from vario.report.facts import Cost, ending
from vario.report.text import findings_text, summary_text
from vario.report.words import card_of, clean, duration, headline, interval, number, places, summary
from vario.rules import diagnose

NAN = float("nan")


def evidence(
    name: str = "update ratio", value: float = 0.4, low: float = 0.38, high: float = 0.43
) -> Evidence:
    return Evidence(name, value, low, high, 0.01)


def finding(id: str, *seen: Evidence, **more) -> Finding:
    fields = {"severity": "error", "confidence": 0.9, "where": (), "steps": (0, 9)} | more
    return Finding(id, evidence=seen, **fields)


def test_the_summary_fills_values_with_their_intervals() -> None:
    card = {
        "summary": "each step moves {where} by {update ratio} in {steps}; at most {limit of update ratio}"
    }
    sentence = summary(finding("x", evidence(), where=("fc1",)), card)
    assert sentence == "Each step moves fc1 by 40 % (38 % to 43 %) in steps 0 to 9; at most 1 %."


def test_a_clause_without_its_evidence_is_left_out() -> None:
    card = {"summary": "the loss is {loss}, and the norm is {norm}"}
    assert summary(finding("x", evidence("loss", 2.0, 2.0, 2.0)), card) == "The loss is 2."
    assert "(not measured)" in summary(finding("x"), card)


def test_a_rule_from_outside_without_a_template_still_gets_a_sentence() -> None:
    mine = finding("my-own-rule", evidence("age", 3.0, 3.0, 3.0))
    assert summary(mine, card_of("my-own-rule")) == "My own rule: age 3."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (3.0, "3"), (0.05732, "0.0573"), (1e-7, "1e-7"), (12345.6, "12346"), (0.1, "0.1"),
        (-2.345, "-2.35"), (25000.0, "25,000"), (NAN, "not a number"), (float("inf"), "infinite"),
        (99.96, "100"), (1.5e7, "1.5e7"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_intervals_stand_only_where_they_say_something() -> None:
    assert interval(evidence("loss", 2.0, 2.0, 2.0)) == "2"
    assert interval(evidence("noise scale", 900.0, 500.0, float("inf"))) == "900 (at least 500)"
    assert interval(evidence("loss", NAN, NAN, NAN)) == "not a number"
    assert interval(evidence("loss of guessing by class shares", 2.3, 2.3, 2.3)) == "2.3"
    assert interval(evidence("dead share", 0.5, 0.4, 0.6)) == "50 % (40 % to 60 %)"


def test_names_cannot_write_to_the_terminal() -> None:
    assert clean("a\x1b[31mb\u202ec\nd") == "a [31mb c d"
    long = clean("x" * 500)
    assert len(long) <= 120 and " ... " in long
    assert places(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"
    assert [duration(s) for s in (0.01, 41, 5400, 12000)] == ["10 ms", "41 s", "1 h 30 min", "3 h 20 min"]


def test_a_sick_run_in_brief_is_a_dozen_lines_with_cause_remedy_and_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARIO_HOME", str(tmp_path))
    run, diagnosis = sick_run(tmp_path / "run"), sick_diagnosis()
    text = summary_text(run, diagnosis, cures_of(diagnosis))
    lines = text.splitlines()
    assert len(lines) <= 16
    assert lines[0] == "vario: The learning rate is too high, and 1 more cause"
    assert "digits.py --lr 3.0 --batch 64 | run run | 400 steps | finished" in text
    assert "try: lr 3 -> 0.05" in text and "         vario trial digits.py --lr 3.0 --batch 64 --set" in text
    assert "which explains: dead-units" in text
    assert "1 checks found nothing wrong; 2 could not be made: overfitting, memorization" in text
    assert "A paper of worth" not in text
    assert "vario took 80 ms beside steps of 4.83 s (1.66 %)" in lines[-3]
    assert lines[-2:] == ["  more: vario findings run", "        vario report run"]
    assert "\x1b" not in text and max(map(len, lines)) <= 100
    assert "\x1b[31;1m" in summary_text(run, diagnosis, {}, color=True)


def test_the_brief_form_has_a_command_to_paste_where_any_cure_has_one(tmp_path: Path) -> None:
    cures = (
        Prescription("look at the labels"),
        Prescription("stop early"),
        Prescription("nested-dropout", trial="vario trial a.py --with nested-dropout"),
        Prescription("sam", trial="vario trial a.py --with sam"),
    )
    mine, run = finding("label-noise"), sick_run(tmp_path / "run")
    text = summary_text(run, Diagnosis((mine,), ()), {mine: cures})
    tried = [line.strip() for line in text.splitlines() if "try: " in line or "vario trial" in line]
    assert tried == ["try: look at the labels", "try: nested-dropout", cures[2].trial]
    text = summary_text(run, Diagnosis((mine,), ()), {mine: cures[2:]})
    assert text.count("try: ") == 1 and "sam" not in text
    assert "try: " in summary_text(run, Diagnosis((mine,), ()), {mine: cures[:1]})


def test_the_brief_form_names_what_it_leaves_out(tmp_path: Path) -> None:
    many = tuple(finding(name) for name in ("diverging", "no-gradient", "target-scale", "label-noise"))
    text = summary_text(sick_run(tmp_path / "run"), Diagnosis(many, ()), {})
    assert "also: target-scale, label-noise" in text
    assert text.count("% sure") == 2


def test_the_brief_form_names_two_illnesses_not_one_in_two_streams(tmp_path: Path) -> None:
    folds = tuple(finding("diverging", stream=f"net#{i}") for i in range(3))
    many = Diagnosis((*folds, finding("no-gradient"), finding("target-scale")), ())
    text = summary_text(sick_run(tmp_path / "run"), many, {})
    assert "diverging  (" in text and "no-gradient  (" in text
    assert "The same in 2 other models: net#1, net#2" in text and "also: target-scale" in text
    assert "and 2 more causes" in text
    whole = findings_text(sick_run(tmp_path / "again"), many, {})
    assert whole.count("diverging") == 1 and "- net#2 (90 % sure)" in whole


def test_the_full_text_has_every_evidence_with_limit_and_every_reason(tmp_path: Path) -> None:
    run, diagnosis = sick_run(tmp_path / "run"), sick_diagnosis()
    text = findings_text(run, diagnosis, cures_of(diagnosis))
    assert "x learning-rate-too-high  (error, 96 % sure; whole model; steps 0 to 399)" in text
    assert "largest update ratio, median of three: 52 %, limit 10 %" in text
    assert "loss at the end: 2.32 (2.31 to 2.33), limit 77" in text
    assert "published, not in vario yet: A paper of worth (P248)" in text
    assert "- overfitting, memorization: no evaluation was seen" in text
    assert text.index("learning-rate-too-high") < text.index("- dead-units (conv1, conv2): ")
    assert text.index("- dead-units") < text.index("i batch-too-small")


def test_what_watching_several_models_took_is_summed() -> None:
    assert str(Cost(0.05, 3.0)) == "3 s beside steps of 60 s (5 %)"
    assert str(Cost(2.0, 0.1)) == "100 ms beside steps of 50 ms (within the half second to begin with)"
    assert str(Cost(2.0, 1.0)) == "1 s beside steps of 500 ms (200 %)"
    begun = Cost(0.25, 1.0, later=0.04)
    assert str(begun) == "1 s beside steps of 4 s (25 %; 4 % after the beginning)"
    assert str(Cost(0.05, 3.0, later=0.05)) == "3 s beside steps of 60 s (5 %)"
    assert str(Cost(0.02, 3.0, streams=4)) == "3 s (at most 2 % of the time of the steps of a stream)"
    assert str(Cost(0.0, 0.0)) == str(Cost(0.0, float("nan"))) == "0 % of the time of the steps"


def test_a_healthy_run_says_what_was_checked_and_what_was_not(tmp_path: Path) -> None:
    run = healthy_run(tmp_path / "run")
    calm = Diagnosis((), ("diverging", "dead-units"), {"overfitting": "no evaluation was seen"})
    text = findings_text(run, calm, {})
    assert headline(run, calm) == "Nothing wrong was found in 2 of 3 checks"
    assert "found nothing wrong: diverging, dead-units" in text
    assert "overfitting: no evaluation was seen" in text


def test_a_run_without_a_step_claims_nothing(tmp_path: Path) -> None:
    run = empty_run(tmp_path / "run")
    text = findings_text(run, diagnose(run), {})
    assert "No training step was seen" in text and "failed: FileNotFoundError: no such file: data.csv" in text
    assert "Nothing wrong" not in text and text.count("the run has no steps") == 1
    assert "not seen" not in text  # the script's own error says why
    writer = RecordWriter(tmp_path / "other")
    writer.event("", -1, "exit", data={"code": 0, "signal": 0})
    writer.close()
    other = open_run(tmp_path / "other")
    text = summary_text(other, diagnose(other), {})
    assert "No training step was seen" in text and "not seen: whatever trained here" in text
    assert "`with vario.watch(model," in text


def test_a_run_that_failed_is_not_called_well(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    writer.readings("model", 0, [Reading("loss/train", 1.0)])
    writer.event("", 0, "exit", data={"signal": 9})
    writer.close()
    assert headline(open_run(tmp_path / "run"), Diagnosis((), ("diverging",))) == (
        "The run was killed, and no check says why"
    )
    assert ending(open_run(tmp_path / "run")) == "killed by signal 9"
    for data, said in (
        ({"code": 3}, "failed with exit code 3"),
        ({"error": "KeyError: a"}, "failed: KeyError: a"),
    ):
        writer = RecordWriter(tmp_path / said)
        writer.event("", 0, "exit", data=data)
        writer.close()
        assert ending(open_run(tmp_path / said)) == said


def test_advice_alone_is_no_illness(tmp_path: Path) -> None:
    run = healthy_run(tmp_path / "run")
    hint = Diagnosis((finding("batch-too-small", severity="advice"),), ("batch-too-small",))
    assert headline(run, hint) == "Nothing wrong was found in 1 of 1 checks; some advice"


def test_a_broken_instrument_is_named_and_a_published_method_marked(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    writer.event(
        "model", 4, "switched_off", data={"instrument": "weights", "error": "ZeroDivisionError: division"}
    )
    writer.close()
    item = finding("diverging", evidence("loss", 9.0, 9.0, 9.0))
    cures = {
        item: (
            Prescription("do this"),
            Prescription("A paper (not in vario yet)", paper="P001", available=False),
        )
    }
    text = findings_text(open_run(tmp_path / "run"), Diagnosis((item,), ("diverging",)), cures)
    assert "switched off: weights (ZeroDivisionError: division)" in text
    assert "try: do this" in text and "published, not in vario yet: A paper (P001)" in text
    assert "what vario itself took was not measured" in text
