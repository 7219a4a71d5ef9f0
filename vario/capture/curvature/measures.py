"""What is asked of the second derivatives at one step, each from products with the kept graph.

Every function takes a ``Step`` and gives numbers with what bounds them, or raises NotApplicable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from vario.capture.curvature import rows as by_row
from vario.capture.curvature.kept import KeptGraph
from vario.capture.curvature.lanczos import (
    FEWEST,
    FEWEST_WARM,
    Density,
    Pair,
    Product,
    density,
    largest,
    random_start,
)
from vario.capture.curvature.rates import rates
from vario.capture.curvature.trace import Estimate, hutch_pp
from vario.nouns import NotApplicable

__all__ = ["MEASURES", "Ends", "Halves", "Limit", "Slopes", "Step", "Traces"]

# length of the random part of a start, where the rest has length 1; 0.5 beside a gradient takes products more
COLD, WARM = 0.05, 0.3
KERNEL_ROWS = 32
KERNEL_ENTRIES = 1 << 26  # of the gradients that are held for the kernel


@dataclass(frozen=True)
class Step:
    """One step of one stream: the kept graph, and what surrounds it."""

    kept: KeptGraph
    params: Sequence[Tensor]  # of the stream; the kept graph may hold fewer
    optimizer: Optimizer | None = None
    before: Sequence[Tensor] | None = None  # weights when the last step began
    inputs: Sequence[Tensor] | None = None
    found: dict[str, Tensor] = field(default_factory=dict)  # eigenvectors, of earlier steps too, by name

    def end(
        self,
        name: str,
        product: Product,
        first: Tensor | None = None,
        *,
        within: float = 0.01,
        most: int = 40,
        least: bool = False,
    ) -> Pair:
        """An end of a spectrum; where it was last found, the next search for one of its name begins."""
        fewest = FEWEST if self._known(name) is None else FEWEST_WARM
        start = self.start(name, first)
        pair = largest(product, start, within=within, most=most, fewest=fewest, least=least)
        self.found[name] = pair.vector
        return pair

    def start(self, name: str, first: Tensor | None = None) -> Tensor:
        """The vector that was found last, else ``first``, and beside it something random.

        So an eigenvector that has nothing of either is found as well.
        """
        start, known = random_start(self.kept.zeros(), 0), self._known(name)
        told = first if known is None else known
        length = 0.0 if told is None else float(torch.linalg.vector_norm(told))
        if told is not None and length > 0 and np.isfinite(length):
            share = COLD if known is None else WARM
            start.mul_(share / torch.linalg.vector_norm(start)).add_(told, alpha=1 / length)
        return start

    def _known(self, name: str) -> Tensor | None:
        found = self.found.get(name)
        return found if found is not None and found.shape == (self.kept.size,) else None

    def examples(self) -> int:
        """How many the batch holds: rows of the model's input, where the outputs' rows are a multiple."""
        rows = {self.kept.head_shape(edge)[0] for edge in self.kept.heads() if self.kept.head_shape(edge)}
        if len(rows) != 1:
            raise NotApplicable("the outputs do not have one number of rows")
        count = rows.pop()
        given = int(self.inputs[0].shape[0]) if self.inputs and self.inputs[0].dim() else 0
        return given if given > 1 and count % given == 0 else count


@dataclass(frozen=True, slots=True)
class Ends:
    """The largest eigenvalue of the Hessian lies above ``top``, near ``top_high``; likewise the smallest."""

    top: float
    top_high: float
    bottom: float
    bottom_low: float


@dataclass(frozen=True, slots=True)
class Slopes:
    """Second derivative of the loss along a direction of length 1; None where there is no direction."""

    gradient: float | None
    step: float | None


@dataclass(frozen=True, slots=True)
class Limit:
    """The present rates over the largest stable ones (above 1: unstable), and the rate of each group."""

    share: float
    share_high: float
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Traces:
    """Sums of all eigenvalues; None where no output of the network is known."""

    hessian: Estimate
    gauss_newton: Estimate | None


@dataclass(frozen=True, slots=True)
class Halves:
    """Largest eigenvalues: of the batch, of its halves (mean), and of the one half's matrix along the
    other's eigenvector (mean). ``examples`` are those of a half."""

    whole: float
    half: float
    crossed: float
    examples: int


def ends(step: Step) -> Ends:
    """Both ends of the Hessian's spectrum."""
    top = step.end("top", step.kept.hessian, step.kept.gradient())
    bottom = step.end("bottom", step.kept.hessian, within=0.1, most=20, least=True)
    return Ends(top.value, top.value + top.error, bottom.value, bottom.value - bottom.error)


def slopes(step: Step) -> Slopes:
    """Along the gradient, and along the step that was taken last."""
    along: list[float | None] = []
    taken = None
    if step.before is not None:
        moved = {id(p): p.detach() - w.to(p) for p, w in zip(step.params, step.before, strict=True)}
        taken = step.kept.flat([moved[id(p)] for p in step.kept.params])
    for direction in (step.kept.gradient(), taken):
        length = 0.0 if direction is None else float(torch.linalg.vector_norm(direction))
        if direction is None or not length > 0 or not np.isfinite(length):
            along.append(None)
            continue
        unit = direction / length
        along.append(float(torch.dot(unit, step.kept.hessian(unit))))
    return Slopes(along[0], along[1])


def limit(step: Step) -> Limit:
    """How near the learning rates are to the largest stable ones, for the optimizer in use."""
    if step.optimizer is None:
        raise NotApplicable("no optimizer, or several, step these parameters")
    found = rates(step.optimizer, step.kept.params)
    scales = step.kept.flat(found.scales)
    roots = scales.clamp(min=0).sqrt()
    decays = step.kept.flat(
        [torch.full_like(p, d) for p, d in zip(step.kept.params, found.decays, strict=True)]
    )

    def product(vector: Tensor) -> Tensor:
        inner = roots * vector
        return roots * (step.kept.hessian(inner) + decays * inner)

    top = step.end("preconditioned", product, roots * step.kept.gradient())
    share, high = top.value / found.limit, (top.value + top.error) / found.limit
    groups = tuple(float(group["lr"]) for group in step.optimizer.param_groups)
    return Limit(share, high, tuple(rate / share if share > 0 else float("inf") for rate in groups))


def traces(step: Step) -> Traces:
    """Of the Hessian (Hutch++) and of the Gauss-Newton matrix (sampled labels; else Hutch++)."""
    whole = hutch_pp(step.kept.hessian, step.kept.zeros())
    try:
        return Traces(whole, by_row.sampled_trace(step.kept, examples=step.examples()))
    except NotApplicable:
        pass
    try:
        return Traces(whole, hutch_pp(step.kept.gauss_newton, step.kept.zeros()))
    except NotApplicable:
        return Traces(whole, None)


def spectrum(step: Step) -> Density:
    """Density of the Hessian's eigenvalues."""
    return density(step.kept.hessian, step.kept.zeros())


def halves(step: Step) -> Halves:
    """Largest eigenvalues of the two halves of the batch, every other example in each."""
    count = step.examples()
    if count < 4:
        raise NotApplicable(f"{count} examples in the batch; 4 are needed to compare halves")
    rows = list(range(count - count % 2))
    parts = [step.kept.part(rows[k::2], examples=count) for k in (0, 1)]
    whole = step.end("top", step.kept.hessian, step.kept.gradient())
    # nothing of the whole, or of steps before, is in these: each is held against the other half
    tops = [largest(part.hessian, random_start(step.kept.zeros(), 0)) for part in parts]
    crossed = [
        float(torch.dot(top.vector, other.hessian(top.vector)))
        for top, other in zip(tops, parts[::-1], strict=True)
    ]
    return Halves(whole.value, sum(top.value for top in tops) / 2, sum(crossed) / 2, len(rows) // 2)


def kernel(step: Step) -> Tensor:
    """The tangent kernel of some examples of the batch, by sums of logits."""
    count = step.examples()
    most = max(2, min(KERNEL_ROWS, KERNEL_ENTRIES // max(1, step.kept.size)))
    rows = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
    if len(rows) < 2:
        raise NotApplicable("one example has no kernel")
    return by_row.tangent_kernel(step.kept, rows, examples=count)


MEASURES: Mapping[str, Callable[[Step], Any]] = {
    "curvature_ends": ends,
    "curvature_slopes": slopes,
    "curvature_limit": limit,
    "curvature_traces": traces,
    "curvature_density": spectrum,
    "curvature_halves": halves,
    "tangent_kernel": kernel,
}
