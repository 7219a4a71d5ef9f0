"""What each instrument costs, as a share of a plain training step, beside code that people write by hand.

`python3 -m bench.instruments [--device cuda]` prints one table; every figure is the median over rounds in
which the plain step and all measurements follow one another in one process, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.overhead import CausalTransformer, finish
from vario.capture.graph import walk
from vario.capture.moment import LossCall, Moment
from vario.instruments import ALL
from vario.nouns import Reading

ROUNDS = 25


def mlp(width: int, depth: int, rows: int) -> tuple[nn.Module, Tensor, Tensor]:
    sizes = [64, *[width] * (depth - 1), 10]
    layers = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(a, b), nn.ReLU())][:-1]
    return nn.Sequential(*layers), torch.randn(rows, 64), torch.randint(0, 10, (rows,))


def cnn() -> tuple[nn.Module, Tensor, Tensor]:
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 9, 10))
    return model, torch.randn(32, 1, 28, 28), torch.randint(0, 10, (32,))


class Transformer(nn.Module):
    """Four blocks of width 128 over characters: 0.8 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(65, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, activation="gelu")
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 65)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(self.embed(x))).flatten(0, 1)
        return y


def transformer() -> tuple[nn.Module, Tensor, Tensor]:
    return Transformer(), torch.randint(0, 65, (16, 64)), torch.randint(0, 65, (16 * 64,))


def wide() -> tuple[nn.Module, Tensor, Tensor]:
    model = nn.Sequential(CausalTransformer(), nn.Flatten(0, 1))
    return model, torch.randint(0, 4096, (16, 256)), torch.randint(0, 4096, (16 * 256,))


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor, Tensor]]] = {
    "mlp 3x64": lambda: mlp(64, 3, 64),
    "mlp 9x512": lambda: mlp(512, 9, 128),
    "cnn": cnn,
    "transformer": transformer,
}
ON_ACCELERATORS = {"wide": wide}


class Loop:
    """One training loop that offers at each step what capture would."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.model, self.x, self.y = {**MODELS, **ON_ACCELERATORS}[name]()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.names, self.params = zip(*self.model.named_parameters(), strict=True)
        self.ids = {id(p): n for n, p in self.model.named_parameters()}
        self.previous: list[Tensor] = []

    def step(self) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()

    def offer(self) -> tuple[dict[str, Any], dict[str, float]]:
        """A step's raw needs, and the seconds that those cost which are not lying there anyway."""
        cost: dict[str, float] = {}
        self.optimizer.zero_grad()
        output = self.model(self.x)
        loss = F.cross_entropy(output, self.y)
        seen = timed(cost, "walk", lambda: walk(loss, self.ids))
        loss.backward()
        grads = [parameter.grad for parameter in self.params]
        kept = timed(cost, "copy of gradients", lambda: [g.clone() for g in grads if g is not None])
        weights = timed(cost, "copy of weights", lambda: [p.detach().clone() for p in self.params])
        call = LossCall("cross_entropy", output.detach(), self.y, loss.detach())
        raw: dict[str, Any] = {"params": list(self.params), "names": list(self.names), "grads": grads}
        raw |= {"grads_previous": self.previous or kept, "weights_before": weights, "loss_calls": [call]}
        raw |= {"losses": [loss.item()], "groups": self.optimizer.param_groups, "inputs": [self.x]}
        raw |= {"activations": seen.activations, "double_softmax": seen.double_softmax, "carried": 0.0}
        raw |= {"clip": (1.0, 1.0), "times": {"step": 0.1, "own": 0.0}, "modes": {}}
        self.previous = kept
        self.optimizer.step()
        return raw, cost


def timed(cost: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    finish()
    start = time.perf_counter()
    result = run()
    finish()
    cost[name] = cost.get(name, 0.0) + time.perf_counter() - start
    return result


def read_all(instruments: tuple[Any, ...], raw: dict[str, Any]) -> list[Reading]:
    moment = Moment("model", 0, raw)
    moment.prepare({need for instrument in instruments for need in instrument.needs})
    return [r for instrument in instruments for r in instrument.read(moment.declared(instrument.needs))]


def by_hand_norms(raw: dict[str, Any]) -> list[float]:
    return [grad.norm().item() for grad in raw["grads"]]


def by_hand_statistics(raw: dict[str, Any]) -> list[float]:
    found = []
    for g in raw["grads"]:
        found += [g.mean().item(), g.std().item(), g.abs().max().item(), (g == 0).float().mean().item()]
    return found


def by_hand_histograms(raw: dict[str, Any]) -> list[Any]:
    return [torch.histc(g.abs().clamp(1e-24).log10(), 64, -24, 8).tolist() for g in raw["grads"]]


def by_hand_updates(raw: dict[str, Any]) -> list[float]:
    pairs = zip(raw["params"], raw["weights_before"], strict=True)
    return [((p.detach() - w).norm() / w.norm()).item() for p, w in pairs]


def by_hand_activations(raw: dict[str, Any]) -> list[float]:
    found = []
    for seen in raw["activations"]:
        v = seen.value
        found += [v.mean().item(), v.std().item(), v.abs().max().item(), (v == 0).float().mean().item()]
    return found


BY_HAND = {
    "gradient-norm": by_hand_norms,
    "gradient-statistics": by_hand_statistics,
    "gradient-distribution": by_hand_histograms,
    "update": by_hand_updates,
    "activation": by_hand_activations,
}


def measure(loop: Loop) -> tuple[float, dict[str, float]]:
    """Median seconds of a plain step, and of every measurement."""
    plain: list[float] = []
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        step: dict[str, float] = {}
        timed(step, "plain", loop.step)
        plain.append(step["plain"])
        raw, cost = loop.offer()
        for instrument in ALL:
            timed(cost, instrument.name, partial(read_all, (instrument,), raw))
        timed(cost, "all together", partial(read_all, ALL, raw))
        for key, by_hand in BY_HAND.items():
            timed(cost, f"{key}, by hand", partial(by_hand, raw))
        for key, seconds in cost.items():
            found.setdefault(key, []).append(seconds)
    return median(plain), {key: median(seconds) for key, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = [*MODELS, *(ON_ACCELERATORS if given.device != "cpu" else ())]
    with torch.device(given.device):
        loops = {name: Loop(name) for name in names}
    columns = {name: measure(loop) for name, loop in loops.items()}
    print(f"{'share of a plain step, in %':34}" + "".join(f"{name:>14}" for name in columns))
    print(f"{'(plain step, ms)':34}" + "".join(f"{plain * 1e3:14.2f}" for plain, _ in columns.values()))
    for key in next(iter(columns.values()))[1]:
        shares = [100 * found[key] / plain for plain, found in columns.values()]
        print(f"{key:34}" + "".join(f"{share:14.1f}" for share in shares))


if __name__ == "__main__":
    main()
