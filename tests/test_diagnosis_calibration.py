"""The map of confidence: few data leave it as it is, many raise it, wrong findings lower it."""

from __future__ import annotations

import numpy as np
import pytest

from bench.diagnosis.calibrate import fit


def fitted(right: int, wrong: int, given: float = 0.9) -> tuple[float, float]:
    n = right + wrong
    return fit(np.full(n, given), np.repeat([1.0, 0.0], [right, wrong]), np.ones(n))


def test_a_few_dozen_right_findings_raise_nothing() -> None:
    assert fitted(60, 0) == pytest.approx((0.0, 1.0))


def test_many_right_findings_raise_it_no_further_than_they_show() -> None:
    intercept, slope = fitted(2_000, 20)  # 99 % where 90 % were stated
    raised = 1 / (1 + np.exp(-(intercept + slope * np.log(9))))
    assert 0.96 < raised < 0.99


def test_wrong_findings_lower_it() -> None:
    intercept, slope = fitted(60, 40)
    assert 1 / (1 + np.exp(-(intercept + slope * np.log(9)))) < 0.8


def test_findings_of_one_run_count_once() -> None:
    many = fit(np.full(2_000, 0.9), np.ones(2_000), np.full(2_000, 60 / 2_000))
    assert many == pytest.approx((0.0, 1.0))
