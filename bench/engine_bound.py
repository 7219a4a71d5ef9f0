"""The least that numbers of single examples can cost here: the bare products and sums that they are made of.

    python -m bench.engine_bound [--models mlp tfm] [--rounds 15]

Inputs and gradients of every dense layer of one step are kept; a loop then does nothing but the kernels that
the cheaper formula of each layer needs, reads each parameter's gradient once, and adds up biases. No graph is
walked, no hook is called, no other layer is looked at. Loop, probe and plain step take turns in one process;
figures are medians of CPU times over that of the plain step, and "times the bound" is (ours - 1) / bare.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.engine import ours, plain
from bench.engine_models import MODELS, Workload

Pair = tuple[Tensor, Tensor]  # input (m, T, i) and gradient at the output (m, T, o) of a dense layer
Loop = Callable[[], object]
KINDS: dict[str, dict[str, object]] = {
    "norms": {},
    "second moments": {"spreads": {}},
    "products": {"products": True},
}
GHOST = 1.25  # as in vario.capture.per_example.formulas


def kept(w: Workload) -> tuple[list[Pair], list[Tensor]]:
    """Of one step: what comes into each dense layer and what comes back to it; the gradients of all."""
    pairs: list[Pair] = []

    def hear(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        a = inputs[0].detach().reshape(w.batch, -1, inputs[0].shape[-1])
        output.register_hook(lambda g: pairs.append((a, g.reshape(w.batch, -1, g.shape[-1]).clone())))

    layers = [layer for layer in w.model.modules() if isinstance(layer, nn.Linear)]
    removers = [layer.register_forward_hook(hear).remove for layer in layers]
    plain(w)()
    for remove in removers:
        remove()
    return pairs, [p.grad.clone() for p in w.model.parameters() if p.grad is not None]


def norms(pairs: list[Pair]) -> None:
    """Lengths of rows, products of rows, or the shares themselves; biases."""
    for a, g in pairs:
        (_, rows, into), out = a.shape, g.shape[2]
        g.sum(dim=1)
        if rows == 1:
            torch.linalg.vector_norm(a.flatten(1), dim=1)
            torch.linalg.vector_norm(g.flatten(1), dim=1)
        elif rows * (into + out) < GHOST * into * out:
            torch.linalg.vecdot(torch.bmm(a, a.mT).flatten(1), torch.bmm(g, g.mT).flatten(1))
        else:
            torch.linalg.vector_norm(torch.bmm(g.mT, a).flatten(1), dim=1)


def second_moments(pairs: list[Pair], totals: list[Tensor]) -> None:
    """One share after the other in one room, squared and added to what was there."""
    for (a, g), total in zip(pairs, totals, strict=True):
        g.sum(dim=1).square().sum(dim=0)
        if a.shape[1] == 1:
            total.addmm_(g.flatten(1).square().T, a.flatten(1).square())
            continue
        room = torch.empty_like(total)
        for into, out in zip(a.unbind(), g.mT.unbind(), strict=True):
            torch.mm(out, into, out=room)
            total.addcmul_(room, room)


def products(pairs: list[Pair]) -> None:
    """All shares at once, and their products with one another."""
    for a, g in pairs:
        sums = g.sum(dim=1)
        torch.mm(sums, sums.T)
        if a.shape[1] == 1:
            torch.mm(a.flatten(1), a.flatten(1).T).mul_(sums @ sums.T)
            continue
        shares = torch.bmm(g.mT, a).flatten(1)
        torch.mm(shares, shares.T)


def measure(name: str, rounds: int) -> None:
    """Print the table of one model."""
    w = MODELS[name]()
    pairs, grads = kept(w)
    totals = [torch.zeros(g.shape[2], a.shape[2]) for a, g in pairs]
    kernels: dict[str, Loop] = {
        "norms": lambda: norms(pairs),
        "second moments": lambda: second_moments(pairs, totals),
        "products": lambda: products(pairs),
    }

    def bare(kernel: Loop) -> Loop:
        def loop() -> None:
            kernel()
            for grad in grads:
                torch.dot(grad.flatten(), grad.flatten())

        return loop

    loops: dict[str, Loop] = {"plain": plain(w)}
    loops |= {f"ours: {kind}": ours(w, **more) for kind, more in KINDS.items()}  # type: ignore[arg-type]
    loops |= {f"bare: {kind}": bare(kernel) for kind, kernel in kernels.items()}
    times: dict[str, list[float]] = {label: [] for label in loops}
    for number in range(rounds + 2):
        for label, loop in loops.items():
            start = time.thread_time()
            loop()
            if number > 1:  # the first two warm up
                times[label].append(time.thread_time() - start)
    base = statistics.median(times["plain"])
    print(f"{name}: plain {base * 1e3:.1f} ms, load of the machine {os.getloadavg()[0]:.0f}")
    for kind in kernels:
        mine, least = (statistics.median(times[f"{who}: {kind}"]) / base for who in ("ours", "bare"))
        print(f"  {kind:15} x{mine:.2f}   bound x{1 + least:.2f}   times the bound {(mine - 1) / least:.2f}")


def main() -> None:
    """Read the arguments."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--models", nargs="+", default=["mlp", "tfm"], choices=["mlp", "tfm", "wide"])
    ask.add_argument("--rounds", type=int, default=15)
    given = ask.parse_args()
    torch.set_num_threads(1)
    for name in given.models:
        measure(name, given.rounds)


if __name__ == "__main__":
    main()
