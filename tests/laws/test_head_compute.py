"""Test ``vario.laws.head_compute``: a head of 50,000 words left out bends the exponent, and is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from vario.laws.head_compute import body, check_flops, check_head
from vario.laws.isoflop import frontier

WIDTH = np.unique(np.geomspace(32, 1024, 26).astype(int)).astype(float)
LAYERS = np.maximum(WIDTH / 64, 1.0)
HEAD = 50_000 * WIDTH
WHOLE = body(WIDTH, LAYERS) + HEAD


def _exponent(n: np.ndarray) -> float:
    rows = []
    for c in np.geomspace(3e15, 3e17, 8):
        d = c / (6 * n)
        loss = (
            1.8 + 482 * WHOLE**-0.3478 + 2085 * d**-0.3658
            if n is WHOLE
            else 1.8 + 482 * WHOLE**-0.3478 + 2085 * d**-0.3658
        )
        rows += [(c, size, one) for size, one in zip(n, loss, strict=True)]
    return frontier(*np.array(rows).T, noise=lambda loss: 1e-5 * loss, draws=50).exponent


def test_the_exponent_bends_without_the_head() -> None:
    assert _exponent(WHOLE) == pytest.approx(0.3658 / 0.7136, abs=0.02)
    assert _exponent(body(WIDTH, LAYERS)) > 0.7


def test_it_is_noticed() -> None:
    assert check_head(WHOLE, WIDTH, LAYERS, 50_000).counted is True
    found = check_head(body(WIDTH, LAYERS), WIDTH, LAYERS, 50_000)
    assert found.counted is False and "output layer" in found.text
    assert check_head(WHOLE * 3, WIDTH, LAYERS, 50_000).counted is None
    tokens = np.full(len(WIDTH), 1e9)
    assert check_flops(6 * WHOLE * tokens, WHOLE, tokens) is None
    assert "different layers" in str(check_flops(6 * WHOLE * tokens, body(WIDTH, LAYERS), tokens))
