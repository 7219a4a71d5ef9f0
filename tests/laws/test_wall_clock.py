"""Test ``vario.laws.wall_clock`` on made-up times, and (slow) on times of this processor."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.laws.busy import skip_if_busy
from vario.laws.wall_clock import Shape, fit_time, reached


def test_planted_prices_come_back_and_flops_alone_do_not_do() -> None:
    rng = np.random.default_rng(0)
    shapes = [
        Shape(int(w), int(d), int(c), 8, 256)
        for w, d, c in zip(
            rng.integers(32, 512, 20), rng.integers(1, 12, 20), rng.integers(32, 256, 20), strict=True
        )
    ]
    seconds = np.array([0.002 + 3e-10 * s.copies + 2e-12 * s.flops for s in shapes])
    both, alone = fit_time(shapes, seconds), fit_time(shapes, seconds, use_copies=False)
    assert both.per_copy == pytest.approx(3e-10, rel=1e-6) and both.error < 1e-6 < 0.02 < alone.error
    there = reached(100 * seconds[0], shapes[0], both)
    assert there["D"] == pytest.approx(100 * shapes[0].tokens) and there["N"] == shapes[0].parameters
    with pytest.raises(ValueError, match="5 or more"):
        fit_time(shapes[:3], seconds[:3])


def test_counts_by_hand() -> None:
    shape = Shape(width=10, depth=2, context=4, batch=3, vocabulary=7)
    assert shape.parameters == 12 * 2 * 100 + 70 and shape.tokens == 12
    assert shape.flops == 6 * 12 * 2470 + 12 * 2 * 12 * 4 * 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_twenty_shapes_timed_on_this_processor(seed: int) -> None:
    """P242: shapes left out one at a time, R2 above .95 and median error below 10 %; FLOPs alone do worse.

    Processor time, the least of three rounds: one round on a busy machine gave R2 .90 and 18 %.
    """
    torch, model = pytest.importorskip("torch"), pytest.importorskip("tests.laws.char_model")
    rng = np.random.default_rng(seed)
    widths, depths = 16 * rng.integers(2, 17, 20), rng.integers(1, 7, 20)
    lengths = rng.choice([16, 32, 64, 96], 20)
    shapes = [Shape(int(w), int(d), int(c), 8, 128) for w, d, c in zip(widths, depths, lengths, strict=True)]

    def timed(shape: Shape) -> float:
        net = model.Transformer(shape.width, shape.depth, context=shape.context)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        rows, took = torch.randint(128, (shape.batch, shape.context + 1)), []
        for _ in range(6):
            start = time.process_time()
            model.step(net, optimizer, rows)
            took.append(time.process_time() - start)
        return float(np.median(took[2:]))

    rounds = np.array([[timed(one) for one in shapes] for _ in range(3)])
    seconds = rounds.min(axis=0)
    skip_if_busy(np.sort(rounds, axis=0)[:2])

    def left_out(use_copies: bool) -> np.ndarray:
        told = []
        for i, shape in enumerate(shapes):
            keep = [j for j in range(20) if j != i]
            part = fit_time([shapes[j] for j in keep], seconds[keep], use_copies=use_copies)
            told.append(part.seconds(shape))
        return np.array(told)

    both, alone = left_out(True), left_out(False)
    fitted = 1 - ((both - seconds) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum()
    error, other = np.abs(both / seconds - 1), np.abs(alone / seconds - 1)
    gain = [(other - error)[rng.integers(0, 20, 20)].mean() for _ in range(4000)]
    print(f"R2 {fitted:.3f}, median {np.median(error):.3f}, FLOPs alone {np.median(other):.3f}")
    assert fitted > 0.95 and np.median(error) < 0.1 and np.mean(np.array(gain) <= 0) < 0.05
