"""Test ``vario.laws.step_law`` on released runs and on planted optima."""

from __future__ import annotations

import numpy as np
import pytest

from tests.laws.tables import table
from vario.laws._refusal import cautions
from vario.laws.fit import fit
from vario.laws.power import POWER
from vario.laws.step_law import STEP_LAW, near_best, optimum, published_batch, published_lr, regret


def test_formula_by_hand() -> None:
    assert float(published_lr(1e9, 1e11)) == pytest.approx(1.79 * 10 ** (-0.713 * 9 + 0.307 * 11), rel=1e-9)
    assert float(published_batch(1e11)) == pytest.approx(0.58 * 10 ** (0.571 * 11), rel=1e-9)


def test_planted_exponents_from_noisy_optima() -> None:
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(7, 10, 40), 10 ** rng.uniform(9, 11, 40)
    lr = published_lr(n, d) * np.exp(0.02 * rng.standard_normal(40))
    done = fit(STEP_LAW, {"N": n, "D": d}, lr, delta=np.inf)
    np.testing.assert_allclose(done.theta[1:], [-0.713, 0.307], rtol=0.03)
    assert "starts-disagree" not in {one.id for one in cautions(done)}  # it has one start, and needs no more


def test_a_quadratic_cell_and_its_regret() -> None:
    u, v = np.meshgrid(np.linspace(-2, 2, 5), np.linspace(-2, 2, 5))
    lr, batch = 1e-3 * np.exp(u.ravel()), 1e5 * np.exp(v.ravel())
    loss = 3 + 0.01 * (u.ravel() - 0.3) ** 2 + 0.02 * (v.ravel() + 0.2) ** 2
    best = optimum(lr, batch, loss)
    assert best.inside and best.lr == pytest.approx(1e-3 * np.exp(0.3), rel=1e-6)
    assert best.regret(best.lr * np.e, best.batch) == pytest.approx(0.01 / 3, rel=1e-6)
    assert not optimum(lr, batch, -loss + 10).inside


def test_released_dense_runs() -> None:
    data = table("steplaw_dense.csv")
    n, d, lr, batch, loss = data["N"], data["D"], data["lr"], data["bs"] * 2048, data["smooth_loss"]
    cell = np.unique(np.stack([n, d], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    near = near_best(loss, cell)
    rate = fit(STEP_LAW, {"N": n[near], "D": d[near]}, lr[near], delta=np.inf)
    assert rate.theta[1] == pytest.approx(-0.77, abs=0.06)
    assert rate.theta[2] == pytest.approx(
        0.197, abs=0.01
    )  # .307 in print: not reproduced by the released runs
    size = fit(POWER, {"x": d[near]}, batch[near], delta=np.inf)
    assert -size.theta[1] == pytest.approx(0.613, abs=0.005)
    rows = [cell == one for one in range(cell.max() + 1)]
    lost = [
        100
        * regret(
            lr[k], batch[k], loss[k], float(published_lr(n[k][0], d[k][0])), float(published_batch(d[k][0]))
        )
        for k in rows
    ]
    assert np.mean(lost) == pytest.approx(0.104, abs=0.02) and max(lost) == pytest.approx(0.31, abs=0.01)


def test_quadratic_optima_of_the_released_runs() -> None:
    """Another way to the optima of the same 17 cells: N^-.695 D^.208, and .546 D^.569 tokens a batch."""
    data = table("steplaw_dense.csv")
    cells, cell = np.unique(np.stack([data["N"], data["D"]], axis=1), axis=0, return_inverse=True)
    rows = [cell.reshape(-1) == one for one in range(len(cells))]
    found = [optimum(data["lr"][k], data["bs"][k] * 2048, data["smooth_loss"][k]) for k in rows]
    n, d = cells.T
    rate = fit(STEP_LAW, {"N": n, "D": d}, [one.lr for one in found], delta=np.inf)
    np.testing.assert_allclose(rate.theta[1:], [-0.695, 0.208], atol=1e-3)
    size = fit(POWER, {"x": d}, [one.batch for one in found], delta=np.inf)
    coefficient = float(size.predict({"x": 1.0})[0])
    np.testing.assert_allclose([coefficient, -size.theta[1]], [0.546, 0.569], atol=1e-3)
