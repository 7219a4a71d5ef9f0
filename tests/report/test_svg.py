"""The small pictures: what a line cannot show is a dot."""

from __future__ import annotations

import numpy as np

from vario.report.svg import curve


def drawn(*values: float, spread: float = 0.0) -> str:
    mean = np.array(values)
    return curve([("arm", np.arange(7.0, 7.0 + len(mean)), mean - spread, mean, mean + spread)], "picture")


def test_a_single_point_is_a_dot_in_the_middle_with_its_interval() -> None:
    picture = drawn(0.5, spread=0.1)
    assert picture.count("<circle") == 1 and 'stroke-width="5"' in picture
    assert picture.count("step 7") == 1 and 'text-anchor="middle"' in picture
    assert 'stroke-width="5"' not in drawn(0.5, spread=np.inf) and "<circle" in drawn(0.5, spread=np.inf)


def test_points_that_a_line_joins_are_no_dots_and_those_between_gaps_are() -> None:
    assert "<circle" not in drawn(1.0, 2.0, 3.0)
    assert drawn(1.0, np.nan, 2.0, np.nan, 3.0, 4.0).count("<circle") == 2
