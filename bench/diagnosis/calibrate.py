"""Fits the map from a rule's own confidence to the share of right findings, on the programs for tuning only.

python -m bench.diagnosis --half tuning --calibrate     # prints the numbers of vario/rules/_calibration.py

Two numbers serve all rules, so that the map rises strictly and a few hundred findings suffice. They are drawn
towards "leave it as it is" by a normal prior (half a logit) around 0 and 1. Findings of one run
stand and fall together, so each run counts once, however many it has. Confidence is raised only as far as is
shown: by the low end of the interval of the intercept, and not at all where that is below 0; it is lowered by
the estimate itself. The slope is at most 1, since only wrong findings could show that confidences should be
spread further apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bench.diagnosis.score import Outcome, alarms_and_truth
from vario.rules._calibration import stated

SPREAD = 0.5  # logits: how far a rule's own confidence is usually off


def fitted(outcomes: list[Outcome]) -> str:
    """The lines of numbers for ``vario/rules/_calibration.py``."""
    if any(o.case.held_out for o in outcomes):
        raise ValueError("confidence is fitted on the programs for tuning only: add --half tuning")
    with_alarms = [o for o in outcomes if o.alarms]
    sure, right = alarms_and_truth(with_alarms)
    weight = np.concatenate([np.full(len(o.alarms), 1 / len(o.alarms)) for o in with_alarms])
    intercept, slope = fit(np.array([stated(value) for value in sure]), right, weight)
    return (
        f"RIGHT, ALL, RUNS = {int(right.sum())}, {len(right)}, {len(with_alarms)}"
        "  # errors and warnings that the map was fitted on\n"
        f"INTERCEPT, SLOPE = {intercept:.3f}, {slope:.3f}\n"
    )


def fit(
    given: NDArray[np.float64], right: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Intercept and slope from confidences (n,), 1 where a finding was right (n,), and weights (n,)."""
    given = np.clip(given, 0.01, 0.99)
    given = np.log(given / (1 - given))

    def cost(at: NDArray[np.float64]) -> float:
        raised = at[0] + at[1] * given
        misfit = np.logaddexp(0, -raised) * right + np.logaddexp(0, raised) * (1 - right)
        return float((weight * misfit).sum() + (at[0] ** 2 + (at[1] - 1) ** 2) / (2 * SPREAD**2))

    intercept, slope = minimize(cost, np.array([0.0, 1.0]), bounds=[(None, None), (0.05, 1.0)]).x
    share = 1 / (1 + np.exp(-(intercept + slope * given)))
    error = ((weight * share * (1 - share)).sum() + 1 / SPREAD**2) ** -0.5
    return float(max(intercept - 1.96 * error, 0.0) if intercept > 0 else intercept), float(slope)
