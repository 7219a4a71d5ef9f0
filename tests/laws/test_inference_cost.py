"""Test ``vario.laws.inference_cost``."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tests.laws.busy import skip_if_busy
from vario.laws.inference_cost import fit_time, idealised


def test_planted_times_through_contention() -> None:
    rng = np.random.default_rng(0)
    prompt, output = (grid.ravel() for grid in np.meshgrid([16.0, 64, 256, 512], [1.0, 16, 64]))
    prompt, output = np.tile(prompt, 8), np.tile(output, 8)
    clean = 0.01 + 1e-4 * prompt + 0.004 * output
    busy = clean + np.where(rng.random(len(clean)) < 0.5, rng.exponential(0.3, len(clean)), 0.0)
    done = fit_time(prompt, output, busy)
    np.testing.assert_allclose(
        done.seconds(100.0, np.array([8.0, 128.0])), [0.01 + 0.01 + 0.032, 0.02 + 0.512], rtol=0.15
    )
    assert abs(np.mean(busy) / np.mean(clean) - 1) > 0.5
    with pytest.raises(ValueError, match="distinct"):
        fit_time(prompt[:2], output[:2], busy[:2])


@pytest.mark.slow
def test_a_small_decoder_on_this_processor() -> None:
    """P128: fit on 12 (prompt, output) pairs, 12 unseen ones; then with sleeps in half of the calls."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    width, layers = 128, 4
    model = [
        [torch.randn(width, n) / width**0.5 for n in (3 * width, width, 4 * width)] for _ in range(layers)
    ]
    back = [torch.randn(4 * width, width) / (4 * width) ** 0.5 for _ in range(layers)]

    def run(x: Any, caches: list[Any]) -> Any:  # (t, w) appended to the caches
        for (mix, out, up), down, cache in zip(model, back, caches, strict=True):
            q, k, v = (part.unflatten(-1, (4, -1)).transpose(0, 1)[None] for part in (x @ mix).chunk(3, -1))
            cache[0], cache[1] = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            seen = torch.nn.functional.scaled_dot_product_attention(q, *cache, is_causal=x.shape[0] > 1)
            x = x + seen[0].transpose(0, 1).flatten(1) @ out
            x = x + torch.relu(x @ up) @ down
            x = x / x.norm(dim=-1, keepdim=True) * width**0.5
        return x

    def seconds(prompt: int, output: int) -> float:
        caches = [[torch.empty(1, 4, 0, width // 4)] * 2 for _ in range(layers)]
        start = time.process_time()
        x = run(torch.randn(prompt, width), caches)[-1:]
        for _ in range(output):
            x = run(x, caches)
        return time.process_time() - start

    def measured(prompts: list[int], outputs: list[int], repeats: int) -> tuple[np.ndarray, ...]:
        pairs = [(p, o) for _ in range(repeats) for p in prompts for o in outputs]
        return (*np.array(pairs, float).T, np.array([seconds(p, o) for p, o in pairs]))

    with torch.no_grad():
        seconds(64, 8)
        prompt, output, took = measured([32, 128, 256, 512], [8, 32, 64], 5)
        done = fit_time(prompt, output, took)
        p, o, again = measured([64, 192, 320, 448], [16, 24, 48], 5)
        skip_if_busy(np.sort(again.reshape(5, -1), axis=0)[:2])
        p, o, truth = idealised(p, o, again)
    told = done.seconds(p, o)
    error = np.median(np.abs(told / truth - 1))
    fitted = 1 - ((told - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    rng = np.random.default_rng(0)
    asleep = np.where(rng.random(len(took)) < 0.5, rng.exponential(0.3, len(took)), 0.0)
    busy = fit_time(prompt, output, took + asleep).seconds(p, o)
    off, raw = np.median(np.abs(busy / truth - 1)), abs(np.mean(took + asleep) / np.mean(took) - 1)
    print(f"median error {error:.3f}, R2 {fitted:.3f}; with sleeps {off:.3f}, raw {raw:.3f}")
    assert error < 0.12 and fitted > 0.95 and off < 0.15 < raw
