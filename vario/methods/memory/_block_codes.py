"""Eight-bit codes of a moment, one scale per block, by a closed formula instead of a code book.

The first moment is stored as sign * sqrt, the second as fourth root, of its share of the block's largest
magnitude. Roots spend codes where the values are: near zero. A search in a code book costs far more than all
the rest of the step on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256


def encode_signed(values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 (n, BLOCK) and scales float32 (n, 1) of values (n, BLOCK)."""
    scale = values.abs().amax(dim=1, keepdim=True)
    share = values.abs() / scale.clamp(min=torch.finfo(torch.float32).tiny)
    return (share.sqrt() * 127).round().mul(values.sign()).to(torch.int8), scale


def decode_signed(codes: Tensor, scale: Tensor) -> Tensor:
    root = codes.to(torch.float32) * (1 / 127)
    return root * root.abs() * scale


def encode_positive(values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 (n, BLOCK) in 1..255 and scales: a second moment of zero would blow the step up."""
    scale = values.amax(dim=1, keepdim=True)
    share = values / scale.clamp(min=torch.finfo(torch.float32).tiny)
    return (share.sqrt().sqrt() * 255).round().clamp(min=1).to(torch.uint8), scale


def decode_positive(codes: Tensor, scale: Tensor) -> Tensor:
    root = codes.to(torch.float32) * (1 / 255)
    return root.square().square() * scale
