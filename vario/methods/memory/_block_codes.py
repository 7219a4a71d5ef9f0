"""Eight-bit codes of a moment, one scale per block, by a closed formula instead of a code book.

The first moment is stored as sign * sqrt, the second as fourth root, of its share of the block's largest
magnitude (whose root is the scale of the second). Roots spend codes where the values are: near zero. A search in a code book costs far more than all
the rest of the step on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
TINY = torch.finfo(torch.float32).tiny


def encode_signed(values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 (n, BLOCK) and scales float32 (n, 1) of values (n, BLOCK)."""
    size = values.abs()
    scale = size.amax(dim=1, keepdim=True)
    root = (size * (1 / scale.clamp(min=TINY))).sqrt() * 127
    return torch.copysign(root, values).round().to(torch.int8), scale


def decode_signed(codes: Tensor, scale: Tensor) -> Tensor:
    root = codes.to(torch.float32)
    return root * root.abs() * (scale * (1 / 127**2))


def encode_positive(roots: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 (n, BLOCK) in 1..255 of a second moment, from its square root: zero would blow the step up."""
    scale = roots.amax(dim=1, keepdim=True)
    root = (roots * (1 / scale.clamp(min=TINY))).sqrt() * 255
    return root.round().clamp(min=1).to(torch.uint8), scale


def decode_positive(codes: Tensor, scale: Tensor) -> Tensor:
    """The second moment itself."""
    root = codes.to(torch.float32)
    return (root * root * (scale * (1 / 255**2))).square()
