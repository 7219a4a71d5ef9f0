"""Test ``vario.rules._live``: many looks make no more false alarms than one; what is there is told."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import Finding
from vario.record import Record
from vario.record.memory import record_of
from vario.record.until import until
from vario.rules import _live, diagnose
from vario.rules._evidence import level
from vario.rules._live import ALPHA, GROWTH, LASTING, level_of, live, look_before


class AboveZero:
    """Fires where the interval of the median lies above 0."""

    ID, CARD = "above-zero", {"papers": (), "reads": ("loss/train",)}

    @staticmethod
    def check(record: Record) -> Finding | None:
        steps, values = record.need("loss/train", 20)
        found = level(values)
        where = (int(steps[0]), int(steps[-1]))
        return Finding("above-zero", "warning", 0.9, (), where, ()) if found.low > 0 else None


class Present(AboveZero):
    """Fires from step 100 to step 300, and never says "not yet"."""

    ID = "present"

    @staticmethod
    def check(record: Record) -> Finding | None:
        inside = 100 <= record.step_count <= 300
        return Finding("present", "error", 0.9, (), (100, 300), ()) if inside else None


def curve(values: np.ndarray) -> Record:
    return record_of({"loss/train": (np.arange(len(values)), values)})


def told(record: Record, rules: list[object]) -> list[int]:
    """The numbers of steps at which something is announced, asking after each look and before the next."""
    asked = sorted({n for k in range(1, 20) for n in (_live._steps_at(k), _live._steps_at(k + 1) - 1)})
    return [n for n in asked if n <= record.step_count and live([until(record, n)], rules).findings]


def test_levels_of_all_looks_together_are_those_of_one() -> None:
    assert sum(level_of(k) for k in range(1, 200_000)) == pytest.approx(ALPHA, rel=1e-4)


def test_looks_come_at_fixed_steps_however_often_somebody_asks() -> None:
    numbers = [look_before(n) for n in range(2_000)]
    assert numbers[19] == 0 and numbers[20] == 1 and sorted(set(numbers)) == list(range(22))


def test_many_looks_at_nothing_find_no_more_than_one() -> None:
    """Of 60 records whose true median is 0: one look at 95 % finds 2.5 % of them above it."""
    draw = np.random.default_rng(0)
    careless, careful = 0, 0
    for _ in range(60):
        record = curve(draw.standard_normal(1_500))
        looks = range(1, look_before(record.step_count) + 1)
        cut = [until(record, _live._steps_at(k)) for k in looks]
        careless += any(diagnose([r], [AboveZero]).findings for r in cut)
        careful += any(_live._look([record], k, [AboveZero]).findings for k in looks)
    assert careful <= 6 < careless  # 6 of 60: the 97.5 % quantile at a rate of 5 %


def test_what_is_there_is_still_found() -> None:
    record = curve(0.5 + np.random.default_rng(1).standard_normal(500))
    assert 20 < told(record, [AboveZero])[0] < 400


def test_a_finding_is_told_when_it_lasts_and_taken_back_when_it_goes() -> None:
    steps = told(curve(np.ones(500)), [Present])
    assert 100 * GROWTH ** (LASTING - 1) <= steps[0] <= 100 * GROWTH**LASTING
    assert 300 <= steps[-1] <= 300 * GROWTH


def test_what_has_not_come_yet_is_not_told_early() -> None:
    flat = 2.3 + 0.01 * np.random.default_rng(2).standard_normal(1_300)
    rules = ["loss_plateau"]
    assert diagnose(curve(flat[:200]), rules).findings
    assert told(curve(flat), rules)[0] >= 1_000


def test_a_loss_that_breaks_is_told_at_once() -> None:
    loss = np.linspace(2.0, 1.0, 30)
    loss[24:] = np.nan
    found = live([curve(loss)], ["non_finite"]).findings
    assert [f.id for f in found] == ["non-finite"]


def test_silence_is_never_ambiguous() -> None:
    early = live([curve(np.ones(5))], ["loss_plateau"])
    assert early.not_applicable == {"loss-plateau": "5 steps; a run that goes on is first looked at after 20"}
    waits = live([curve(np.ones(125))], [Present])
    assert not waits.findings and not waits.checked and "told if it lasts" in waits.not_applicable["present"]
