"""Test ``vario.laws.power``."""

from __future__ import annotations

import numpy as np

from tests.laws.tables import table
from vario.laws.fit import fit
from vario.laws.power import POWER, POWER_FLOOR, POWER_SHIFTED


def test_planted_constants() -> None:
    x = np.geomspace(10, 1e6, 25)
    np.testing.assert_allclose(fit(POWER, {"x": x}, 5 * x**-0.3).theta, [np.log(5), 0.3], rtol=1e-6)
    np.testing.assert_allclose(
        fit(POWER_FLOOR, {"x": x}, 2 + 5 * x**-0.3).theta, [np.log(2), np.log(5), 0.3], rtol=1e-4
    )
    np.testing.assert_allclose(
        fit(POWER_SHIFTED, {"x": x}, 5 * (x + 100) ** -0.3).theta, [np.log(5), 0.3, np.log(100)], rtol=1e-3
    )


def test_translation_models_foretell_their_largest_set() -> None:
    data = table("nmt.csv")
    errors = []
    for model in np.unique(data["model"]):
        rows = (data["model"] == model) & (data["training"] == 1)
        held = (data["model"] == model) & (data["training"] == 0)
        done = fit(POWER_FLOOR, {"x": data["examples"][rows]}, data["loss"][rows])
        errors.append(abs(done.predict({"x": data["examples"][held]})[0] / data["loss"][held][0] - 1))
    assert np.median(errors) < 0.05
