"""Test what pairing is for: on a small transformer it takes away nearly all of the variance between seeds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import vario

TRANSFORMER = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

source = torch.Generator().manual_seed(1)
chain = torch.softmax(2.5 * torch.randn(24, 24, generator=source), dim=1)  # which letter follows which
letters = torch.zeros(700, 17, dtype=torch.long)
letters[:, 0] = torch.randint(24, (700,), generator=source)
for place in range(1, 17):
    letters[:, place] = torch.multinomial(chain[letters[:, place - 1]], 1, generator=source)[:, 0]
train = DataLoader(TensorDataset(letters[:500]), batch_size=20, shuffle=True)
held_out = DataLoader(TensorDataset(letters[500:]), batch_size=200)

torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(32, 2, batch_first=True)
        self.one, self.two = nn.LayerNorm(32), nn.LayerNorm(32)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x):
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), 1)
        normed = self.one(x)
        x = x + self.attend(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.feed(self.two(x))


model = nn.Sequential(nn.Embedding(24, 32), Block(), Block(), nn.LayerNorm(32), nn.Linear(32, 24))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
loss_of = nn.CrossEntropyLoss()
for epoch in range(4):
    for (batch,) in train:
        optimizer.zero_grad()
        loss_of(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for (batch,) in held_out:
            loss_of(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    model.train()
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_gelu_for_silu_on_a_small_transformer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text(TRANSFORMER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = vario.trial("train.py", set_="layer.GELU=SiLU", seeds=8, all_seeds=True, home=tmp_path / "runs")
    arm = made.arm("layer.GELU=SiLU")
    sys.stderr.write(
        f"\nvariance removed by pairing: {arm.variance_removed:.4f} ({made.metric}, {made[0]})\n"
    )
    assert made.pairs == 8 and made.metric == "eval/loss"
    assert made[0].difference[0] != 0
    assert arm.variance_removed > 0.9
