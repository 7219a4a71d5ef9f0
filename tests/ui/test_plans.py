from __future__ import annotations

import json
import math
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from tests.ui.serving import served
from vario.laws._answer import answer, load
from vario.ui.plans import plan_told


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the fit of a power law without noise, as `vario plan fit -o` keeps it, and a refusal."""
    home = tmp_path_factory.mktemp("project") / ".vario"
    home.mkdir()
    x = np.geomspace(1e4, 1e6, 8)
    table = home.parent / "runs.csv"
    table.write_text("x,loss\n" + "".join(f"{a!r},{3.0 * a**-0.2!r}\n" for a in x.tolist()))
    made = answer(table, "", law="power", delta="inf", bootstrap=50)
    (home.parent / "fit.json").write_text(json.dumps({**made.shown, "plan": made.kept}))
    two = answer(table, "N=x,D=x,loss=loss", law="two-term", bootstrap=50)
    (home / "refused.json").write_text(json.dumps({**two.shown, "plan": two.kept}))
    (home / "other.json").write_text('{"name": "no fit"}')
    (home / "cut.json").write_text('{"law": "power", "plan"')
    return home


def test_fits_are_found_beside_the_records(fitted: Path) -> None:
    with served(fitted) as asking:
        plans = {row["id"]: row for row in asking.get("/api/runs").json()["plans"]}
    assert set(plans) == {"fit", "refused"}
    assert plans["fit"]["law"] == "power" and plans["fit"]["runs"] == 8 and plans["fit"]["refused"] is None
    assert plans["refused"]["refused"]


def test_a_fit_is_told_with_its_law_and_its_band(fitted: Path) -> None:
    with served(fitted) as asking:
        told = asking.get("/api/plan/fit").json()
    assert told["inputs"] == ["x"] and told["prediction"] is None and "plan" not in told
    np.testing.assert_allclose(told["ranges"]["x"], [1e4, 1e6])
    assert told["band"][0]["inputs"]["x"] == pytest.approx(1e4)
    assert told["band"][-1]["inputs"]["x"] == pytest.approx(3e7)
    for point in told["band"]:
        assert point["value"] == pytest.approx(3.0 * point["inputs"]["x"] ** -0.2, rel=1e-3)
        assert point["low"] <= point["value"] <= point["high"]
    assert told["band"][-1]["decades"] == pytest.approx(math.log10(30), rel=1e-6)


def test_a_forecast_is_that_of_the_command_line(fitted: Path) -> None:
    plan = load(fitted.parent / "fit.json")
    with served(fitted) as asking:
        told = asking.get("/api/plan/fit?at=" + quote("x=1e7")).json()["prediction"]
        assert told["inputs"] == {"x": 1e7}
        for key, value in plan.at({"x": 1e7}).items():
            assert told[key] == pytest.approx(value)
        for wrong in ("y=1", "x=-1", "x"):
            answered = asking.get("/api/plan/fit?at=" + quote(wrong))
            assert answered.status == 400 and "error" in answered.json()


def test_a_refusal_is_told_with_its_reason_and_nothing_is_drawn(fitted: Path) -> None:
    told = plan_told(fitted, "refused")
    assert told["refused"] and told["band"] == []


def test_an_unknown_fit_is_not_found_and_none_is_read_from_elsewhere(fitted: Path) -> None:
    (fitted.parent.parent / "outside.json").write_text((fitted.parent / "fit.json").read_text())
    with served(fitted) as asking:
        for name in ("other", "cut", "outside", "..%2foutside", "fit.json"):
            assert asking.get(f"/api/plan/{name}").status == 404
