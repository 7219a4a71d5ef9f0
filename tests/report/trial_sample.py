"""A trial as it comes from the engine, made once for the tests of its reports."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.trials.simulated import simulate
from vario.trials.measure import Course
from vario.trials.result import Trial


def course_of(arm: str, seed: int) -> Course:
    """AdamW ends 0.15 lower at 1.3 times the time; every other treatment 0.1 higher."""
    shared = 0.1 * np.random.default_rng(seed).standard_normal()
    own = np.random.default_rng([seed, len(arm)]).standard_normal(100)
    at = np.arange(10, 1001, 10.0)
    effect = {"baseline": 0.0, "AdamW": -0.15}.get(arm.partition(" [")[0], 0.1)
    values = 2 * np.exp(-at / 300) + 0.3 + shared + 0.02 * own + effect * at / 1000
    slower = 1.3 if arm == "AdamW" else 1.0
    total = {"steps": 1000.0, "examples": 32000.0, "time": 100 * slower}
    return Course(at, values, 32 * at, 0.1 * slower * at, total, 2.0, 0.5, 0.1 * slower, 3e8)


@cache
def sample() -> Trial:
    """AdamW helps, `SGD:lr=0.1` hurts and fails once; a control; tuned."""
    with TemporaryDirectory() as place:
        return simulate(
            lambda *run: "exit code 1: ValueError: <b>x</b>" if run == ("SGD:lr=0.1", 2) else 0.0,
            Path(place), with_=("AdamW", "SGD:lr=0.1"), course_of=course_of, seeds=20,
            tune=("lr=0.1,0.3",), control="random",
        )  # fmt: skip
