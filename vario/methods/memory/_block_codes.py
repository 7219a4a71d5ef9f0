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
    """Words int32 (n, HALF) and scales float32 (n, 1), (n, 1) of both moments."""
    scale1, scale2 = scales_of(first, second)
    roots = second[0].sqrt(), second[1].sqrt()
    return pack(first, roots, *per_scale(scale1, scale2)), scale1, scale2


def decode(words: Tensor, scale1: Tensor, scale2: Tensor) -> tuple[Halves, Halves]:
    """The first and the second moment of both halves, each (n, HALF)."""
    over1, over2 = scale1 * (1 / 127**2), scale2 * (1 / 255**2)
    highs = ((words << 16) >> 24, words >> 24)  # shifts to the right keep the sign
    lows = (words & 255, (words >> 16) & 255)
    first, second = [], []
    for high, low in zip(highs, lows, strict=True):
        signed, plain = high.to(torch.float32), low.to(torch.float32)
        first.append(signed * signed.abs() * over1)
        second.append((plain * plain * over2).square())
    return (first[0], first[1]), (second[0], second[1])


def scales_of(first: Halves, second: Halves) -> tuple[Tensor, Tensor]:
    """The largest first moment of each block, and the root of the largest second one, (n, 1) each."""
    scale1 = torch.maximum(first[0].abs(), first[1].abs()).amax(dim=1, keepdim=True)
    return scale1, torch.maximum(*second).amax(dim=1, keepdim=True).sqrt()


def per_scale(scale1: Tensor, scale2: Tensor) -> tuple[Tensor, Tensor]:
    """What ``pack`` multiplies with."""
    return 127**2 / scale1.clamp(min=TINY), 255**2 / scale2.clamp(min=TINY)


def pack(first: Halves, roots: Halves, over1: Tensor, over2: Tensor) -> Tensor:
    """Words of the first moments and of the roots of the second ones.

    The second's code is 1 to 255, because a second moment rounded to zero would blow the step up.
    """
    words = []
    for m, root in zip(first, roots, strict=True):
        size = (m.abs() * over1).sqrt()
        high = torch.where(m < 0, -size, size).round().to(torch.int32)  # copysign leaves the vector unit
        low = (root * over2).sqrt().round().clamp(min=1).to(torch.int32)
        words.append(((high & 255) << 8) | low)
    return (words[1] << 16) | words[0]
