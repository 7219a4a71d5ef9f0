"""What one measured step offers to the instruments.

Raw needs are filled in by ``capture.attach``; derived needs are computed once, on first use, by
the functions of ``DERIVED`` and shared by all instruments of the step. An instrument sees only
what it declared, so the session knows beforehand what a step must collect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vario.nouns import Reading

__all__ = ["Activation", "LossCall", "Moment"]


@dataclass(frozen=True, slots=True)
class LossCall:
    """One call of a torch loss function: what it was given and what it gave, all detached."""

    name: str
    output: Tensor
    target: Tensor | None
    value: Tensor
    reduction: str = "mean"
    weight: Tensor | None = None
    ignore_index: int = -100


@dataclass(frozen=True, slots=True)
class Activation:
    """The output of one layer or nonlinearity, as saved by the autograd graph (detached)."""

    where: str
    kind: str
    value: Tensor
    channel_dim: int = 1


DERIVED: dict[str, Callable[[Moment], Any]] = {}


class Moment:
    """One step of one stream. ``moment[need]`` gives a value, ``need in moment`` asks for it."""

    def __init__(self, stream: str, step: int, raw: Mapping[str, Any]) -> None:
        self.stream = stream
        self.step = step
        self._known: dict[str, Any] = dict(raw)
        self._allowed: frozenset[str] | None = None  # None: everything (the session's own use)

    def declared(self, needs: Iterable[str]) -> Moment:
        """A view that shares what is computed but gives only ``needs``."""
        view = object.__new__(Moment)
        view.stream, view.step, view._known = self.stream, self.step, self._known
        view._allowed = frozenset(needs)
        return view

    def __contains__(self, need: str) -> bool:
        return self._find(need) is not None

    def __getitem__(self, need: str) -> Any:
        value = self._find(need)
        if value is None:
            raise KeyError(f"step {self.step} of {self.stream} offers no {need!r}; ask with `in` first")
        return value

    def reading(self, series: str, value: float | list[float], where: str = "") -> Reading:
        return Reading(series, value, where)

    def _find(self, need: str) -> Any:
        if self._allowed is not None and need not in self._allowed:
            raise KeyError(f"{need!r} was read but not declared; add it to `needs`")
        if need not in self._known:
            whole = self.declared(())
            whole._allowed = None
            self._known[need] = DERIVED[need](whole) if need in DERIVED else None
        return self._known[need]
