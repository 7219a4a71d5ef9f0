"""Test ``vario.laws.coupled``."""

from __future__ import annotations

import numpy as np

from tests.laws.tables import planted
from vario.laws.coupled import COUPLED, KAPLAN
from vario.laws.fit import fit, predict
from vario.laws.two_term import TWO_TERM


def test_one_power_is_the_two_term_law() -> None:
    x, _ = planted(20)
    joint = np.array([[0.5, 6.0, 0.35, 1.5, 0.37, 1.0]])
    apart = np.array([[0.5, 6.0, 0.35, 7.5, 0.37]])
    np.testing.assert_allclose(predict(COUPLED, joint, x), predict(TWO_TERM, apart, x), rtol=1e-12)


def test_planted_laws_are_refitted_exactly_in_other_units() -> None:
    x, _ = planted(60)
    for law, theta in ((COUPLED, [[0.5, 4.0, 0.5, 2.0, 0.6, 0.6]]), (KAPLAN, [[30.0, 31.0, 0.08, 0.1]])):
        loss = predict(law, np.array(theta), x)[0]
        done = fit(law, {"N": x["N"] / 1e6, "D": x["D"] / 1e9}, loss * 3, delta=np.inf)
        assert done.objective < 1e-9, law.id
