"""A fitted law as it is kept in a file: what forecasts and decisions need, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vario import laws
from vario.laws._newton import Array
from vario.laws._uncertainty import Uncertainty, interval
from vario.laws.fit import Fit, Law, predict

Number = dict[str, float]  # value, low, high


@dataclass(frozen=True)
class Forecaster:
    """A law, its parameters, how sure they are, and the measured range of every input."""

    law: Law
    theta: Array
    known: Uncertainty
    ranges: dict[str, tuple[float, float]]  # logs; the product of the inputs as well
    lean: tuple[float, float] = (0.0, 0.0)  # a run weighs exp(first * log of its size + second)

    @classmethod
    def of(cls, done: Fit, known: Uncertainty) -> Forecaster:
        ranges = {
            name: (float(row.min()), float(row.max()))
            for name, row in zip(done.law.inputs, done.x, strict=True)
        }
        if len(ranges) > 1:
            whole = done.x.sum(axis=0)
            ranges["*".join(done.law.inputs)] = (float(whole.min()), float(whole.max()))
        if done.law.units == ("parameters", "tokens"):
            ratio = done.x[1] - done.x[0]
            ranges["D/N"] = (float(ratio.min()), float(ratio.max()))
        size = done.x.sum(axis=0)
        lean = np.polyfit(size, np.log(done.weights), 1) if np.ptp(size) > 0 else (0.0, 0.0)
        return cls(done.law, done.theta, known, ranges, (float(lean[0]), float(lean[1])))

    def weight(self, size: Array) -> Array:
        """What a run whose inputs have the product ``size`` weighs in the fit, 1 on average."""
        return np.asarray(np.exp(self.lean[0] * np.log(size) + self.lean[1]))

    def at(self, inputs: Mapping[str, float]) -> dict[str, float]:
        """Value with its 95 % interval for a new run, and how far beyond the runs it lies, in decades."""
        value, low, high = (float(part[0]) for part in interval(self.law, self.theta, self.known, inputs))
        return {"value": value, "low": low, "high": high, "decades": max(self.outside(inputs).values())}

    def outside(self, inputs: Mapping[str, float]) -> dict[str, float]:
        """Decades beyond the measured range, for each input and for their product."""
        logs = {name: float(np.log(inputs[name])) for name in self.law.inputs}
        if len(logs) > 1:
            logs["*".join(self.law.inputs)] = sum(logs.values())
        return {
            name: max(value - self.ranges[name][1], self.ranges[name][0] - value, 0.0) / float(np.log(10.0))
            for name, value in logs.items()
        }

    def parameters(self) -> dict[str, Number]:
        return {name: _number(self.theta[i], self.known.draws[:, i]) for i, name in enumerate(self.law.names)}

    def derived(self) -> dict[str, Number]:
        with np.errstate(over="ignore"):  # a draw may go anywhere: infinity is left out of its quantiles
            own, drawn = self.law.derived(self.theta[None]), self.law.derived(self.known.draws)
        return {name: _number(own[name][0], drawn[name]) for name in own}

    def best(self, compute: float) -> dict[str, Number | float]:
        """The best N and D for C = 6 N D, tokens per parameter, loss, and the regret of being wrong.

        ``regret``: by what share the loss rises if N* is off by one standard deviation, the worse side.
        """
        if not callable(getattr(self.law, "best_size", None)):
            raise ValueError(
                f"{self.law.id} does not know a best size; fit two-term, two-term-tied or over-training"
            )
        if not 0 < compute < np.inf:
            raise ValueError(f"a budget is a positive number of FLOPs, not {compute:g}")
        n = float(self.law.best_size(self.theta[None], compute)[0])  # type: ignore[attr-defined]
        drawn = self.law.best_size(self.known.draws, compute)  # type: ignore[attr-defined]
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        d = compute / (6.0 * n)
        loss = self.at({"N": n, "D": d})
        off = np.exp(np.array([-1.0, 1.0]) * float(np.std(np.log(drawn))) / self.known.stretch)
        own = predict(
            self.law, self.theta[None], {"N": n * np.array([1.0, *off]), "D": d / np.array([1.0, *off])}
        )[0]
        return {
            "compute": compute,
            "N": _number(n, drawn),
            "D": _number(d, compute / (6.0 * drawn)),
            "tokens_per_parameter": _number(d / n, compute / 6.0 / drawn / drawn),
            "loss": {key: loss[key] for key in ("value", "low", "high")},
            "regret": float(own[1:].max() / own[0] - 1.0),
            "decades": loss["decades"],
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, read back by ``from_dict``."""
        return {
            "law": self.law.id,
            "theta": self.theta.tolist(),
            "draws": [[float(f"{value:.9g}") for value in row] for row in self.known.draws],
            "noise": self.known.noise,
            "factor": self.known.factor,
            "bootstrap": self.known.kind,
            "bend": list(self.known.bend),
            "stretch": self.known.stretch,
            "trend": list(self.known.trend),
            "rivals": [[name, theta.tolist(), weight] for name, theta, weight in self.known.rivals],
            "missed": [list(pair) for pair in self.known.missed],
            "lean": list(self.lean),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Forecaster:
        law, draws = laws.law(kept["law"]), np.array(kept["draws"], float)
        ranges = {name: (ends[0], ends[1]) for name, ends in kept["ranges"].items()}
        known = Uncertainty(
            draws, kept["noise"], kept["factor"], np.empty(0), kept["bootstrap"],
            tuple(kept.get("bend", ())), kept.get("stretch", 1.0), tuple(kept.get("trend", ())),
            [(name, np.array(theta, float), float(weight)) for name, theta, weight in kept.get("rivals", ())],
            [(reach, error) for reach, error in kept.get("missed", ())],
            [ranges[name] for name in (*law.inputs, "*".join(law.inputs))],
        )  # fmt: skip
        lean = tuple(kept.get("lean", (0.0, 0.0)))
        return cls(law, np.array(kept["theta"], float), known, ranges, (lean[0], lean[1]))


def _number(value: float, drawn: Array) -> Number:
    """A value with the central 95 % of its draws."""
    good = drawn[np.isfinite(drawn)]
    low, high = np.quantile(good, (0.025, 0.975)) if len(good) else (np.nan, np.nan)
    return {"value": float(value), "low": float(low), "high": float(high)}
