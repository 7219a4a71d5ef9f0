"""Scaling laws: one family per file, one fitter, intervals that cover, refusals with a reason.

Numpy only; nothing is loaded before it is named.

>>> from vario import laws
>>> laws.law("two-term").inputs
('N', 'D')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vario.laws.fit import Law

# Families that `fit` takes, by id: file and name in it.
LAWS = {
    "two-term": "two_term.TWO_TERM",
    "two-term-tied": "two_term.TWO_TERM_TIED",
    "over-training": "over_training.OVER_TRAINING",
    "coupled": "coupled.COUPLED",
    "kaplan": "coupled.KAPLAN",
    "power": "power.POWER",
    "power-floor": "power.POWER_FLOOR",
    "power-shifted": "power.POWER_SHIFTED",
    "broken-power": "broken_power.BROKEN_POWER",
    "repetition": "repetition.REPETITION",
    "loss-curve": "loss_curve.LOSS_CURVE",
    "critical-batch": "critical_batch.CRITICAL_BATCH",
    "critical-batch-bent": "critical_batch.CRITICAL_BATCH_BENT",
    "critical-batch-sfo": "critical_batch.SFO",
    "step-law": "step_law.STEP_LAW",
    "time-transfer": "time_transfer.TIME_TRANSFER",
    "rate-saturation": "rate_saturation.RATE_SATURATION",
    "rate-saturation-bent": "rate_saturation.RATE_SATURATION_BENT",
}
EXPORTS = {
    "fit": "fit.fit", "Fit": "fit.Fit", "Law": "fit.Law", "predict": "fit.predict", "profile": "fit.profile",
    "uncertainty": "_uncertainty.uncertainty", "interval": "_uncertainty.interval",
    "bootstrap": "_uncertainty.bootstrap",
    "refusal": "_refusal.refusal", "cautions": "_refusal.cautions",
}  # fmt: skip

__all__ = ["EXPORTS", "LAWS", "law"]


def law(name: str) -> Law:
    """The family with this id; a KeyError names the ones there are."""
    if name not in LAWS:
        raise KeyError(f"no law {name!r}; there are {', '.join(LAWS)}")
    found: Law = _load(LAWS[name])
    return found


def __getattr__(name: str) -> Any:
    if name in EXPORTS:
        return _load(EXPORTS[name])
    raise AttributeError(f"vario.laws has no {name!r}")


def _load(place: str) -> Any:
    file, _, attribute = place.partition(".")
    return getattr(import_module(f"vario.laws.{file}"), attribute)
