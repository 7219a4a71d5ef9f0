"""Test ``vario.rules._calibration``: rising, undone by its inverse, applied to every finding."""

from __future__ import annotations

import numpy as np
import pytest

from vario.rules import _calibration as calibration
from vario.rules import diagnose


def test_the_map_rises_strictly_and_stays_within_its_ends(monkeypatch):
    monkeypatch.setattr(calibration, "INTERCEPT", 0.4)
    monkeypatch.setattr(calibration, "SLOPE", 0.7)
    given = np.arange(0.02, 0.99, 0.01)
    told = [calibration.calibrated(p) for p in given]
    assert (np.diff(told) > 0).all() and 0.01 <= min(told) and max(told) <= 0.99
    assert [calibration.stated(p) for p in told] == pytest.approx(given, abs=0.01)
    assert calibration.calibrated(0.5) == pytest.approx(1 / (1 + np.exp(-0.4)), abs=1e-3)


def test_a_finding_carries_the_calibrated_confidence(make, monkeypatch):
    stuck = make(400, {"loss/train": 2.303})
    monkeypatch.setattr(calibration, "INTERCEPT", 0.0)
    monkeypatch.setattr(calibration, "SLOPE", 1.0)
    own = diagnose(stuck, ["loss_plateau"]).findings[0].confidence
    monkeypatch.setattr(calibration, "INTERCEPT", -3.0)
    assert diagnose(stuck, ["loss_plateau"]).findings[0].confidence < own
