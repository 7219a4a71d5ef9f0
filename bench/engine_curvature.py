"""What second derivatives cost inside an ordinary step, beside other ways to have the same products.

    python -m bench.engine_curvature [--models mlp cnn tfm] [--rounds 9]

One step is a forward and a backward. All ways take turns inside one process; each figure is the median of
its CPU times over the median of the plain step's, with the largest live memory above its start. A product
"on the kept graph" leaves out the gradient that is taken once for all of them, which has a line of its own.
Peers that are not installed are named and left out, and
what a peer refuses is printed with its words. Products are compared with ours in float32 first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.engine import memory, tell_peers
from bench.engine_models import MODELS, Workload
from vario.capture.curvature.kept import KeptGraph
from vario.capture.curvature.lanczos import lanczos, random_start
from vario.capture.curvature.measures import Step
from vario.capture.curvature.rows import sampled_trace

Way = Callable[[], Tensor | None]
PEERS = {
    "curvlinops": "curvlinops-for-pytorch",
    "hessian_eigenthings": "hessian-eigenthings",
    "pyhessian": "pyhessian",
}
BATCHES = 30  # steps of descent before anything is measured
LATER = (10, 50)  # steps after which the largest eigenvalue is looked for again
TRUE = 30  # products that are taken for enough


class Bench:
    """One workload after some steps, its kept graph, and a direction."""

    def __init__(self, name: str) -> None:
        self.w: Workload = MODELS[name]()
        self.descend(BATCHES)
        self.names = {id(p): n for n, p in self.w.model.named_parameters()}
        self.params = list(self.w.model.parameters())
        self.kept = KeptGraph(self.w.loss(), self.names)
        self.kept.gauss_newton(self.kept.zeros())  # the pass that is shared by all of them
        self.v = random_start(self.kept.zeros(), 7)
        self.v /= self.v.norm()
        self.shaped = self.kept.split(self.v)

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return [(self.w.x, self.w.y)]

    def descend(self, steps: int) -> None:
        optimizer = torch.optim.SGD(self.w.model.parameters(), lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            self.w.loss().backward()
            optimizer.step()

    def plain(self) -> None:
        self.w.model.zero_grad()
        self.w.loss().backward()

    def build(self) -> None:
        with KeptGraph(self.w.loss(), self.names) as kept:
            kept.gradient()

    def fresh(self) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            grads = torch.autograd.grad(self.w.loss(), self.params, create_graph=True)
            return self.kept.flat(torch.autograd.grad(grads, self.params, self.shaped))

    def kept_by_hand(self) -> Way:
        with sdpa_kernel(SDPBackend.MATH):
            grads = torch.autograd.grad(self.w.loss(), self.params, create_graph=True)
        return lambda: self.kept.flat(torch.autograd.grad(grads, self.params, self.shaped, retain_graph=True))

    def draw(self) -> None:
        """A forward of its own and one draw of labels."""
        with KeptGraph(self.w.loss(), self.names) as kept:
            sampled_trace(kept, examples=self.w.batch, draws=1)

    def draw_on_kept(self) -> None:
        sampled_trace(self.kept, examples=self.w.batch, draws=1)


def curvlinops(b: Bench, kind: str) -> Way:
    import curvlinops as peer

    operator = getattr(peer, kind)(
        b.w.model, Loss(b.w), b.params, b.batches, check_deterministic=False
    )  # fmt: skip

    def product() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            found = operator @ b.shaped
            return b.kept.flat(found)

    return product


class Loss(nn.CrossEntropyLoss):
    """A mean over tokens, where there are such."""

    def __init__(self, w: Workload) -> None:
        super().__init__()
        self._w = w

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return self._w.criterion(output, y)


def eigenthings(b: Bench, kind: str) -> Way:
    import hessian_eigenthings as peer

    if kind == "HessianOperator":
        operator: Any = peer.HessianOperator(b.w.model, b.batches, peer.supervised_loss(b.w.criterion))
    else:
        operator = peer.GGNOperator(
            b.w.model, b.batches, peer.supervised_forward, peer.supervised_loss_of_output(b.w.criterion)
        )

    def product() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return operator.matvec(b.v)

    return product


def pyhessian(b: Bench) -> Way:
    from pyhessian.utils import hessian_vector_product

    with sdpa_kernel(SDPBackend.MATH):
        grads = torch.autograd.grad(b.w.loss(), b.params, create_graph=True)
    return lambda: b.kept.flat(hessian_vector_product(grads, b.params, b.shaped))


WAYS: dict[str, Callable[[Bench], Way]] = {
    "plain": lambda b: b.plain,
    "forward and kept gradient, once": lambda b: b.build,
    "H v on the kept graph": lambda b: lambda: b.kept.hessian(b.v),
    "GGN v on the kept graph": lambda b: lambda: b.kept.gauss_newton(b.v),
    "tr(GGN), a draw with its own forward": lambda b: b.draw,
    "tr(GGN), a draw on the kept graph": lambda b: b.draw_on_kept,
    "H v, fresh double backward": lambda b: b.fresh,
    "PyHessian H v, kept": pyhessian,
    "curvlinops H v": lambda b: curvlinops(b, "HessianLinearOperator"),
    "curvlinops GGN v": lambda b: curvlinops(b, "GGNLinearOperator"),
    "eigenthings H v": lambda b: eigenthings(b, "HessianOperator"),
    "eigenthings GGN v": lambda b: eigenthings(b, "GGNOperator"),
}


def error(b: Bench, label: str, way: Way) -> str:
    found = way()
    if found is None:
        return ""
    wanted = b.kept.gauss_newton(b.v) if "GGN" in label else b.kept.hessian(b.v)
    return f"  relative to ours {float((found - wanted).detach().norm() / wanted.norm()):.0e}"


def measure(name: str, rounds: int) -> None:
    """Print the table of one model."""
    b = Bench(name)
    ways: dict[str, Way] = {}
    errors: dict[str, str] = {}
    for label, make in WAYS.items():
        try:
            ways[label] = make(b)
            errors[label] = error(b, label, ways[label])
        except Exception as refusal:
            ways.pop(label, None)
            print(f"  {label:38} -- {type(refusal).__name__}: {str(refusal).splitlines()[0][:60]}")
    times: dict[str, list[float]] = {label: [] for label in ways}
    for _ in range(rounds):
        for label, way in ways.items():
            start = time.thread_time()
            way()
            times[label].append(time.thread_time() - start)
    base = statistics.median(times["plain"])
    print(f"{name}: plain {base * 1e3:.1f} ms, {memory(ways['plain']):.1f} MB, batch {b.w.batch}")
    for label, way in ways.items():
        if label != "plain":
            ratio = statistics.median(times[label]) / base
            print(f"  {label:38} x{ratio:6.2f} {memory(way):8.1f} MB{errors[label]}")
    draws = [sampled_trace(b.kept, examples=b.w.batch, draws=1, seed=k).value for k in range(16)]
    spread = statistics.stdev(draws) / statistics.fmean(draws)
    print(f"  tr(GGN) {statistics.fmean(draws):.4g}, one draw varies by {spread:.3f} of it")
    tell_top(b)


def tell_top(b: Bench) -> None:
    """Products until the largest eigenvalue is known to 1 %: at first, and when it was known before."""
    found: dict[str, Tensor] = {}
    for later in (0, *LATER):
        b.descend(later)
        with KeptGraph(b.w.loss(), b.names) as kept:
            truth = lanczos(kept.hessian, random_start(kept.zeros(), 1), steps=TRUE).values[-1]
            step = Step(kept, kept.params, found=found)
            path = lanczos(kept.hessian, step.start("top", kept.gradient()), steps=TRUE // 2)
            whole = path.vectors @ np.diag(path.values) @ path.vectors.T
            tops = [np.linalg.eigvalsh(whole[:k, :k])[-1] for k in range(1, len(whole) + 1)]
            enough = next((k for k, top in enumerate(tops, 1) if top >= 0.99 * truth), 0)
            pair = step.end("top", kept.hessian, kept.gradient())
        when = f"{later} steps later" if later else "at first"
        print(f"  largest eigenvalue {when}: {pair.value:.4g}, {pair.value / truth - 1:+.1e} of the true one")
        print(f"    in {pair.products} products; within 1 % after {enough}")


def main() -> None:
    """Read the arguments."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--models", nargs="+", default=["mlp", "cnn", "tfm"], choices=list(MODELS))
    ask.add_argument("--rounds", type=int, default=9)
    given = ask.parse_args()
    torch.set_num_threads(1)
    tell_peers(PEERS)
    for name in given.models:
        measure(name, given.rounds)


if __name__ == "__main__":
    main()
