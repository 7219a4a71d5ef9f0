"""Test ``vario.laws.width_exponents``."""

from __future__ import annotations

from typing import Any

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
            step = _equal_singular_values(times[kind] * behind, inputs)
        if optimizer == "kfac":
            step = _over_its_square(times[kind] * behind) @ _over_its_square(inputs).T
        moved.append(times[kind] * n ** -rows[kind].lr * step @ inputs)
    return [float(np.sqrt((v**2).mean())) for v in (first, second, last)], [
        float(np.sqrt((v**2).mean())) for v in moved
    ]


def _equal_singular_values(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(G G')^-1/4 G (G' G)^-1/4 of G = left right'."""
    (q, r), (p, s) = np.linalg.qr(left), np.linalg.qr(right)
    u, _, v = np.linalg.svd(r @ s.T)
    return np.asarray(q @ u @ v @ p.T)


def _over_its_square(signal: np.ndarray, damping: float = 1e-3) -> np.ndarray:
    """(S + damping tr(S) I)^-1 signal, of S = signal signal' / m: one side of a step of K-FAC, (n, m)."""
    inner = signal.T @ signal / signal.shape[1]
    return signal @ np.linalg.inv(inner + damping * np.trace(inner) * np.eye(len(inner)))  # type: ignore[no-any-return]


def _slopes(key: tuple[str, str], widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    sizes = [np.mean([_net(*key, n, seed) for seed in range(3)], axis=0) for n in widths]
    return np.polyfit(np.log(widths), np.log(np.array(sizes).reshape(len(widths), -1)), 1)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("key", list(TABLES))
def test_a_net_starts_and_moves_as_its_row_says(key: tuple[str, str]) -> None:
    slopes = _slopes(key)
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


def test_shampoo_and_k_fac_move_every_layer_alike_only_with_the_rule() -> None:
    assert not any(update_size("mup", "kfac").values())
    assert update_size("standard", "kfac") == {"input": -0.5, "hidden": -0.5, "output": 0.0}
    assert not any(update_size("mup", "shampoo").values())
    assert update_size("standard", "shampoo") == {"input": -0.5, "hidden": 0.0, "output": 0.5}
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    u, _, v = np.linalg.svd(left @ right.T)
    np.testing.assert_allclose(_equal_singular_values(left, right), u[:, :3] @ v[:3], atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["shampoo", "kfac"])
def test_one_step_over_thirty_two_times_the_width(optimizer: str) -> None:
    """P263: slopes of what each layer moves, widths 64 to 2,048."""
    widths = (64, 128, 256, 512, 1024, 2048)
    kept, left = (_slopes((name, optimizer), widths)[3:] for name in ("mup", "standard"))
    print(optimizer, kept.round(3), left.round(3))
    assert np.abs(kept).max() < 0.1 < 0.3 < np.abs(left).max()


def test_a_side_of_k_fac_is_the_damped_inverse() -> None:
    signal = np.random.default_rng(0).standard_normal((7, 3))
    whole = signal @ signal.T / 3
    damped = np.linalg.inv(whole + 1e-3 * np.trace(whole) * np.eye(7))
    np.testing.assert_allclose(_over_its_square(signal), damped @ signal, atol=1e-9)


@pytest.mark.slow
def test_the_best_rate_of_shampoo_stays_put_on_digits() -> None:
    """P263: eight times the width, rates a factor of 2 apart; each step by its own gradient alone."""
    torch, datasets = pytest.importorskip("torch"), pytest.importorskip("sklearn.datasets")
    from vario.methods.optimizers.shampoo import Shampoo

    images, labels = (torch.tensor(one) for one in datasets.load_digits(return_X_y=True))
    images = ((images - images.mean(0)) / images.std()).float()
    entropy, rates = torch.nn.functional.cross_entropy, [2.0**k for k in range(-5, 1)]

    def after(n: int, lr: float, seed: int) -> float:
        draw = torch.Generator().manual_seed(seed)
        at = [at_width(kind, n / 32, "mup", "shampoo") for kind in KINDS]
        weights = [
            (torch.randn(*shape, generator=draw) * std * one.init).requires_grad_()
            for shape, std, one in zip(
                ((n, 64), (n, n), (10, n)), (64**-0.5, 32**-0.5, 32**-0.5), at, strict=True
            )
        ]

        def net(x: Any) -> Any:
            for one, weight in zip(at[:2], weights, strict=False):
                x = torch.tanh(one.multiplier * x @ weight.T)
            return at[2].multiplier * x @ weights[2].T

        groups = [{"params": [w], "lr": lr * one.lr} for w, one in zip(weights, at, strict=True)]
        optimizer = Shampoo(groups, betas=(0.0, 0.0), root_every=1, graft=False)
        for _ in range(40):
            rows = torch.randint(len(images), (16,), generator=draw)
            optimizer.zero_grad()
            entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            return float(entropy(net(images), labels).nan_to_num(nan=99.0))

    losses = {
        n: np.mean([[after(n, lr, s) for lr in rates] for s in (51, 52)], axis=0) for n in (32, 64, 128, 256)
    }
    print({n: (int(one.argmin()), one.round(3).tolist()) for n, one in losses.items()})
    best = [int(one.argmin()) for one in losses.values()]
    assert all(0 < place < len(rates) - 1 for place in best)
    assert max(abs(place - best[0]) for place in best) <= 1


def test_u_mup_s_products_and_rates_are_the_authors() -> None:
    """P219: what unit-scaling's operations give, and its shares of the rate, to 1e-5."""
    torch = pytest.importorskip("torch")
    uu = pytest.importorskip("unit_scaling", reason="the authors' unit-scaling is not installed")
    from unit_scaling.optim import lr_scale_func_adam

    n, rows = 192, table("u-mup")
    x = torch.randn(5, n)
    for layer, kind, out in ((uu.Linear(n, n), "hidden", n), (uu.LinearReadout(n, 7), "output", 7)):
        factor = at_width(kind, n, "u-mup")
        torch.testing.assert_close(layer(x), factor.multiplier * x @ layer.weight.T, atol=1e-5, rtol=1e-5)
        assert layer.weight.std().item() == pytest.approx(1.0, abs=0.1) and layer.weight.shape[0] == out
        assert lr_scale_func_adam(layer.weight) == pytest.approx(n ** -rows[kind].lr, abs=1e-5)


@pytest.mark.parametrize("name", ["standard"])
def test_these_do_not(name: str) -> None:
    assert max(update_size(name).values()) == 1.0


def test_factors_and_unknown_tables() -> None:
    hidden = at_width("hidden", 4.0)
    assert (hidden.lr, hidden.init, hidden.multiplier) == (0.25, 0.5, 1.0)
    assert at_width("output", 4.0).multiplier == 0.25
    with pytest.raises(KeyError, match="no table"):
        table("mup", "lion")
