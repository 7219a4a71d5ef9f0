"""What the methods cost: ratios measured inside one process, each beside the peer that it must keep up with.

    python -m bench.methods [optimizers|activations|contrastive|all]

Steps are interleaved and timed in processor time (one thread), so that other work on the machine hits all of
them alike; medians are compared. The bar
of each line was set before it was measured; a line that misses it says so.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

ROUNDS, SECONDS = 9, 2.0  # at least so many, and at least so long: a short step takes hundreds of rounds


def mlp() -> list[nn.Parameter]:
    """19 million parameters: 1024 - 2048 x 5 - 10, with gradients."""
    torch.manual_seed(0)
    sizes = [1024, 2048, 2048, 2048, 2048, 2048, 10]
    shapes = [shape for a, b in zip(sizes, sizes[1:]) for shape in ((b, a), (b,))]  # noqa: B905
    return with_gradients([torch.randn(shape) * 0.02 for shape in shapes])


def transformer() -> list[nn.Parameter]:
    """A two-layer character transformer, 0.8 million parameters in 28 tensors, with gradients."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(256, 4, 512, batch_first=True)
    model = nn.Sequential(nn.Embedding(96, 256), nn.TransformerEncoder(layer, 2), nn.Linear(256, 96))
    return with_gradients([p.detach() for p in model.parameters()])


def with_gradients(values: list[Tensor]) -> list[nn.Parameter]:
    params = [nn.Parameter(value.clone()) for value in values]
    for p in params:
        p.grad = torch.randn_like(p) * 1e-3
    return params


def timed(calls: dict[str, Callable[[], Any]], seconds: float = SECONDS) -> dict[str, float]:
    """Median seconds of each call; one round of all of them first, which is not counted."""
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    started = time.process_time()
    while time.process_time() - started < seconds or min(map(len, seen.values())) < ROUNDS:
        for name, call in calls.items():
            start = time.process_time()
            call()
            seen[name].append(time.process_time() - start)
    return {name: median(values) for name, values in seen.items()}


def ratio_of(ours: torch.optim.Optimizer, peer: torch.optim.Optimizer) -> float:
    seconds = timed({"ours": ours.step, "peer": peer.step})
    return seconds["ours"] / seconds["peer"]


def report(name: str, value: float, bar: float, unit: str) -> None:
    verdict = "ok" if value <= bar else "MISSED"
    print(f"  {name:<34} {value:8.3f} {unit:<28} bar {bar:<6g} {verdict}", flush=True)


def state_bytes(optimizer: torch.optim.Optimizer) -> float:
    held = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t))
    return held / sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def optimizers() -> None:
    from vario.methods import memory
    from vario.methods import optimizers as ours

    adamw = torch.optim.AdamW
    fused = lambda p: adamw(p, fused=True)
    made: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], str, float]] = {
        "AdamW8bit": (memory.AdamW8bit, "fused", 3.5),
        "AdamAtan2": (ours.AdamAtan2, "default", 1.2),
        "LARS": (ours.LARS, "default", 1.2),
        "TVLARS": (ours.TVLARS, "default", 1.2),
        "PerpGrad(fused AdamW)": (lambda p: ours.PerpGrad(fused(p)), "default", 1.2),
        "GradientNoise(fused AdamW)": (lambda p: ours.GradientNoise(fused(p)), "default", 1.2),
        "Bloop(fused AdamW), no aux": (lambda p: ours.Bloop(fused(p)), "default", 1.2),
    }
    wrapped: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], str, float]] = {}
    bare: dict[str, Callable[[Any], torch.optim.Optimizer]] = {"fused": fused, "default": adamw}
    try:
        import pytorch_optimizer as package
    except ImportError:
        print("  pytorch_optimizer is not installed: its wrappers are left out")
    else:
        bare["StableSPAM"] = lambda p: package.StableSPAM(p, foreach=False)
        bare["DiffGrad"] = lambda p: package.DiffGrad(p, weight_decouple=False)
        wrapped["stable_spam"] = (ours.stable_spam, "StableSPAM", 1.03)
        wrapped["diff_grad"] = (ours.diff_grad, "DiffGrad", 1.03)
    bare["Adafactor"] = torch.optim.Adafactor
    wrapped["adafactor"] = (ours.adafactor, "Adafactor", 1.03)
    for title, params in (("MLP, 19 M parameters", mlp), ("transformer, 0.8 M", transformer)):
        print(title)
        for name, (make, peer, bar) in {**made, **wrapped}.items():
            two, one = bare[peer](params()), make(params())
            ratio = ratio_of(one, two)
            if name in wrapped:  # made in the other order too: where memory lies is worth some per cent
                ratio = (ratio + ratio_of(make(params()), bare[peer](params()))) / 2
            report(name, ratio, bar, f"x {peer}")
            if name == "AdamW8bit":
                report(name, state_bytes(one), 2.05, "bytes per parameter")


def activations() -> None:
    from vario.methods.memory import FewBit, ReGELU2, ReSiLU2

    print("activations, 64 x 128 x 2048, forward and backward")
    x = torch.randn(64, 128, 2048, requires_grad=True)
    grad = torch.randn(x.shape)
    pairs: dict[str, tuple[nn.Module, nn.Module, float]] = {
        "ReGELU2": (ReGELU2(), nn.GELU(), 0.25),
        "ReSiLU2": (ReSiLU2(), nn.SiLU(), 0.25),
        "FewBit gelu, 2 bits": (FewBit("gelu", bits=2), nn.GELU(), 0.25),
        "FewBit gelu, 3 bits": (FewBit("gelu", bits=3), nn.GELU(), 0.375),
    }
    for name, (ours, plain, bar) in pairs.items():
        seconds = timed(
            {
                "ours": lambda ours=ours: torch.autograd.grad(ours(x), x, grad),
                "plain": lambda plain=plain: torch.autograd.grad(plain(x), x, grad),
            }
        )
        report(name, seconds["ours"] / seconds["plain"], 1.1, "x the plain activation")
        report(name, ours(x).grad_fn.saved_tensors[0].nbytes / x.numel(), bar, "bytes per entry")


CONTRASTIVE = """
import sys, time, torch
from torch import nn
from vario.methods.memory import TiledContrastiveLoss
torch.set_num_threads({threads})
kind, b = "{kind}", {b}
draw = torch.Generator().manual_seed(0)
a, t = (nn.functional.normalize(torch.randn(b, 256, generator=draw), dim=1) for _ in range(2))
a.requires_grad_(), t.requires_grad_()
def dense(a, t, s):
    m, target = s * a @ t.T, torch.arange(len(a))
    return (nn.functional.cross_entropy(m, target) + nn.functional.cross_entropy(m.T, target)) / 2
loss = TiledContrastiveLoss(tile=1024) if kind == "tiled" else dense
loss(a[:64], t[:64], 10.0).backward()
def peak():  # of this program: ru_maxrss starts at the size of the process that it was forked from
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1])
before, start = peak(), time.process_time()
loss(a, t, 10.0).backward()
print(peak() - before, time.process_time() - start)
"""


def contrastive() -> None:
    """Each run in its own process: the peak of a process never falls."""
    print("contrastive loss, 256 features")

    def run(kind: str, b: int) -> tuple[float, float]:
        code = CONTRASTIVE.format(kind=kind, b=b, threads=torch.get_num_threads())
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        kilobytes, seconds = out.split()
        return float(kilobytes), float(seconds)

    large = {kind: run(kind, 16384) for kind in ("tiled", "dense")}
    report("peak memory at 16,384", large["tiled"][0] / large["dense"][0], 0.1, "x dense")
    times = [(run("tiled", 4096)[1], run("dense", 4096)[1]) for _ in range(3)]
    report("time at 4,096", median(t for t, _ in times) / median(d for _, d in times), 1.6, "x dense")


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = sys.argv[1] if len(sys.argv) > 1 else "all"
    parts = {"optimizers": optimizers, "activations": activations, "contrastive": contrastive}
    if chosen not in {"all", *parts}:
        sys.exit(str(__doc__).strip())
    for part in parts.values() if chosen == "all" else (parts[chosen],):
        part()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"torch {torch.__version__}, one thread, peak of this process {peak:.0f} MB")
