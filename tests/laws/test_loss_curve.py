"""Test ``vario.laws.loss_curve``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.fit import fit, predict
from vario.laws.loss_curve import LOSS_CURVE, after_warmup

TRUTH = np.array([[np.log(8e13), 0.08, np.log(2e3), 0.7, np.log(2e8), 1 / 0.21]])


def _runs() -> dict[str, np.ndarray]:
    rows = [
        (n, s, b) for n in (1e6, 4e6, 16e6, 6e7) for b in (3e4, 1e5, 5e5) for s in np.geomspace(300, 3e4, 20)
    ]
    return dict(zip("NSB", np.array(rows).T, strict=True))


def test_the_loss_solves_its_own_equation() -> None:
    x = _runs()
    loss = predict(LOSS_CURVE, TRUTH, x)[0]
    bcrit = 2e8 / loss ** (1 / 0.21)
    by_hand = (8e13 / x["N"]) ** 0.08 + (2e3 / (x["S"] / (1 + bcrit / x["B"]))) ** 0.7
    np.testing.assert_allclose(loss, by_hand, rtol=1e-8)
    assert LOSS_CURVE.critical_batch(TRUTH, 3.0)[0] == pytest.approx(2e8 / 3 ** (1 / 0.21))


def test_planted_constants_and_a_model_a_hundred_times_larger() -> None:
    x = _runs()
    loss = predict(LOSS_CURVE, TRUTH, x)[0] * np.exp(
        0.01 * np.random.default_rng(0).standard_normal(len(x["N"]))
    )
    done = fit(LOSS_CURVE, x, loss, delta="auto")
    assert done.theta[1] == pytest.approx(0.08, rel=0.05) and done.theta[3] == pytest.approx(0.7, rel=0.05)
    far = {"N": np.full(10, 6e9), "S": np.geomspace(1e3, 1e5, 10), "B": np.repeat([6e4, 1e6], 5)}
    error = np.log(done.predict(far) / predict(LOSS_CURVE, TRUTH, far)[0])
    assert np.sqrt((error**2).mean()) < 0.01


def test_the_warm_up_is_found() -> None:
    step = np.tile(np.geomspace(10, 1e4, 60), 2)
    run = np.repeat([0, 1], 60)
    loss = 2 + 30 * step**-0.5 + np.where(step < 60, 5 * (1 - step / 60), 0.0)
    keep = after_warmup(run, step, loss)
    assert not keep[step < 50].any() and keep[step > 80].all()
