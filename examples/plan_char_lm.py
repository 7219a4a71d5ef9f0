"""Five small character models foretell a sixth, four times larger; then the sixth is trained and compared.

Text: the Python files of the standard library, in one pass. Size and data grow together (D = 10 N).
Run: python examples/plan_char_lm.py TABLE.csv        (about ten minutes on one core)
"""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

CONTEXT, BATCH, RATIO = 64, 32, 10
WIDTHS, TARGET = (16, 24, 32, 48, 64), 128


def text() -> torch.Tensor:
    """All standard library sources as bytes below 128, in a fixed shuffled order of files."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))
    files = [path for path in files if not {"site-packages", "test", "tests"} & set(path.parts)]
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    joined = b"".join(files[i].read_bytes() for i in order)
    return torch.tensor([byte for byte in joined if byte < 128], dtype=torch.long)


class Model(nn.Module):
    """A decoder of two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(128, width), nn.Embedding(CONTEXT, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 128, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        hidden = self.embed(x) + self.place.weight
        return self.head(self.norm(self.body(hidden, mask=mask, is_causal=True)))


def train(width: int, data: torch.Tensor) -> tuple[int, int, float]:
    """Parameters, tokens and held-out loss (nats per character) of one run."""
    torch.manual_seed(0)
    model = Model(width)
    size = sum(p.numel() for p in model.parameters())
    held, seen = data[-400_000:], data[:-400_000]
    steps = RATIO * size // (CONTEXT * BATCH)
    rate = 4e-3 * math.sqrt(32 / width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        share = min(1.0, (step + 1) / (0.1 * steps)) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * share
        at = (step * BATCH + torch.arange(BATCH)) * CONTEXT % (len(seen) - CONTEXT - 1)
        rows = seen[at[:, None] + torch.arange(CONTEXT + 1)]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    rows = held[: len(held) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    with torch.no_grad():
        losses = [
            F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten()).item()
            for part in rows.split(256)[:-1]
        ]
    return size, steps * CONTEXT * BATCH, sum(losses) / len(losses)


def main(out: Path) -> None:
    """Train five, forecast, train the sixth, compare."""
    data = text()
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["width", "params", "tokens", "loss"])
        for width in WIDTHS:
            row = (width, *train(width, data))
            writer.writerow(row)
            print(*row, flush=True)
    kept = out.with_suffix(".json")
    command = [sys.executable, "-c", "from vario.cli_plan import app; app()"]
    fit = [
        *command,
        "fit",
        str(out),
        "--columns",
        "x=params,loss=loss",
        "--law",
        "power",
        "--delta",
        "inf",
        "-o",
        str(kept),
    ]
    print(subprocess.run(fit, capture_output=True, text=True, check=True).stdout)
    size = sum(p.numel() for p in Model(TARGET).parameters())
    print(
        subprocess.run(
            [*command, "predict", str(kept), "--at", f"x={size}"], capture_output=True, text=True, check=True
        ).stdout,
        flush=True,
    )
    print(TARGET, *train(TARGET, data))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
