"""Fits the map from a rule's own confidence to the share of right findings, on the programs for tuning only.

python -m bench.diagnosis --half tuning --calibrate     # prints the numbers of vario/rules/_calibration.py

Two numbers serve all rules, so that the map rises strictly and a few hundred findings suffice. Both are drawn
towards "leave it as it is" by a prior worth two findings on either side, without which rules that were never
wrong would be called certain; and the slope is at most 1, since only wrong findings could show that
confidences should be spread further apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bench.diagnosis.score import Outcome, alarms_and_truth
from vario.rules._calibration import stated

PRIOR = 2.0  # findings


def fitted(outcomes: list[Outcome]) -> str:
    """The lines of numbers for ``vario/rules/_calibration.py``."""
    if any(o.case.held_out for o in outcomes):
        raise ValueError("confidence is fitted on the programs for tuning only: add --half tuning")
    sure, right = alarms_and_truth(outcomes)
    given = np.clip([stated(value) for value in sure], 0.01, 0.99)
    given = np.log(given / (1 - given))

    def cost(at: NDArray[np.float64]) -> float:
        raised = at[0] + at[1] * given
        misfit = np.logaddexp(0, -raised) * right + np.logaddexp(0, raised) * (1 - right)
        return float(misfit.sum() + PRIOR * (at[0] ** 2 + (at[1] - 1) ** 2))

    intercept, slope = minimize(cost, np.array([0.0, 1.0]), bounds=[(None, None), (0.05, 1.0)]).x
    return (
        f"RIGHT, ALL = {int(right.sum())}, {len(right)}  # errors and warnings that the map was fitted on\n"
        f"INTERCEPT, SLOPE = {intercept:.3f}, {slope:.3f}\n"
    )
