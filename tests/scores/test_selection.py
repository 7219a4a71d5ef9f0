"""Test ``vario.scores.selection``."""

from __future__ import annotations

import pytest
import torch

from vario.scores import hard_or_easy, keep


def test_keeps_in_order_and_skips_the_hardest():
    scores = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 0.0, 9.0, 8.0, 7.0, 6.0])
    assert keep(scores, 0.3, which="hard").tolist() == [6, 7, 8]
    assert keep(scores, 0.3, which="easy").tolist() == [1, 3, 5]
    assert keep(scores, 0.3, which="hard", skip=0.1).tolist() == [7, 8, 9]
    assert keep(scores, 1.0, which="easy").tolist() == list(range(10))


def test_refuses():
    with pytest.raises(ValueError, match="which 'both'"):
        keep(torch.ones(3), 0.5, which="both")
    with pytest.raises(ValueError, match="share 0"):
        keep(torch.ones(3), 0.0, which="hard")


def perceptron_error(alpha, which, seed, size=100, share=0.3):
    """Angle over pi between teacher and a student trained to the largest margin on the chosen examples."""
    draw = torch.Generator().manual_seed(seed)
    teacher = torch.randn(size, generator=draw)
    x = torch.randn(round(alpha * size / share), size, generator=draw)
    margin = x @ teacher / teacher.norm()
    if which == "random":
        chosen = torch.randperm(len(x), generator=draw)[: round(share * len(x))]
    else:
        chosen = keep(-margin.abs(), share, which=which)  # a small margin is hard
    signed = x[chosen] * margin[chosen].sign()[:, None]
    w = signed.mean(0)
    for step in range(3000):  # gradient descent on the exponential loss goes to the largest margin
        w = w / w.norm()
        force = torch.softmax(-(3 + step / 50) * (signed @ w), dim=0)
        w = w + 0.05 * signed.T @ force / size**0.5
    return torch.arccos((w @ teacher) / (w.norm() * teacher.norm())).item() / torch.pi


@pytest.mark.slow
def test_the_better_half_changes_sides():
    """P117, accept: at alpha 0.5 easy < random < hard, at 3 hard < easy < random; so does the advice."""
    error = {
        (alpha, which): sum(perceptron_error(alpha, which, seed) for seed in range(141, 149)) / 8
        for alpha in (0.5, 3.0)
        for which in ("easy", "random", "hard")
    }
    assert error[0.5, "easy"] < error[0.5, "random"] < error[0.5, "hard"], error
    assert error[3.0, "hard"] < error[3.0, "easy"] < error[3.0, "random"], error
    assert (
        hard_or_easy(kept=50, parameters=100) == "easy" and hard_or_easy(kept=300, parameters=100) == "hard"
    )
