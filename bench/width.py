"""Best learning rate over widths 32 to 256 of a small character transformer, by three parametrisations.

    python -m bench.width               # 300 steps of 64 rows, three seeds; minutes on a GPU, hours on a CPU
    python -m bench.width --small       # width 32 alone, one seed: whether it runs

u-muP needs the authors' `unit_scaling` and is left out without it. Rates lie a factor of 2 apart; losses are
means over the last quarter of the steps.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.laws import char_model
from vario.methods.transfer.mup import coordinate_check, mup_groups

BASE, WIDTHS, SEEDS = 32, (32, 64, 128, 256), (101, 102, 103)
RATES = {
    "u-mup": [2.0**k for k in range(-7, 4)],
    "mup": [1e-3 * 2.0**k for k in range(-1, 8)],
    "standard": [1e-3 * 2.0**k for k in range(-3, 7)],
}


def make(kind: str, width: int) -> nn.Module:
    """Two layers, four heads; under muP attention goes by 1 / d: the queries shrink by the root."""
    if kind == "u-mup":
        import unit_scaling

        decoder: nn.Module = unit_scaling.TransformerDecoder(width, char_model.WORDS, 2, 4)
        return decoder
    model = char_model.Transformer(width)
    if kind == "mup":
        for block in model.body:
            block.mix.register_forward_hook(  # type: ignore[union-attr, operator]
                lambda _, __, out: torch.cat([out[..., :width] * (BASE / width) ** 0.5, out[..., width:]], -1)
            )
    return model


def loss_of(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross entropy of logits (b, t, w) and characters (b, t)."""
    entropy = nn.functional.cross_entropy
    if kind == "u-mup":
        import unit_scaling.functional

        entropy = unit_scaling.functional.cross_entropy
    return lambda out, y: entropy(out.flatten(0, 1), y.flatten())


def optimizer_of(kind: str, model: nn.Module, lr: float, **fast: bool) -> torch.optim.Adam:
    groups: Any = [{"params": list(model.parameters()), "lr": lr}]
    if kind != "standard":
        groups = mup_groups(model, make(kind, BASE), lr=lr)
    return torch.optim.Adam(groups, lr=lr, **fast)


def sweep(
    kind: str, width: int, seed: int, rates: Sequence[float], *, data: Tensor, steps: int, batch: int
) -> Tensor:
    """Training losses (steps, rates): every rate starts from the same weights and sees the same rows."""
    device, runs, loss = data.device, [], loss_of(kind)
    fast = {"fused": True, "capturable": True} if device.type == "cuda" else {}
    for lr in rates:
        torch.manual_seed(seed)
        model = make(kind, width).to(device)
        runs.append((model, optimizer_of(kind, model, lr, **fast)))
    draw = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(data) - 20, (steps, batch), generator=draw).to(device)
    span = torch.arange(char_model.CONTEXT + 1, device=device)
    rows, losses = data[starts[0][:, None] + span], torch.zeros(len(rates), device=device)
    history = torch.zeros(steps, len(rates), device=device)

    def once() -> None:
        for i, (model, optimizer) in enumerate(runs):
            optimizer.zero_grad(set_to_none=True)
            value = loss(model(rows[:, :-1]), rows[:, 1:])
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[i].copy_(value.detach())

    def at(step: int, do: Callable[[], object]) -> None:
        rows.copy_(data[starts[step][:, None] + span])
        do()
        history[step].copy_(losses)

    do: Callable[[], object] = once
    first = 0
    if device.type == "cuda":  # kernels this small cost more to launch than to run: one graph for all runs
        first, side, graph = 3, torch.cuda.Stream(), torch.cuda.CUDAGraph()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for step in range(first):
                at(step, once)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        for _, optimizer in runs:
            optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            once()
        do = graph.replay
    for step in range(first, steps):
        at(step, do)
    return history.cpu()


def best_of(tails: Sequence[Tensor]) -> int:
    """Place of the lowest mean loss (rates,) over seeds; a run that blew up is the worst."""
    return int(torch.stack([one.nan_to_num(nan=99.0) for one in tails]).mean(0).argmin())


def slopes(kind: str, lr: float, seeds: Sequence[int] = SEEDS) -> dict[str, float]:
    """Coordinate check over WIDTHS, mean over seeds."""
    data, found = char_model.text(300_000), []
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        rows = char_model.windows(data, torch.randint(250_000, (64,), generator=draw))
        found.append(
            coordinate_check(
                lambda width: make(kind, width),
                lambda _, rows=rows: (rows[:, :-1], rows[:, 1:]),  # type: ignore[misc]
                loss_of(kind), widths=WIDTHS, base=BASE, lr=lr, apply=kind != "standard", seed=seed,
            )
        )  # fmt: skip
    return {name: sum(one[name] for one in found) / len(found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    asked = parser.parse_args()
    data = char_model.text().to("cuda" if torch.cuda.is_available() and not asked.small else "cpu")
    widths, seeds = (WIDTHS[:1], SEEDS[:1]) if asked.small else (WIDTHS, SEEDS)
    for kind, rates in RATES.items():
        if kind == "u-mup" and importlib.util.find_spec("unit_scaling") is None:
            print("u-mup is left out: unit_scaling is not installed")
            continue
        for width in widths:
            tails = [
                sweep(kind, width, seed, rates, data=data, steps=asked.steps, batch=asked.batch)[
                    -asked.steps // 4 :
                ].mean(0)
                for seed in seeds
            ]
            print(
                f"{kind:9s} width {width:4d} best rate {rates[best_of(tails)]:.4g}, per seed "
                f"{[f'{rates[best_of([one])]:.4g}' for one in tails]} losses "
                f"{[round(float(v), 3) for v in torch.stack(tails).mean(0)]}",
                flush=True,
            )
    for kind, lr in (("u-mup", 0.25), ("mup", 0.008), ("standard", 0.008)):
        if not asked.small and (kind != "u-mup" or importlib.util.find_spec("unit_scaling")):
            print(kind, "slopes", {name: round(value, 3) for name, value in slopes(kind, lr).items()})


if __name__ == "__main__":
    main()
