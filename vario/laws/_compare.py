"""Which family to believe: the one whose earlier forecasts on these very runs were best.

Never the one with the smallest residual: more parameters always fit better and often forecast
worse. Every family is fitted to the smaller runs, asked about the next ones, five times over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vario import laws
from vario.laws._newton import Array
from vario.laws._refusal import UNDER_TRAINED, refusal
from vario.laws._uncertainty import AHEAD, CUTS
from vario.laws.fit import Law, as_logs, fit, predict


@dataclass(frozen=True)
class Candidate:
    """One family on one choice of rows, and the errors of its earlier forecasts."""

    law: str
    rows: str  # "all", or how they were chosen
    delta: float | str
    error: float  # median relative error of earlier forecasts; nan where there were none
    count: int  # forecasts
    refused: str | None = None


def compare(
    names: Sequence[str],
    x: Mapping[str, Array],
    y: Array,
    *,
    deltas: Sequence[float | str] = (1e-3,),
) -> list[Candidate]:
    """All families on all rows and, where N and D are known, on well-trained rows; best first."""
    found = []
    for name in names:
        law = laws.law(name)
        logs, _ = as_logs(law, x, y)
        for label, keep in row_choices(law, logs).items():
            reason = refusal(law, logs[:, keep])
            for delta in deltas:
                errors = np.empty(0) if reason else past_errors(law, x, y, keep, delta=delta)
                middle = float(np.median(np.abs(errors))) if len(errors) else float("nan")
                found.append(Candidate(name, label, delta, middle, len(errors), reason))
    return sorted(found, key=lambda one: (one.refused is not None, np.isnan(one.error), one.error))


def row_choices(law: Law, logs: Array) -> dict[str, Array]:
    """Masks over the rows: all, and those with enough tokens per parameter where that leaves enough."""
    choices = {"all": np.ones(logs.shape[1], bool)}
    if law.units == ("parameters", "tokens"):
        trained = logs[1] - logs[0] >= np.log(UNDER_TRAINED)
        if not trained.all() and trained.sum() >= len(law.names) + 3:
            choices[f"D/N >= {UNDER_TRAINED:g}"] = trained
    return choices


def past_errors(
    law: Law, x: Mapping[str, Array], y: Array, keep: Array, *, delta: float | str = 1e-3
) -> Array:
    """Relative errors (logs) of forecasts from the smaller of the kept rows about the next larger ones."""
    logs, target = as_logs(law, x, y)
    size = logs.sum(axis=0)
    errors = []
    for share in CUTS:
        low, high = np.quantile(size, share), np.quantile(size, min(1.0, share + AHEAD))
        early, later = keep & (size <= low + 1e-9), keep & (size > low + 1e-9) & (size <= high + 1e-9)
        if refusal(law, logs[:, early]) is not None or not later.any():
            continue
        inputs = {name: np.asarray(x[name])[early] for name in law.inputs}
        done = fit(law, inputs, np.asarray(y)[early], delta=delta)
        said = predict(law, done.theta[None], {name: np.asarray(x[name])[later] for name in law.inputs})[0]
        errors.append((np.log(said) if law.link == "log" else said) - target[later])
    return np.concatenate(errors) if errors else np.empty(0)
