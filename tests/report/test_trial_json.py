"""Test the contract of `vario trial --json`."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from tests.report.trial_sample import sample
from vario.nouns import Verdict
from vario.report.trial_json import trial_json

KEYS = {"treatment", "verdict", "difference", "p", "probability", "pairs", "more_seeds", "cost"}


def test_the_contract() -> None:
    said = json.loads(trial_json(sample()))
    assert {"metric", "budget", "seeds", "verdicts"} <= set(said)
    assert said["metric"] == "loss" and said["budget"] == "steps" and said["seeds"] == 20
    assert [row["treatment"] for row in said["verdicts"]][:2] == ["AdamW", "SGD:lr=0.1"]
    for row in said["verdicts"]:
        assert set(row) >= KEYS and set(row["difference"]) == {"value", "low", "high"}
        assert row["verdict"] in ("helps", "hurts", "equivalent", "undecided")
    first = said["verdicts"][0]
    assert (
        first["verdict"] == "helps"
        and first["difference"]["high"] < 0
        and first["cost"] == pytest.approx(1.3)
    )
    assert first["statistics"]["p_sign"] < 0.05 and first["statistics"]["bootstrap_high"] < 0
    assert said["failures"][0]["reason"].startswith("exit code 1")
    assert set(said["budgets"]) == {"steps", "examples", "time"}


def test_what_is_not_finite_is_null() -> None:
    nothing = Verdict("AdamW", "undecided", (math.nan, -math.inf, math.inf), 1.0, 0.5, 0, 9, math.nan)
    trial = dataclasses.replace(sample(), verdicts=(nothing,), optimism=math.nan)
    said = json.loads(trial_json(trial), parse_constant=lambda name: pytest.fail(name))
    assert said["verdicts"][0]["difference"] == {"value": None, "low": None, "high": None}
    assert said["verdicts"][0]["cost"] is None and said["optimism"] is None
