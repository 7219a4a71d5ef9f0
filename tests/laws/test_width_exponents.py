"""Test ``vario.laws.width_exponents``."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.width_exponents import KINDS, TABLES, at_width, table, update_size

WIDTHS = (128, 256, 512, 1024)


def _net(name: str, optimizer: str, n: int, seed: int) -> tuple[list[float], list[float]]:
    """Sizes of the three layers' outputs at the start, and of what one step adds to each, at width ``n``."""
    rng, rows = np.random.default_rng(seed), table(name, optimizer)
    shapes = {"input": (n, 8), "hidden": (n, n), "output": (16, n)}
    weight = {kind: rng.standard_normal(shapes[kind]) * n ** -rows[kind].init for kind in KINDS}
    times = {kind: n ** -rows[kind].multiplier for kind in KINDS}
    x = rng.standard_normal((8, 4)) / np.sqrt(8)
    first = times["input"] * weight["input"] @ x
    second = times["hidden"] * weight["hidden"] @ np.tanh(first)
    last = times["output"] * weight["output"] @ np.tanh(second)
    back = rng.standard_normal((16, 4)) / 8  # the slope of the loss at the output: of order 1 at every width
    back_second = times["output"] * weight["output"].T @ back * (1 - np.tanh(second) ** 2)
    back_first = times["hidden"] * weight["hidden"].T @ back_second * (1 - np.tanh(first) ** 2)
    moved = []
    for kind, behind, inputs in zip(
        KINDS, (back_first, back_second, back), (x, np.tanh(first), np.tanh(second)), strict=True
    ):
        gradient = times[kind] * behind @ inputs.T
        step = np.sign(gradient) if optimizer == "adam" else gradient
        if optimizer == "shampoo":
            step = _equal_singular_values(behind, inputs)
        moved.append(times[kind] * n ** -rows[kind].lr * step @ inputs)
    return [float(np.sqrt((v**2).mean())) for v in (first, second, last)], [
        float(np.sqrt((v**2).mean())) for v in moved
    ]


def _equal_singular_values(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(G G')^-1/4 G (G' G)^-1/4 of G = left right'."""
    (q, r), (p, s) = np.linalg.qr(left), np.linalg.qr(right)
    u, _, v = np.linalg.svd(r @ s.T)
    return np.asarray(q @ u @ v @ p.T)


@pytest.mark.parametrize("key", list(TABLES))
def test_a_net_starts_and_moves_as_its_row_says(key: tuple[str, str]) -> None:
    sizes = [np.mean([_net(*key, n, seed) for seed in range(3)], axis=0) for n in WIDTHS]
    slopes = np.polyfit(np.log(WIDTHS), np.log(np.array(sizes).reshape(len(WIDTHS), -1)), 1)[0]
    rows = table(*key)
    fan_in = {"input": 0.0, "hidden": 0.5, "output": 0.5}  # a sum of n independent products grows by its root
    start = [fan_in[kind] - rows[kind].multiplier - rows[kind].init for kind in KINDS]
    np.testing.assert_allclose(slopes[:2], start[:2], atol=0.1)
    assert slopes[2] == pytest.approx(start[2], abs=0.1)
    np.testing.assert_allclose(slopes[3:], list(update_size(*key).values()), atol=0.1)


def test_mup_for_sgd_in_print_is_ours_shifted() -> None:
    """P141's symmetric form: a = -1/2, 0, 1/2, b = 1/2, c = 0; (a + s, b - s, c - 2 s) is the same net."""
    for (kind, own), a, s in zip(table("mup", "sgd").items(), (-0.5, 0.0, 0.5), (0.5, 0.0, 0.5), strict=True):
        assert (own.multiplier, own.init, own.lr) == (a + s, 0.5 - s, 0.0 - 2 * s), kind


@pytest.mark.parametrize("name", ["mup", "u-mup", "mean-field", "standard-per-layer"])
def test_these_move_every_layer_by_the_same_amount_at_any_width(name: str) -> None:
    assert all(abs(power) < 1e-9 for power in update_size(name).values())


def test_shampoo_moves_every_layer_alike_only_with_the_rule() -> None:
    assert not any(update_size("mup", "shampoo").values())
    assert update_size("standard", "shampoo") == {"input": -0.5, "hidden": 0.0, "output": 0.5}
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    u, _, v = np.linalg.svd(left @ right.T)
    np.testing.assert_allclose(_equal_singular_values(left, right), u[:, :3] @ v[:3], atol=1e-10)


@pytest.mark.parametrize("name", ["standard"])
def test_these_do_not(name: str) -> None:
    assert max(update_size(name).values()) == 1.0


def test_factors_and_unknown_tables() -> None:
    hidden = at_width("hidden", 4.0)
    assert (hidden.lr, hidden.init, hidden.multiplier) == (0.25, 0.5, 1.0)
    assert at_width("output", 4.0).multiplier == 0.25
    with pytest.raises(KeyError, match="no table"):
        table("mup", "lion")
