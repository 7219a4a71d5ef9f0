"""A trial as JSON for other programs: the contract of ``vario trial --json``.

Strict JSON: a number that is not finite is ``null``; an interval that is open has ``"low": null`` or
``"high": null``. ``cost`` is the time of a usual step over that of the
baseline. Beside the contract's keys stand where the metric comes from and why runs failed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from vario.nouns import Verdict
from vario.trials.result import Trial

__all__ = ["trial_dict", "trial_json"]


def trial_json(trial: Trial) -> str:
    """The verdicts of a trial as JSON text, in the order of the treatments."""
    return json.dumps(trial_dict(trial), indent=2, ensure_ascii=False, allow_nan=False)


def trial_dict(trial: Trial) -> dict[str, Any]:
    """The same as plain dicts and lists."""
    return {
        "metric": trial.metric,
        "budget": trial.budget,
        "seeds": trial.seeds,
        "verdicts": [{**_verdict(v), **_known(trial, v.treatment)} for v in trial.verdicts],
        "metric_source": trial.metric_source,
        "higher_is_better": trial.higher_is_better,
        "trial": trial.id,
        "path": str(trial.path),
        "pairs": trial.pairs,
        "budgets": {name: [_verdict(v) for v in rows] for name, rows in trial.budgets.items()},
        "against_control": [_verdict(v) for v in trial.against_control],
        "optimism": _number(trial.optimism),
        "tuning": _finite(trial.tuning),
        "failures": [
            {"treatment": f.arm, "seed": f.seed, "reason": f.reason, "run": f.path} for f in trial.failures
        ],
        "notes": list(trial.notes),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    value, low, high = verdict.difference
    return {
        "treatment": verdict.treatment,
        "verdict": verdict.verdict,
        "difference": {"value": _number(value), "low": _number(low), "high": _number(high)},
        "p": _number(verdict.p),
        "probability": _number(verdict.probability),
        "pairs": verdict.pairs,
        "more_seeds": verdict.more_seeds,
        "cost": _number(verdict.cost),
        "cost_interval": dict(zip(("low", "high"), map(_number, verdict.cost_interval), strict=True)),
    }


def _known(trial: Trial, name: str) -> dict[str, Any]:
    arm = trial.arm(name)
    return {
        "role": arm.role,
        "reason": arm.reason,
        "notes": trial.notes_on(name),
        "variance_removed": _number(arm.variance_removed),
        "findings": dict(arm.findings),
        "statistics": {name: _number(value) for name, value in arm.statistics.items()},
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return _number(value) if isinstance(value, float) else value
