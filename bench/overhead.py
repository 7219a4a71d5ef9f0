"""What watching costs: blocks of watched and bare steps take turns inside one process.

    python bench/overhead.py [--pairs 16] [--seconds 1] [--budgets 0.01 0.03 0.1] [--after 100] [--device ..]

Prints, for each workload and budget, the time of all watched blocks over that of all bare ones, less 1, with
its standard error over the pairs (jackknife), the median of the pairs, and what vario itself believes. The
median leaves out what is dear and rare; the ratio of the sums leaves out nothing. Startup and the first
steps, which are always measured in full, are over before the first block.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vario.capture import hooks
from vario.session import Session
from vario.watching import Watch, watch

Step = Callable[[], None]
CLOCKS: list[Callable[[], float]] = [time.perf_counter]  # the one that is used


def mlp() -> tuple[nn.Module, torch.optim.Optimizer, Step]:
    """Steps of about 2 ms."""
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Linear(128, 128), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.randn(256, 128), torch.randint(0, 10, (256,))
    return model, optimizer, lambda: _step(optimizer, lambda: F.cross_entropy(model(x), y))


def loaded_mlp() -> tuple[nn.Module, torch.optim.Optimizer, Step]:
    """The same fed by a DataLoader, epoch after epoch, as most scripts feed theirs."""
    model, optimizer, _ = mlp()
    data = TensorDataset(torch.randn(8192, 128), torch.randint(0, 10, (8192,)))
    loader = DataLoader(data, batch_size=128, shuffle=True)
    batches = (batch for _ in itertools.count() for batch in loader)

    def loss() -> torch.Tensor:
        x, y = next(batches)
        return F.cross_entropy(model(x), y)

    return model, optimizer, lambda: _step(optimizer, loss)


def cnn() -> tuple[nn.Module, torch.optim.Optimizer, Step]:
    """The convolutional net that everybody trains on MNIST (1.2M parameters), batch 64."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    x, y = torch.randn(64, 1, 28, 28), torch.randint(0, 10, (64,))
    return model, optimizer, lambda: _step(optimizer, lambda: F.cross_entropy(model(x), y))


class CharTransformer(nn.Module):
    """Four blocks of width 144 over 64 characters: about a million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(96, 144), nn.Embedding(64, 144)
        block = nn.TransformerEncoderLayer(144, 4, 576, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 4, enable_nested_tensor=False)
        self.head = nn.Linear(144, 96)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores of the next character, (batch, time, 96)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        x = self.embed(tokens) + self.place.weight[: tokens.shape[1]]
        return self.head(self.blocks(x, mask=mask, is_causal=True))


def transformer() -> tuple[nn.Module, torch.optim.Optimizer, Step]:
    """A character model, batch 12 x 64 characters."""
    torch.manual_seed(0)
    model = CharTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = torch.randint(0, 96, (12, 64)), torch.randint(0, 96, (12 * 64,))
    return model, optimizer, lambda: _step(optimizer, lambda: F.cross_entropy(model(x).view(-1, 96), y))


class CausalTransformer(nn.Module):
    """Eight blocks of width 512 over 256 tokens, 29 million parameters: enough to fill an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4096, 512)
        block = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 8, enable_nested_tensor=False)
        self.head = nn.Linear(512, 4096)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(256))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, (batch, time, 4096)."""
        return self.head(self.blocks(self.embed(tokens), mask=self.mask, is_causal=True))


def wide_transformer() -> tuple[nn.Module, torch.optim.Optimizer, Step]:
    """In bfloat16 under autocast, batch 32 x 256 tokens, with the fused optimizer."""
    torch.manual_seed(0)
    model = CausalTransformer()
    device = next(model.parameters()).device.type
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    x, y = torch.randint(0, 4096, (32, 256)), torch.randint(0, 4096, (32 * 256,))

    def loss() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return F.cross_entropy(model(x).view(-1, 4096), y)

    return model, optimizer, lambda: _step(optimizer, loss)


WORKLOADS = {
    "MLP, 2 ms": mlp,
    "MLP, DataLoader": loaded_mlp,
    "MNIST CNN": cnn,
    "char transformer": transformer,
}
ON_ACCELERATORS = {"wide transformer": wide_transformer}


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]) -> None:
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def _block(step: Step, count: int) -> float:
    finish()
    start = CLOCKS[0]()
    for _ in range(count):
        step()
    finish()
    return (CLOCKS[0]() - start) / count


def finish() -> None:
    """Wait for what an accelerator still has to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _bare(run: Watch, step: Step, count: int) -> float:
    """A block of which vario hears nothing; its clocks are set forward afterwards."""
    attachment, session = run._attachment, run._session
    hooks.leave(attachment)
    seconds = _block(step, count)
    hooks.join(attachment)
    for stream in attachment.streams:
        stream.ended = session._plans[stream.name].began = time.perf_counter()
    return seconds


def measure(
    workload: str, budget: float, *, pairs: int, seconds: float, device: str = "cpu", after: int = 100
) -> tuple[list[tuple[float, float]], dict]:
    """Seconds of a watched and of a bare step in each pair of blocks, and vario's own account of them."""
    with torch.device(device):
        model, optimizer, step = {**WORKLOADS, **ON_ACCELERATORS}[workload]()
    once = statistics.median(_block(step, 1) for _ in range(30))
    count = max(4, int(seconds / once))
    found = []
    with tempfile.TemporaryDirectory() as home, watch(model, home=Path(home), overhead=budget) as run:
        session = run._session
        settled = max(after, 2 * count)
        while settled > 0 or _grants_left(session):  # the grant is over after this
            _block(step, 10)
            settled -= 10
            if settled < -20 * count:
                break
        before = next(iter(session.schedule().values()))
        for number in range(pairs):
            if number % 2:
                bare, watched = _bare(run, step, count), _block(step, count)
            else:
                watched = _block(step, count)
                bare = _bare(run, step, count)
            found.append((watched, bare))
        account = _between(before, next(iter(session.schedule().values())))
    return found, account


def _overhead(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Watched over bare, less 1, of all pairs together; its standard error."""
    watched, bare = (sum(side) for side in zip(*pairs, strict=True))
    without = [(watched - w) / (bare - b) for w, b in pairs]
    return watched / bare - 1, statistics.pstdev(without) * (len(pairs) - 1) ** 0.5


def _grants_left(session: Session) -> bool:
    return any(p.grant > 0 for b in session._budgets.values() for p in (b.probes, b.noise))


def _between(before: dict, after: dict) -> dict:
    """What was spent, and how often the probes ran, from one account to a later one."""
    own = after["own_seconds"] - before["own_seconds"]
    bare = after["own_seconds"] / after["overhead"] - before["own_seconds"] / before["overhead"]
    name = "gradient-norm"
    return {
        "overhead": own / bare,
        "steps": after["steps"] - before["steps"],
        "probes": after["ran"].get(name, 0) - before["ran"].get(name, 0),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.01, 0.03, 0.1])
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--after", type=int, default=100, help="steps before the first block (as a run doubles, all is read)"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="processor seconds: for a machine that others use too"
    )
    given = parser.parse_args()
    if given.cpu:
        CLOCKS[0] = time.perf_counter = time.process_time  # vario's own clock too
    torch.set_num_threads(1)
    print(
        f"{'workload':18} {'step ms':>8} {'budget':>7} {'measured':>9} {'st. error':>9} {'median':>8} "
        f"{'own account':>12}  probes"
    )
    for workload in given.workloads:
        for budget in given.budgets:
            found, account = measure(
                workload,
                budget,
                pairs=given.pairs,
                seconds=given.seconds,
                device=given.device,
                after=given.after,
            )
            measured, error = _overhead(found)
            bare = statistics.median(b for _, b in found)
            middle = statistics.median(w / b - 1 for w, b in found)
            print(
                f"{workload:18} {bare * 1e3:8.2f} {budget:7.0%} {measured:9.1%} {error:9.1%} {middle:8.1%} "
                f"{account['overhead']:12.1%}  {account['probes']} of {account['steps']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
