"""Test ``vario.rules._diagnose`` and the graph of ``_causes``: ranking, folding, and rules that break."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.test_habits import VOCABULARY
from vario.nouns import Evidence, Finding, NotApplicable
from vario.record.memory import record_of
from vario.rules import ALL, _course, diagnose
from vario.rules._causes import SYMPTOMS, consequences
from vario.rules._diagnose import rank
from vario.rules._evidence import reaching


@pytest.fixture(autouse=True)
def _told_in_whole_sentences() -> None:
    """Not here: these findings are made up, and have what they are ranked by."""


def found(name, severity="warning", confidence=0.8, stream="model"):
    return Finding(name, severity, confidence, (), (0, 9), (), stream=stream)


def rule(name, answer):
    def check(record):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(ID=name, CARD={}, check=check)


def test_a_cause_stands_above_its_symptoms_and_is_as_grave_as_they_are():
    ranked = rank(
        [
            found("non-finite", "error", 0.99),
            found("overfitting", "warning", 0.95),
            found("diverging", "error", 0.95),
            found("learning-rate-too-high", "warning", 0.7),
        ]
    )
    assert [f.id for f in ranked] == ["learning-rate-too-high", "overfitting", "non-finite", "diverging"]
    assert [f.explained_by for f in ranked] == ["", "", "learning-rate-too-high", "learning-rate-too-high"]
    assert [f.severity for f in ranked] == ["error", "warning", "error", "error"]


def test_a_class_that_is_never_said_explains_a_held_out_loss_that_rises_while_answers_get_better():
    for low, first in ((0.01, "class-neglected"), (-0.01, "overfitting")):
        gain = Evidence("gain of the mean recall since", 0.03, low, 0.05, 0.0)
        worse = replace(found("overfitting", "advice", 0.95), evidence=(gain,))
        assert rank([worse, found("class-neglected", "advice", 0.9)])[0].id == first


def test_mixed_batches_in_the_same_order_explain_nothing_and_sorted_ones_do():
    order = Evidence("share of batches in the same order", 1.0, 0.95, 1.0, 0.9)
    for more, first in (
        ((), "learning-rate-too-high"),
        ((Evidence("sorting of batches", 0.9, 0.8, 1.0, 0.3),), "unshuffled-data"),
    ):
        unmixed = replace(found("unshuffled-data", "advice", 0.8), evidence=(*more, order))
        ranked = rank([unmixed, found("learning-rate-too-high", "error", 0.97)])
        assert ranked[0].id == first and ranked[0].severity == "error"
        assert bool(ranked[1].explained_by) == bool(more)


def test_labels_that_only_a_failing_run_speaks_against_stand_below_what_explains_that_it_fails():
    path = (Evidence("path of the weights", 3.0, 3.0, 3.0, 0.5),)
    for evidence, below in ((path, True), ((), False)):
        labels = replace(found("label-noise", "advice", 0.5), evidence=evidence)
        ranked = rank([labels, found("learning-rate-too-high", "error", 0.9), found("loss-plateau")])
        assert [bool(f.explained_by) for f in ranked if f.id == "label-noise"] == [below]
    assert [f.id for f in rank([replace(labels, evidence=path), found("loss-plateau")])][0] == "label-noise"


def test_a_net_of_one_unit_is_no_witness_against_labels():
    ranked = rank([found("label-noise", "error", 0.8), found("symmetric-initialization", "warning", 0.95)])
    assert [f.id for f in ranked] == ["symmetric-initialization", "label-noise"]


def test_what_explains_that_the_run_failed_stands_above_what_is_merely_so():
    ranked = rank(
        [
            found("class-imbalance", "warning", 0.95),
            found("unnormalized-inputs", "warning", 0.7),
            found("loss-plateau", "warning", 0.8),
        ]
    )
    assert [f.id for f in ranked] == ["unnormalized-inputs", "class-imbalance", "loss-plateau"]


def test_wrong_labels_explain_a_class_that_is_not_recognised():
    ranked = rank([found("class-neglected", confidence=0.9), found("label-noise", confidence=0.7)])
    assert [f.id for f in ranked] == ["label-noise", "class-neglected"]


def test_classes_that_are_rare_in_training_explain_a_gap_to_even_held_out_data():
    ranked = rank([found("memorization", confidence=0.9), found("class-imbalance", confidence=0.85)])
    assert [f.id for f in ranked] == ["class-imbalance", "memorization"]


def test_a_held_out_loss_that_rises_explains_answers_from_memory_and_strong_dropout_dead_units():
    ranked = rank([found("memorization", "advice", 0.9), found("overfitting", "advice", 0.7)])
    assert [f.id for f in ranked] == ["overfitting", "memorization"]
    ranked = rank([found("dead-units", "warning", 0.8), found("excessive-regularization", "warning", 0.7)])
    assert [f.id for f in ranked] == ["excessive-regularization", "dead-units"]


def test_a_layer_that_is_dead_in_part_does_not_explain_what_gets_no_gradient():
    for share, first in ((0.6, "no-gradient"), (1.0, "dead-units")):
        evidence = (Evidence("share of dead units", share, share, share, 0.5),)
        dead = Finding("dead-units", "advice", 0.97, (), (0, 9), evidence, stream="model")
        assert rank([dead, found("no-gradient", "warning", 0.9)])[0].id == first


def test_a_model_that_is_mostly_left_out_explains_a_rate_that_looks_too_high():
    for share, kind, first in (
        (0.9, "in no optimizer", "parameters-not-updated"),
        (0.1, "in no optimizer", "learning-rate-too-high"),  # what is trained could learn
        (0.9, "in the optimizer but never changed", "learning-rate-too-high"),  # it may be why
    ):
        told = {"parameters never updated": 1000 * share, "all parameters": 1000.0, kind: 5.0}
        evidence = tuple(Evidence(name, value, value, value, 0.0) for name, value in told.items())
        still = Finding("parameters-not-updated", "error", 0.8, (), (0, 9), evidence, stream="model")
        rate = found("learning-rate-too-high", "error", 0.97)
        ranked = rank([rate, still, found("loss-plateau", "warning", 0.9), found("label-noise", "advice")])
        assert ranked[0].id == first, (share, kind)
        by = {f.id: f.explained_by for f in ranked}
        assert (by["label-noise"] == "") is (first == "learning-rate-too-high")
        assert by["loss-plateau"] == first
        assert by["parameters-not-updated"] == ("" if kind == "in no optimizer" else "learning-rate-too-high")


def test_a_loss_that_jumps_again_and_again_explains_answers_that_look_like_wrong_labels_or_a_lost_class():
    for count, explained in ((5.0, "loss-spikes"), (1.0, "")):
        jumps = (Evidence("number of spikes", count, count, count, 2),)
        spikes = Finding("loss-spikes", "advice", 0.75, (), (0, 9), jumps, stream="model")
        for other in ("label-noise", "class-neglected"):
            by = {f.id: f.explained_by for f in rank([found(other, "warning", 0.9), spikes])}
            assert by[other] == explained
        by = {f.id: f.explained_by for f in rank([found("label-noise", "error", 0.8), spikes])}
        assert not by["label-noise"], "labels at random were never learned, and so not lost"


def test_gradients_that_exploded_before_any_step_explain_a_rate_that_looks_too_high():
    rate, grown = found("learning-rate-too-high", "error", 0.97), found("exploding-gradients", "error", 0.9)
    assert [f.id for f in rank([grown, rate]) if not f.explained_by] == ["learning-rate-too-high"]
    at_once = replace(grown, evidence=(Evidence("the same before any step", 1e9, 1e9, 1e9, 1e3),))
    assert [f.id for f in rank([at_once, rate]) if not f.explained_by] == ["exploding-gradients"]


def test_findings_of_different_models_do_not_explain_each_other():
    ranked = rank([found("diverging", stream="netG"), found("learning-rate-too-high", stream="netD")])
    assert [f.explained_by for f in ranked] == ["", ""]


def test_what_a_cause_in_another_model_may_bring_about_comes_after_it():
    dead = found("dead-units", "error", 0.9, stream="netD")
    for severity, sure, first in (("error", 0.8, True), ("advice", 0.95, True), ("advice", 0.8, False)):
        rate = found("learning-rate-too-high", severity, sure, stream="netG")
        ranked = [f.id for f in rank([dead, rate])]
        assert ranked[0] == ("learning-rate-too-high" if first else "dead-units")


def test_what_could_not_be_measured_comes_after_an_illness_as_grave():
    ranked = rank([found("not-identified", "advice", 0.95), found("overfitting", "advice", 0.6)])
    assert [f.id for f in ranked] == ["overfitting", "not-identified"]


def test_a_rule_that_fails_is_named_and_breaks_nothing(make):
    broken = rule("broken", ZeroDivisionError("by zero"))
    unsure = rule("unsure", NotApplicable("3 readings; 30 are needed"))
    well = rule("well", None)
    ill = rule("ill", found("ill"))
    answer = diagnose(make(50), rules=[broken, unsure, well, ill])
    assert [f.id for f in answer.findings] == ["ill"]
    assert answer.checked == ("ill", "well")
    assert answer.not_applicable == {
        "broken": "failed: ZeroDivisionError: by zero",
        "unsure": "3 readings; 30 are needed",
    }


def test_no_rule_breaks_on_nothing_one_step_nan_constants_or_ten_million_steps(make):
    nan = lambda steps, values: (steps, np.full_like(values, np.nan))  # noqa: E731
    still = lambda steps, values: (steps, np.broadcast_to(values[:1], values.shape).copy())  # noqa: E731
    keys = [(name, where) for name in make().names() for where in make().wheres(name)]
    for record in (
        make(0, at=[]),
        make(1),
        make(400, dict.fromkeys(keys, nan)),
        make(400, dict.fromkeys(keys, still)),
        make(at=np.arange(0, 10_000_000, 20_000)),
    ):
        answer = diagnose(record)
        failed = {name: why for name, why in answer.not_applicable.items() if why.startswith("failed")}
        assert not failed
        assert set(answer.checked) | set(answer.not_applicable) == {name.replace("_", "-") for name in ALL}


def test_nan_at_any_step_is_found_and_breaks_nothing(make):
    for first in (0, 1, 5, 50, 399):
        broken = lambda s, v, first=first: (s, np.where(s >= first, np.nan, v))  # noqa: E731
        answer = diagnose(make(400, {"loss/train": broken, "gradient/norm": broken, "update/ratio": broken}))
        assert "non-finite" in [f.id for f in answer.findings], first
        assert not [why for why in answer.not_applicable.values() if why.startswith("failed")]


def test_a_healthy_record_gives_nothing(make):
    for seed in range(10):
        assert diagnose(make(seed=seed)).findings == ()


def test_the_graph_names_known_findings_and_has_no_cycle():
    assert set(SYMPTOMS) | {s for symptoms in SYMPTOMS.values() for s in symptoms} <= set(VOCABULARY)
    assert not [cause for cause in SYMPTOMS if cause in consequences(cause)]
    assert "non-finite" in consequences("learning-rate-too-high")


def test_nan_that_came_from_another_model_of_the_run_is_listed_below_its_cause():
    def found(id, stream, sure):
        return Finding(id, "error", sure, (), (0, 9), (), stream=stream)

    ranked = rank([found("non-finite", "netG", 0.99), found("non-finite-input", "netD", 0.98)])
    assert [(f.id, f.explained_by) for f in ranked] == [
        ("non-finite-input", ""),
        ("non-finite", "non-finite-input"),
    ]
    other = rank([found("loss-plateau", "netG", 0.99), found("non-finite-input", "netD", 0.98)])
    assert [f.explained_by for f in other] == ["", ""]


def test_a_loss_that_rises_beside_an_opponent_is_no_failure_but_other_signs_count(make):
    one = rule("one", found("one"))
    one.CARD = {"alone": "worse"}
    better = make(400, stream="netD")
    worse = make(400, {"loss/train": lambda steps, loss: (steps, loss[::-1].copy())}, stream="netG")
    stuck = make(400, {"loss/train": 2.303}, stream="netG")
    assert diagnose([worse], rules=[one]).findings
    assert [f.stream for f in diagnose([better, worse], rules=[one]).findings] == ["netD"]
    thrown = {"loss/train": lambda steps, loss: (steps, loss[::-1].copy()), "update/ratio": 0.5}
    own = make(400, thrown, stream="netG")  # no opponent replaces its weights at each step
    assert {f.stream for f in diagnose([better, own], rules=[one]).findings} == {"netD", "netG"}
    assert [f.stream for f in diagnose([better, stuck], rules=[one]).findings] == ["netD", "netG"]


def test_the_course_of_the_loss_is_found_once_for_each_stream_and_anew_in_each_look(monkeypatch):
    asked = []
    real = _course._course
    monkeypatch.setattr(
        _course, "_course", lambda record, clear: asked.append(record.stream) or real(record, clear)
    )
    steps = np.arange(200)
    losses = np.exp(-steps / 50)
    records = [record_of({"loss/train": (steps, losses)}, stream=stream) for stream in ("a", "b")]
    diagnose(records)
    assert sorted(asked) == ["a", "b"]
    diagnose(records)
    assert len(asked) == 4


def test_what_was_found_at_one_width_of_intervals_is_not_taken_for_another():
    draw = np.random.default_rng(0)
    record = record_of({"loss/train": (range(200), 1 + draw.random(200))}).keeping()
    narrow = _course.course(record).end
    with reaching(4.0):
        wide = _course.course(record).end
    assert wide.low < narrow.low and wide.high > narrow.high
    assert _course.course(record, count=3).end == narrow


def test_dropout_that_lets_a_fifth_through_explains_a_rate_that_looks_too_high_and_less_does_not():
    rate = Finding("learning-rate-too-high", "error", 0.8, (), (0, 9), ())
    for strongest, below in ((0.9, "excessive-regularization"), (0.6, "")):
        told = (Evidence("strongest dropout", strongest, strongest, strongest, 0.5),)
        dropout = Finding("excessive-regularization", "warning", 0.75, (), (0, 9), told)
        assert {f.id: f.explained_by for f in rank([rate, dropout])}["learning-rate-too-high"] == below


def test_gradients_that_a_missing_optimizer_would_have_cleared_are_listed_below_it():
    carried = Finding("gradients-accumulate", "error", 0.97, (), (0, 9), ())
    sizes = [("parameters never updated", 10.0), ("all parameters", 30.0), ("in no optimizer", 10.0)]
    missing = Finding(
        "parameters-not-updated", "error", 0.95, (), (0, 9), tuple(Evidence(n, v, v, v, 0) for n, v in sizes)
    )
    frozen = replace(missing, evidence=missing.evidence[:2])
    assert [f.id for f in rank([carried, missing])] == ["parameters-not-updated", "gradients-accumulate"]
    assert rank([carried, frozen])[0] == carried
