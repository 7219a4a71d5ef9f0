"""From a rule's own confidence to the share of findings that turned out right on runs with known causes.

A rule says how far its evidence lies past its limits; how often such a finding is right only labelled runs
tell. The map is logit(p') = INTERCEPT + SLOPE * logit(p), strictly rising: no order of findings changes.
It raises confidence only as far as the runs show with 95 % confidence, each run counted once, so a few dozen
runs without a wrong finding leave it where it was. ``python -m bench.diagnosis --half tuning --calibrate``
prints the numbers; the programs of the other half, which had no part in them, judge it.
"""

from __future__ import annotations

import math

__all__ = ["calibrated", "stated"]

RIGHT, ALL, RUNS = 132, 133, 62  # errors and warnings that the map was fitted on
INTERCEPT, SLOPE = 0.000, 1.000


def calibrated(confidence: float) -> float:
    """The share of right findings among those of this confidence; ends at 0.01 and 0.99."""
    given = min(max(confidence, 0.01), 0.99)
    raised = INTERCEPT + SLOPE * math.log(given / (1 - given))
    return round(min(max(1 / (1 + math.exp(-raised)), 0.01), 0.99), 3)


def stated(confidence: float) -> float:
    """The rule's own confidence behind a calibrated one."""
    given = min(max(confidence, 0.01), 0.99)
    return 1 / (1 + math.exp(-(math.log(given / (1 - given)) - INTERCEPT) / SLOPE))
