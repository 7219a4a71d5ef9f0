"""What the fitter takes on trust of every law: its derivatives, and its parameters in the user's units."""

from __future__ import annotations

import numpy as np
import pytest

from vario import laws

HERE = 1e-6


@pytest.fixture(params=laws.LAWS)
def law(request):
    return laws.law(request.param)


def some(law, seed=0):
    """Starts of the law (s, p), and centred logs of inputs (k, n) over two decades to each side."""
    draw = np.random.default_rng(seed)
    starts = law.starts()
    theta = starts[draw.permutation(len(starts))[:30]]
    theta = theta + 0.05 * draw.standard_normal(theta.shape)
    x = draw.uniform(-4.6, 4.6, (len(law.inputs), 25))
    for row, unit in zip(x, law.units, strict=True):
        if not unit:
            row[:] = draw.uniform(0.1, 2.0, 25)  # not centred: a ratio, or a count of epochs
    return theta, np.abs(x) if law.id == "critical-batch-sfo" else x  # defined above its b0 alone


def test_derivatives_are_those_of_the_values(law):
    theta, x = some(law)
    value, slopes = law.evaluate(theta, x)
    assert value.shape == (len(theta), x.shape[1]) and slopes.shape == (
        len(theta),
        len(law.names),
        x.shape[1],
    )
    for place in range(len(law.names)):
        step = np.zeros(len(law.names))
        step[place] = HERE
        above, below = (law.evaluate(theta + sign * step, x)[0] for sign in (1, -1))
        by_difference = (above - below) / (2 * HERE)
        scale = np.abs(by_difference).max() + np.abs(value).max() * 1e-6
        assert np.abs(slopes[:, place] - by_difference).max() < 2e-5 * scale, law.names[place]


def test_parameters_in_the_users_units_say_the_same(law):
    theta, x = some(law, 1)
    centre = np.array([np.log(3e8) if unit else 0.0 for unit in law.units])  # alike for inputs of one unit
    level = np.log(2.5) if law.link == "log" else 0.0
    inside = law.evaluate(theta, x)[0] + level
    outside = law.evaluate(law.raw(theta, centre, level), x + centre[:, None])[0]
    assert np.abs(inside - outside).max() < 1e-8 * max(1.0, np.abs(inside).max())
