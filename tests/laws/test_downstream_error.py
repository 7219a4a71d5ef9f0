"""Test ``vario.laws.downstream_error``; the published runs are in ``test_over_training``."""

from __future__ import annotations

import numpy as np

from vario.laws.downstream_error import fit_error, predict_error


def test_planted_constants() -> None:
    loss = np.linspace(2.5, 5.0, 12)
    done = fit_error(loss, 0.86 - 2.2 * np.exp(-0.7 * loss))
    np.testing.assert_allclose([*done.coefficients, done.shape], [0.86, 2.2, 0.7], rtol=1e-5)
    assert abs(float(predict_error(done, 1e3)) - 0.86) < 1e-5
