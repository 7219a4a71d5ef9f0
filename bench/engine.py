"""What per-example gradients cost inside an ordinary step, beside other ways to have the same numbers.

    python -m bench.engine [--models mlp cnn tfm wide] [--rounds 15] [--only WORDS]

One step is a forward and a backward. All ways take turns inside one process. Each figure is the median of
its CPU times over the median of the plain step's; its largest live memory over that of the plain step, and
what it is more. Peers that are not installed are named and left out; so is what a peer refuses, with its
words. Every way's norms are compared with a loop over the examples first.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.engine_models import MODELS, Workload
from vario.capture.per_example.probe import Probe

Way = Callable[[], Tensor | None]
PEERS = {"backpack": "backpack-for-pytorch", "opacus": "opacus", "gns_pytorch": "gns-pytorch"}


def plain(w: Workload) -> Way:
    """The step alone."""

    def step() -> None:
        w.model.zero_grad()
        w.loss().backward()

    return step


def ours(w: Workload, *, rows: int = 0, check: bool = False, **more: Any) -> Way:
    """The probe of `vario.capture.per_example.probe`; `rows` examples of the batch."""
    names = {id(p): n for n, p in w.model.named_parameters()}
    picked = list(range(0, w.batch, w.batch // rows)) if rows else None

    def step() -> Tensor:
        w.model.zero_grad()
        loss = w.loss()
        probe = Probe(loss, names, examples=w.batch, picked=picked, check=0 if check else None, **more)
        loss.backward()
        found = probe.close()
        assert not found.missed, found.missed
        return torch.stack(list(found.squares.values())).sum(dim=0)

    return step


def loop(w: Workload) -> Way:
    """One backward for each example."""

    def step() -> Tensor:
        found = []
        for k in range(w.batch):
            w.model.zero_grad()
            w.loss(slice(k, k + 1)).backward()
            found.append(
                sum((p.grad.square().sum() for p in w.model.parameters() if p.grad is not None), w.zero)
            )
        return torch.stack(found) / w.batch**2

    return step


def vmapped(w: Workload, chunk: int | None = None) -> Way:
    """`torch.func`: every gradient formed, all at once or in chunks."""
    params = {name: p.detach() for name, p in w.model.named_parameters()}

    def one(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output = torch.func.functional_call(w.model, weights, (x[None],))
        return w.criterion(output, y[None])

    each = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0), chunk_size=chunk)

    def step() -> Tensor:
        grads = each(params, w.x, w.y)
        return torch.stack([g.flatten(1).square().sum(dim=1) for g in grads.values()]).sum(dim=0) / w.batch**2

    return step


def backpack_norms(w: Workload) -> Way:
    """BackPACK's BatchL2Grad."""
    from backpack import backpack, extend
    from backpack.extensions import BatchL2Grad

    model = extend(w.copy().model)
    criterion = extend(nn.CrossEntropyLoss())

    def step() -> Tensor:
        model.zero_grad()
        loss = criterion(model(w.x).flatten(0, -2), w.y.flatten())
        with backpack(BatchL2Grad()):
            loss.backward()
        return torch.stack([p.batch_l2 for p in model.parameters()]).sum(dim=0)

    return step


def opacus_ghost(w: Workload) -> Way:
    """The norm pass of Opacus's ghost clipping."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    model = GradSampleModuleFastGradientClipping(w.copy().model, max_grad_norm=1.0, use_ghost_clipping=True)

    def step() -> Tensor:
        model.zero_grad()
        w.criterion(model(w.x), w.y).backward()
        return model.get_norm_sample().square() / w.batch**2

    return step


def opacus_samples(w: Workload) -> Way:
    """Every gradient formed by Opacus."""
    from opacus.grad_sample import GradSampleModule

    model = GradSampleModule(w.copy().model, loss_reduction="mean")

    def step() -> Tensor:
        for p in model.parameters():
            p.grad_sample = None
        model.zero_grad()
        w.criterion(model(w.x), w.y).backward()
        parts = [p.grad_sample.flatten(1).square().sum(dim=1) for p in model.parameters()]
        return torch.stack(parts).sum(dim=0) / w.batch**2

    return step


def noise_scale(w: Workload, *, rows: int = 0) -> Way:
    """Ours: the norms, and the variance of one example over the squared length of the true gradient."""
    names = {id(p): n for n, p in w.model.named_parameters()}
    picked = list(range(0, w.batch, w.batch // rows)) if rows else None

    def step() -> None:
        w.model.zero_grad()
        loss = w.loss()
        probe = Probe(loss, names, examples=w.batch, picked=picked)
        loss.backward()
        found = probe.close()
        small = w.batch**2 * float(torch.stack(list(found.squares.values())).sum(dim=0).mean())
        large = sum(float(square) for square in found.batch_squares.values())
        noise = (small - large) / (1 - 1 / w.batch)
        del noise

    return step


def gns_pytorch(w: Workload, **settings: Any) -> Way:
    """gns-pytorch: a backward for each example, from one graph; it wants the losses of single examples."""
    from gns_pytorch import compute_gns

    def step() -> None:
        w.model.zero_grad()
        each = F.cross_entropy(w.model(w.x).flatten(0, -2), w.y.flatten(), reduction="none")
        each = each.view(w.batch, -1).mean(dim=1)
        compute_gns(each, w.model, **settings)
        each.mean().backward()

    return step


def micro_batches(w: Workload, count: int) -> Way:
    """Squared norms of the gradients of parts, as a loop that one owns could have them."""

    def step() -> None:
        w.model.zero_grad()
        before: list[Tensor] = []
        for k in range(count):
            (w.loss(slice(k, None, count)) / count).backward()
            grads = [p.grad.clone() for p in w.model.parameters() if p.grad is not None]
            part = torch._foreach_sub(grads, before) if before else grads
            sum(norm.square() for norm in torch._foreach_norm(part))
            before = grads

    return step


WAYS: dict[str, Callable[[Workload], Way]] = {
    "plain": plain,
    "ours: norms of all": ours,
    "ours: norms of all, checked": lambda w: ours(w, check=True),
    "ours: norms of 1/8": lambda w: ours(w, rows=w.batch // 8),
    "ours: second moments": lambda w: ours(w, spreads={}),
    "ours: inner products": lambda w: ours(w, products=True),
    "ours: inner products of 1/4": lambda w: ours(w, rows=w.batch // 4, products=True),
    "ours: noise scale from all": noise_scale,
    "ours: noise scale from 1/8": lambda w: noise_scale(w, rows=w.batch // 8),
    "loop over examples": loop,
    "torch.func vmap": vmapped,
    "torch.func vmap, chunks of 16": lambda w: vmapped(w, 16),
    "BackPACK BatchL2Grad": backpack_norms,
    "Opacus ghost": opacus_ghost,
    "Opacus grad_sample": opacus_samples,
    "noise scale, 2 micro-batches": lambda w: micro_batches(w, 2),
    "gns-pytorch, its defaults": gns_pytorch,
    "gns-pytorch, all": lambda w: gns_pytorch(w, param_percentage=1.0, batch_percentage=1.0),
    "gns-pytorch, all, vmap": lambda w: gns_pytorch(
        w, param_percentage=1.0, batch_percentage=1.0, use_vmap=True
    ),
}


def tell_peers(peers: dict[str, str]) -> None:
    """Which of the other tools can be measured here, and how to have the rest."""
    here = [name for module, name in peers.items() if importlib.util.find_spec(module)]
    gone = [name for name in peers.values() if name not in here]
    print(f"peers installed: {', '.join(here) or 'none'}")
    if gone:
        print(f"absent, so not measured: {', '.join(gone)} (pip install --target DIR; PYTHONPATH=DIR)")


def memory(way: Way) -> float:
    """Largest rise of live bytes in one run, in MB (10^6): from when the gradients of the last are freed."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        way()
    live = least = peak = 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            least = min(least, live)
            peak = max(peak, live - least)
    return peak / 1e6


def agrees(found: Tensor | None, wanted: Tensor) -> str:
    """How far the norms are from those of the loop."""
    if found is None:
        return ""
    if len(found) != len(wanted):
        wanted = wanted[:: len(wanted) // len(found)]
    return f"{float((found / wanted - 1).abs().max()):.0e}"


def measure(name: str, rounds: int, only: list[str]) -> None:
    """Print the table of one model."""
    w = MODELS[name]()
    ways: dict[str, Way] = {}
    for label, make in WAYS.items():
        if label != "plain" and only and not any(word in label for word in only):
            continue
        try:
            ways[label] = make(w)
            ways[label]()
        except Exception as error:
            ways.pop(label, None)
            print(f"  {label:30} -- {type(error).__name__}: {str(error).partition(chr(10))[0][:70]}")
    wanted = loop(w)()
    assert wanted is not None
    errors = {label: agrees(way(), wanted) for label, way in ways.items()}
    times: dict[str, list[float]] = {label: [] for label in ways}
    for _ in range(rounds):
        for label, way in ways.items():
            slow = times[label] and sum(times[label]) > 20 * rounds * times["plain"][0]
            if slow and len(times[label]) > 2:
                continue
            start = time.thread_time()
            way()
            times[label].append(time.thread_time() - start)
    base = statistics.median(times["plain"])
    room = memory(ways["plain"])
    print(f"{name}: plain {base * 1e3:.1f} ms, {room:.1f} MB, batch {w.batch}")
    for label, way in ways.items():
        if label != "plain":
            ratio, most = statistics.median(times[label]) / base, memory(way)
            wrong = f"   error {errors[label]}" if errors[label] else ""
            print(f"  {label:30} x{ratio:7.2f}  memory x{most / room:6.2f} {most - room:+8.1f} MB{wrong}")


def main() -> None:
    """Read the arguments."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    ask.add_argument("--rounds", type=int, default=15)
    ask.add_argument("--only", nargs="*", default=[], help="ways whose label holds one of these words")
    given = ask.parse_args()
    torch.set_num_threads(1)
    tell_peers(PEERS)
    for name in given.models:
        measure(name, given.rounds, given.only)


if __name__ == "__main__":
    main()
