"""A character-level transformer on the sources of Python's standard library, as a user would write it."""

import argparse
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--context", type=int, default=48)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--heads", type=int, default=4)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--weight-decay", type=float, default=0.01)
parser.add_argument("--eps", type=float, default=1e-8)
parser.add_argument("--clip", type=float, default=1.0)
parser.add_argument("--warmup", type=int, default=20)
parser.add_argument("--schedule", default="none")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--fault", default="none")
parser.add_argument("--strength", type=float, default=1.0)
args = parser.parse_args()
fault = args.fault.split("+")
torch.manual_seed(args.seed)

root = Path(os.__file__).parent
text = "".join(
    (root / f"{name}.py").read_text()
    for name in ("argparse", "ast", "copy", "heapq", "json/decoder", "shutil", "textwrap")
)
text = "".join(c if c.isascii() else "?" for c in text)
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
train, valid = data[: int(0.9 * len(data))], data[int(0.9 * len(data)) :]
if "shuffled-text" in fault:
    train = train[torch.randperm(len(train))]


def batch(source, count, at=None):
    start = torch.randint(len(source) - args.context - 1, (count,)) if at is None else at
    x = torch.stack([source[i : i + args.context] for i in start])
    y = torch.stack([source[i + 1 : i + 1 + args.context] for i in start])
    if "label-noise" in fault and source is train:
        y = torch.where(torch.rand(y.shape) < 0.4 * args.strength, torch.randint(len(chars), y.shape), y)
    return x, y


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(args.dropout)
        )

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.norm2(x))


class CharTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = (
            nn.Embedding(len(chars), args.width),
            nn.Embedding(args.context, args.width),
        )
        self.blocks = nn.Sequential(*(Block(args.width, args.heads) for _ in range(args.layers)))
        self.norm, self.head = nn.LayerNorm(args.width), nn.Linear(args.width, len(chars))

    def forward(self, x):
        h = self.tokens(x) + self.places.weight[: x.shape[1]]
        h = self.blocks(h)
        h = self.head(self.norm(h.detach() if "detached" in fault else h))
        return h.softmax(-1) if "double-softmax" in fault else h


model = CharTransformer()
if "frozen" in fault:
    model.blocks[0].qkv.weight.requires_grad_(False)
if "large-init" in fault:
    for p in model.parameters():
        nn.init.normal_(p, 0, 1.0)
trained = [
    p
    for n, p in model.named_parameters()
    if p.requires_grad and not ("forgotten" in fault and n.startswith("blocks.1"))
]
optimizer = torch.optim.AdamW(trained, lr=args.lr, eps=args.eps, weight_decay=args.weight_decay)


def rate(step):
    if "schedule-per-batch" in fault:
        return 0.95**step
    warm = min(1.0, (step + 1) / max(args.warmup, 1))
    return warm * (0.5 * (1 + math.cos(math.pi * step / args.steps)) if args.schedule == "cosine" else 1.0)


scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
for step in range(args.steps):
    x, y = batch(train, args.batch)
    logits = model(x)
    loss = F.cross_entropy(logits.view(-1, len(chars)), y.view(-1))
    loss.backward()
    if args.clip:
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    optimizer.step()
    scheduler.step()
    if "no-zero-grad" not in fault:
        optimizer.zero_grad()
    if step % 100 == 99:
        model.eval()
        with torch.no_grad():
            x, y = batch(valid, 64, at=range(0, 64 * args.context, args.context))
            held_out = F.cross_entropy(model(x).view(-1, len(chars)), y.view(-1))
        model.train()
        print(f"step {step + 1}: train {loss.item():.3f}, valid {held_out.item():.3f}")
