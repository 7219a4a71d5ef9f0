"""Test ``vario.report.plan_charts``: every chart in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.laws.tables import planted
from vario.laws._compare import compare
from vario.laws._design import next_runs
from vario.laws._forecast import Forecaster
from vario.laws._uncertainty import uncertainty
from vario.laws.fit import fit
from vario.laws.power import POWER
from vario.laws.two_term import TWO_TERM
from vario.nouns import VarioError
from vario.report.plan_charts import compare_chart, design_chart, fit_chart, forecast_chart


def test_every_chart_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    x, loss = planted(40)
    done = fit(TWO_TERM, x, loss)
    plan = Forecaster.of(done, uncertainty(done, draws=50, backtest_draws=20))
    target = {"N": 1e11, "D": 1e12}
    fit_chart(plan, {**x, "loss": loss}, tmp_path / "fit.svg")
    forecast_chart(plan, target, tmp_path / "forecast.png")
    compare_chart(compare(["two-term", "two-term-tied"], x, loss), tmp_path / "compare.html")
    design_chart(plan, next_runs(plan, target, 1e21), target, tmp_path / "design.svg")
    assert (tmp_path / "fit.svg").read_text().count("<path") > 40
    assert (tmp_path / "forecast.png").read_bytes()[:4] == b"\x89PNG"
    assert (
        "<svg" in (tmp_path / "compare.html").read_text()
        and "http-equiv" not in (tmp_path / "compare.html").read_text()
    )
    assert (tmp_path / "design.svg").stat().st_size > 1000
    with pytest.raises(VarioError, match=r"\.png, \.svg or \.html"):
        forecast_chart(plan, target, tmp_path / "chart.pdf")


def test_nothing_to_compare_is_said_and_a_law_of_one_input_has_its_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    size = np.geomspace(1e4, 1e5, 5)
    loss = 12 * size**-0.17
    compare_chart(compare(["power", "power-floor"], {"x": size}, loss), tmp_path / "none.svg")
    assert "too few rows to look back" in (tmp_path / "none.svg").read_text()
    done = fit(POWER, {"x": size}, loss, delta=np.inf)
    plan = Forecaster.of(done, uncertainty(done, draws=50, backtest_draws=20))
    design_chart(plan, next_runs(plan, {"x": 4e5}, 3e5), {"x": 4e5}, tmp_path / "design.svg")
    assert plan.law.output in (tmp_path / "design.svg").read_text()
