"""Both moments of Adam in two bytes per entry, with two scales per block, by a closed formula.

The first moment is kept as sign * root, the second as fourth root, of its share of the largest in the block:
roots spend codes where the values are, near zero. There is no code book, because a search costs more than the
rest of the step on a CPU. The bytes of two entries, from the two halves of a block, lie in one 32-bit word,
because torch's compiler is many times slower with 8-bit and 16-bit tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = 128  # words per block
BLOCK = 2 * HALF
TINY = torch.finfo(torch.float32).tiny
Halves = tuple[Tensor, Tensor]


def encode(first: Halves, second: Halves) -> tuple[Tensor, Tensor, Tensor]:
    """Words int32 (n, HALF) and scales float32 (n, 1), (n, 1) of both moments.

    The second's scale is that of its root; its code is 1 to 255, because a second moment rounded to zero
    would blow the step up.
    """
    scale1 = torch.maximum(*(half.abs().amax(dim=1, keepdim=True) for half in first))
    scale2 = torch.maximum(*(half.amax(dim=1, keepdim=True) for half in second)).sqrt()
    over1, over2 = 127**2 / scale1.clamp(min=TINY), 255**2 / scale2.clamp(min=TINY)
    words = []
    for m, v in zip(first, second, strict=True):
        high = torch.copysign((m.abs() * over1).sqrt(), m).round().to(torch.int32) + 128
        low = (v.sqrt() * over2).sqrt().round().clamp(min=1).to(torch.int32)
        words.append((high << 8) | low)
    return (words[1] << 16) | words[0], scale1, scale2


def decode(words: Tensor, scale1: Tensor, scale2: Tensor) -> tuple[Halves, Halves]:
    """The first and the second moment of both halves, each (n, HALF)."""
    first, second = [], []
    for shift in (0, 16):
        high = (((words >> (shift + 8)) & 255) - 128).to(torch.float32)
        low = ((words >> shift) & 255).to(torch.float32)
        first.append(high * high.abs() * (scale1 * (1 / 127**2)))
        second.append((low * low * (scale2 * (1 / 255**2))).square())
    return (first[0], first[1]), (second[0], second[1])
