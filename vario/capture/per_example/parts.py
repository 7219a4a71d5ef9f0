"""Gradients of the parts of a step, before they are added up: of its micro-batches, or of this rank.

A part's gradient is heard where it arrives at the parameter, which is before it is accumulated and before
DistributedDataParallel averages it. Nothing is sent between processes for it: each rank tells of its own
part, and the mean over ranks is taken by who reads the records. So a lost rank keeps nobody waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vario.capture.per_example.found import exact, square

__all__ = ["GradientParts", "PartListener"]


@dataclass(slots=True)
class GradientParts:
    """``examples`` of each part; the step is made of ``parts`` such parts, of which some were heard.

    ``squares``: for each part that was heard, the squared norm of its gradient by parameter; ``whole``: of
    the gradient that the step is made of, as it lies in ``.grad`` after the last backward. With
    ``averaged`` that is the mean over ``averaged`` ranks of sums over micro-batches. ``cut``: ``whole`` is
    but this process's share, and those of all add up.
    """

    examples: int
    parts: int
    averaged: int = 1
    squares: list[dict[str, Tensor]] = field(default_factory=list)
    whole: dict[str, Tensor] = field(default_factory=dict)
    scale: float = 1.0
    cut: bool = False

    @property
    def factor(self) -> float:
        """What a part's gradient is multiplied by to estimate that of the whole."""
        return self.parts / self.averaged


class PartListener:
    """Hears one backward. ``close`` gives the squares of the gradients that arrived at the parameters."""

    def __init__(
        self, order: Iterable[Any], names: Mapping[int, str], pieces: Mapping[Any, str] | None = None
    ) -> None:
        self.seconds = 0.0
        self._squares: dict[str, Tensor] = {}
        self._removers: list[Callable[[], None]] = []
        for node in order:
            name = (pieces or {}).get(node)
            if type(node).__name__ == "AccumulateGrad":
                name = names.get(id(node.variable))
            if name is not None:
                self._removers.append(node.register_prehook(self._hear(name)).remove)

    def close(self) -> dict[str, Tensor]:
        """Let go of the graph; what was heard."""
        self.let_go()
        return self._squares

    def let_go(self) -> None:
        """Hear no more."""
        for remove in self._removers:
            remove()
        self._removers = []

    def _hear(self, name: str) -> Callable[[tuple[Tensor | None, ...]], None]:
        def hear(gradients: tuple[Tensor | None, ...]) -> None:
            start = time.perf_counter()
            try:
                if gradients[0] is not None:
                    with exact(gradients[0]):
                        self._squares[name] = square(gradients[0].detach())
            except Exception as error:  # an observer must never fail the user's backward
                self._squares.pop(name, None)
                del error
            self.seconds += time.perf_counter() - start

        return hear
