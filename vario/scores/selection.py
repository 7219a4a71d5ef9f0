r"""Which examples to keep, given a score: the hard ones of a large set, the easy ones of a small set.

.. math:: \text{keep hard} \iff \alpha = \frac{\text{examples kept}}{\text{parameters}} \ge \alpha^*

In the teacher-student perceptron the better half changes sides as data become plentiful; keeping the wrong
half is worse than keeping a random one.

When to use: pruning by any score where high means hard (``error_norm``, ``prototype_distance``).

When not to: label noise: the hardest examples are then the wrong ones; drop a few per cent with ``skip``.

>>> import torch
>>> scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
>>> keep(scores, 0.5, which="hard").tolist(), keep(scores, 0.5, which="easy").tolist()
([1, 3], [0, 2])
>>> hard_or_easy(kept=50, parameters=100), hard_or_easy(kept=300, parameters=100)
('easy', 'hard')
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["keep", "hard_or_easy"]

CARD = {
    "papers": ("P117", "P024"),
    "slot": "score",
    "treats": ("duplicate-examples",),
    "example": {},
    "cost": "a sort",
    "checked": "result: teacher-student perceptron with 100 inputs",
    "changed": "the border alpha* = 1 is read off the perceptron; networks have no such number, so try both",
    "shown": "teacher-student perceptron, 100 inputs, 30 % kept by the teacher's margin, mean of four seeds: "
    "error .213 easy, .346 random, .449 hard with half as many examples as inputs; .051 hard, .067 easy, "
    ".143 random with three times as many",
}


def keep(scores: Tensor, share: float, *, which: str, skip: float = 0.0) -> Tensor:
    """Indices of the examples to keep, in their old order; ``skip`` leaves out a share of the hardest "
    "first."""
    if not 0 < share <= 1 or not 0 <= skip < 1 or which not in ("hard", "easy"):
        raise ValueError(
            f"keep: share {share} in (0, 1], skip {skip} in [0, 1) and which {which!r} one of hard, easy "
            f"are wanted."
        )
    order = scores.argsort(descending=True, stable=True)[int(skip * len(scores)) :]
    count = min(len(order), max(1, round(share * len(scores))))
    chosen = order[:count] if which == "hard" else order[len(order) - count :]
    return chosen.sort().values


def hard_or_easy(*, kept: int, parameters: int, border: float = 1.0) -> str:
    """Which end of the scores to keep, for that many examples kept and that many free parameters."""
    return "hard" if kept / parameters >= border else "easy"
