"""Test ``vario.laws.width_exponents``."""

from __future__ import annotations

import pytest

from vario.laws.width_exponents import at_width, table, update_size


@pytest.mark.parametrize("name", ["mup", "u-mup", "mean-field", "standard-per-layer"])
def test_these_move_every_layer_by_the_same_amount_at_any_width(name: str) -> None:
    assert all(abs(power) < 1e-9 for power in update_size(name).values())


@pytest.mark.parametrize("name", ["standard"])
def test_these_do_not(name: str) -> None:
    assert max(update_size(name).values()) == 1.0


def test_factors_and_unknown_tables() -> None:
    hidden = at_width("hidden", 4.0)
    assert (hidden.lr, hidden.init, hidden.multiplier) == (0.25, 0.5, 1.0)
    assert at_width("output", 4.0).multiplier == 0.25
    with pytest.raises(KeyError, match="no table"):
        table("mup", "lion")
