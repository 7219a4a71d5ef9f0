"""Which family to believe: the one that best foretold the largest of these very runs from the smaller.

Never the one with the smallest residual: more parameters always fit better and often forecast
worse. Every candidate is fitted to the smaller runs and asked about the largest tenth (or, where that
leaves too few, about a band further down). A candidate is a family, a choice of rows, a delta, and how
much the larger runs weigh: (product of the inputs)^0.4, or all alike. The 0.4, and the largest tenth in
place of all earlier forecasts alike, were chosen on published tables without their largest runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from vario import laws
from vario.laws._newton import Array
from vario.laws._refusal import UNDER_TRAINED, refusal, well_trained
from vario.laws._uncertainty import CUTS
from vario.laws.fit import Law, as_logs, fit, predict

AHEAD = 0.15  # share of the sizes, just above the cut, that a candidate is asked about


@dataclass(frozen=True)
class Candidate:
    """One family on one choice of rows, and the errors of its earlier forecasts."""

    law: str
    rows: str  # "all", or how they were chosen
    delta: float | str
    error: float  # mean relative error of the latest earlier forecast; nan where there was none
    count: int  # runs foretold
    refused: str | None = None
    lean: float = 0.0  # rows weigh (product of the inputs)^lean


def compare(
    names: Sequence[str],
    x: Mapping[str, Array],
    y: Array,
    *,
    deltas: Sequence[float | str] = (1e-3,),
    leans: Sequence[float] = (0.0,),
) -> list[Candidate]:
    """All families on all rows and, where N and D are known, on well-trained rows; best first."""
    found = []
    for name in names:
        law = laws.law(name)
        logs, _ = as_logs(law, x, y)
        for label, keep in row_choices(law, logs).items():
            reason = refusal(law, logs[:, keep])
            for delta, lean in product(deltas, leans):
                errors = np.empty(0) if reason else latest_errors(law, x, y, keep, delta=delta, lean=lean)
                mean = float(np.mean(np.abs(errors))) if len(errors) else float("nan")
                found.append(Candidate(name, label, delta, mean, len(errors), reason, lean))
    return sorted(found, key=lambda one: (one.refused is not None, np.isnan(one.error), one.error))


def row_choices(law: Law, logs: Array) -> dict[str, Array]:
    """Masks over the rows: all, and those with enough tokens per parameter where that leaves enough."""
    choices = {"all": np.ones(logs.shape[1], bool)}
    if law.units == ("parameters", "tokens"):
        trained = well_trained(law, logs)
        if not trained.all() and trained.sum() >= len(law.names) + 3:
            choices[f"D/N >= {UNDER_TRAINED:g}"] = trained
    return choices


def latest_errors(
    law: Law, x: Mapping[str, Array], y: Array, keep: Array, *, delta: float | str = 1e-3, lean: float = 0.0
) -> Array:
    """Errors (logs) of the forecast of the largest runs from the smaller of the kept rows; empty if neither.

    All rows of the band that is asked about count, kept or not: every choice of rows is held to the same.
    """
    logs, target = as_logs(law, x, y)
    size = logs.sum(axis=0)
    for share in reversed(CUTS):
        low, high = np.quantile(size, share), np.quantile(size, min(1.0, share + AHEAD))
        early, later = keep & (size <= low + 1e-9), (size > low + 1e-9) & (size <= high + 1e-9)
        if refusal(law, logs[:, early]) is not None or not later.any():
            continue
        inputs = {name: np.asarray(x[name])[early] for name in law.inputs}
        weights = leaning(logs[:, early], lean)
        done = fit(law, inputs, np.asarray(y)[early], delta=delta, weights=weights)
        said = predict(law, done.theta[None], {name: np.asarray(x[name])[later] for name in law.inputs})[0]
        return np.asarray((np.log(said) if law.link == "log" else said) - target[later])
    return np.empty(0)


def leaning(logs: Array, lean: float) -> Array:
    """Weights of mean 1 that grow as the product of the inputs to the power ``lean``."""
    size = logs.sum(axis=0)
    weights = np.exp(lean * (size - size.max()))
    return np.asarray(weights / weights.mean())
