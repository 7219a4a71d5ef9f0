"""The models on which measuring is measured: a net of dense layers, one of convolutions, two transformers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MODELS", "Workload"]


@dataclass
class Workload:
    """A model with one batch in hand; the loss is a mean over its examples."""

    model: nn.Module
    x: Tensor
    y: Tensor

    @property
    def batch(self) -> int:
        return len(self.x)

    @property
    def zero(self) -> Tensor:
        return torch.zeros(())

    def criterion(self, output: Tensor, y: Tensor) -> Tensor:
        """Cross entropy; of tokens, where there are such."""
        return F.cross_entropy(output.flatten(0, -2), y.flatten())

    def loss(self, part: slice = slice(None)) -> Tensor:
        """The loss of (a part of) the batch."""
        return self.criterion(self.model(self.x[part]), self.y[part])

    def copy(self) -> Workload:
        """The same with a model of its own, for what changes models."""
        return Workload(copy.deepcopy(self.model), self.x, self.y)


class Block(nn.Module):
    """Attention and two dense layers, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Tokens to tokens."""

    def __init__(self, width: int, heads: int, depth: int, length: int, words: int = 96) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.place(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def mlp() -> Workload:
    """670 thousand parameters, batch 128."""
    torch.manual_seed(0)
    layers = (nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return Workload(nn.Sequential(*layers), torch.randn(128, 784), torch.randint(0, 10, (128,)))


def cnn() -> Workload:
    """Three convolutions of 16, 32 and 32 channels, pools after two of them, batch 128."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1568, 10)),
    )
    return Workload(model, torch.randn(128, 1, 28, 28), torch.randint(0, 10, (128,)))


def tfm() -> Workload:
    """Four blocks of width 128, 32 sequences of 64 tokens."""
    torch.manual_seed(0)
    return Workload(
        Transformer(128, 4, 4, 64), torch.randint(0, 96, (32, 64)), torch.randint(0, 96, (32, 64))
    )


def wide() -> Workload:
    """Three blocks of width 512: ten million parameters, 8 sequences of 64 tokens."""
    torch.manual_seed(0)
    return Workload(Transformer(512, 8, 3, 64), torch.randint(0, 96, (8, 64)), torch.randint(0, 96, (8, 64)))


MODELS: dict[str, Callable[[], Workload]] = {"mlp": mlp, "cnn": cnn, "tfm": tfm, "wide": wide}
