"""Small character models on the standard library's sources, for the slow checks of laws about training."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT, BATCH, WORDS = 16, 128, 128


def text(characters: int = 1_600_000) -> Tensor:
    """Sources as bytes below 128, files in a fixed order; the last 100,000 are for the held-out loss."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    files = [path for path in files if not {"site-packages", "test", "tests"} & set(path.parts)]
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    joined = b"".join(files[i].read_bytes() for i in order[:200])
    return torch.tensor([byte for byte in joined if byte < 128][:characters], dtype=torch.long)


class Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # (b, t, w)
        q, k, v = (
            part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.mix(self.before(x)).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.drop(self.out(seen))
        x = x + self.drop(self.down(F.gelu(self.up(self.between(x)))))
        return x


class Transformer(nn.Module):
    """A decoder of ``depth`` layers."""

    def __init__(
        self, width: int = 64, depth: int = 2, dropout: float = 0.0, *, context: int = CONTEXT
    ) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(WORDS, width), nn.Embedding(context, width)
        self.body = nn.Sequential(*(Block(width, dropout) for _ in range(depth)))
        self.norm, self.head, self.drop = nn.LayerNorm(width), nn.Linear(width, WORDS), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.body(self.drop(self.embed(x) + self.place.weight[: x.shape[1]]))))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A GRU."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.embed, self.body, self.head = (
            nn.Embedding(WORDS, width),
            nn.GRU(width, width, batch_first=True),
            nn.Linear(width, WORDS),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x))[0])  # type: ignore[no-any-return]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, rows: Tensor) -> float:
    loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def windows(data: Tensor, starts: Tensor) -> Tensor:
    return data[starts[:, None] + torch.arange(CONTEXT + 1)]


@torch.no_grad()
def held_out(model: nn.Module, data: Tensor) -> float:
    """Mean loss over the last 100,000 characters, without dropout."""
    model.eval()
    rows = data[-100_000 // (CONTEXT + 1) * (CONTEXT + 1) :][: 99_000 // (CONTEXT + 1) * (CONTEXT + 1)].view(
        -1, CONTEXT + 1
    )
    losses = [
        F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten()).item()
        for part in rows.split(500)
    ]
    model.train()
    return sum(losses) / len(losses)
