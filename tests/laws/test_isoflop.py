"""Test ``vario.laws.isoflop``: scipy's spline, ten published exponents, refused budgets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator

from tests.laws.tables import table
from vario.laws.fit import fit
from vario.laws.isoflop import akima, disagreement, frontier
from vario.laws.two_term import TWO_TERM

KEYS = ("hparams", "warmup", "decay", "param_count", "split")


def test_the_spline_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.normal(size=9)), rng.normal(size=(4, 9))
    at = np.linspace(x[0], x[-1], 60)
    for own, row in zip(akima(x, y, at), y, strict=True):
        np.testing.assert_allclose(own, Akima1DInterpolator(x, row)(at), atol=1e-12)


def test_ten_published_exponents() -> None:
    runs, said = table("porian_rw_isoflop_points.csv"), table("porian_rw_published_fits.csv")
    for i in range(10):
        rows = np.all([runs[key] == said[key][i] for key in KEYS], axis=0)
        found = frontier(runs["flops"][rows], runs["params"][rows], runs["loss"][rows], draws=500)
        low, high = found.interval()
        assert found.exponent == pytest.approx(said["a_weighted"][i], abs=0.004)
        assert low == pytest.approx(said["a_boot_lo"][i], abs=0.01)
        assert high == pytest.approx(said["a_boot_hi"][i], abs=0.01)


def _budgets(exponent: float, *, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = []
    for c in np.geomspace(1e17, 1e20, 7):
        best = 1e7 * (c / 1e17) ** exponent
        for n in best * np.exp(np.linspace(-1.5, 1.5, 9) + shift):
            rows.append((c, n, 3 + 0.1 * np.log(n / best) ** 2))
    return tuple(np.array(rows).T)  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["akima", "cubic"])
def test_a_planted_frontier(method: str) -> None:
    found = frontier(*_budgets(0.5), draws=200, method=method)
    assert found.exponent == pytest.approx(0.5, abs=0.01) and not found.dropped
    assert disagreement(found, np.random.default_rng(0).normal(0.5, 0.01, 200)) is None
    assert "misspecified" in str(disagreement(found, np.random.default_rng(0).normal(0.8, 0.01, 200)))


def test_a_minimum_at_the_edge_drops_the_budget() -> None:
    with pytest.raises(ValueError, match="best size inside"):
        frontier(*_budgets(0.5, shift=3.0), draws=50)


def test_the_law_of_the_same_runs_gives_other_exponents() -> None:
    """Fitted as a law, five of the ten configurations give exponents that their budgets do not."""
    runs, said = table("porian_rw_isoflop_points.csv"), table("porian_rw_published_fits.csv")
    for i, printed in enumerate((0.821, 0.561, 0.539, 0.586, 0.529)):
        rows = np.all([runs[key] == said[key][i] for key in KEYS], axis=0)
        done = fit(TWO_TERM, {"N": runs["params"][rows], "D": runs["tokens"][rows]}, runs["loss"][rows])
        assert TWO_TERM.derived(done.theta[None])["n_exponent"][0] == pytest.approx(printed, abs=2e-3)
