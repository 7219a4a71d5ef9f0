"""Real programs, unmodified under ``vario run``, sick and healthy: the right finding first or second, or none."""  # noqa: E501

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.diagnosis.__main__ import train
from bench.diagnosis.cases import SPINE, Case, cases
from bench.diagnosis.score import Outcome, diagnosed

QUICK = (
    ("mlp", ""), ("mlp", "lr-high"), ("mlp", "no-zero-grad"), ("mlp", "nan-data"), ("mlp", "dead-relu"),
    ("mlp", "schedule-per-batch"), ("tabular", ""), ("gru", "double-softmax"),
)  # fmt: skip


def outcome(case: Case, home: Path) -> Outcome:
    train(case, home / case.name)
    records = list((home / case.name).rglob("record.sqlite"))
    assert records, (home / case.name / "output.txt").read_text()
    return diagnosed(case, records[0].parent)


def wrong(found: Outcome) -> str:
    """What is wrong with a diagnosis; "" where it is right."""
    ids = [f"{f.id} ({f.severity})" for f in found.diagnosis.findings]
    failed = [why for why in found.diagnosis.not_applicable.values() if why.startswith("failed")]
    right = found.place is not None and found.place <= 2 if found.case.fault else not found.alarms
    return "" if right and not failed else f"{found.case.name}: found {ids}, failed {failed}"


@pytest.mark.timeout(1200)  # eight trainings, on two cores that others may want too
def test_the_right_finding_is_first_or_second_and_healthy_runs_are_silent(tmp_path: Path) -> None:
    chosen = [c for c in cases(1, spine=True) if (c.program, c.fault) in QUICK]
    assert len(chosen) == len(QUICK)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda case: outcome(case, tmp_path), chosen))
    assert not [text for found in outcomes if (text := wrong(found))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("program", ["mlp", "cnn", "char_transformer", "gru", "tabular"])
def test_the_spine_on_three_seeds(program: str, tmp_path: Path) -> None:
    """Healthy runs of five families and the eleven faults named in the plan, three seeds each."""
    chosen = [c for c in cases(3, spine=True) if c.program == program]
    assert {c.fault for c in chosen} - {""} <= set(SPINE)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda case: outcome(case, tmp_path), chosen))
    assert not [text for found in outcomes if (text := wrong(found))]
