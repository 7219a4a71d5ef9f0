"""What one measured step offers to the instruments.

Raw needs are filled in by ``capture.attach``; derived needs are computed once, on first use, by
the functions of ``DERIVED`` and shared by all instruments of the step. An instrument sees only
what it declared, so the session knows beforehand what a step must collect: ``raw_needs``.

Two moments in time meet in one step. Gradients must be read before the optimizer changes them,
weights after it. So the session calls ``moment.prepare(before_step(needs))`` just before the
optimizer's step; that only starts the arithmetic on the device. The numbers come to the host in
one transfer when the first of them is read, which may be after the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vario.capture.derived import DERIVED
from vario.capture.needs import Activation, LossCall, Pending
from vario.nouns import Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Activation", "LossCall", "Moment", "before_step", "raw_needs"]

# raw needs that the optimizer may overwrite
AT_THE_GRADIENT = frozenset({"grads", "grads_previous", "shard_grads"})


def raw_needs(needs: Iterable[str]) -> frozenset[str]:
    """The raw needs behind ``needs``: what capture must collect for them."""
    found: set[str] = set()
    for need in needs:
        found |= raw_needs(DERIVED[need].needs) if need in DERIVED else {need}
    return frozenset(found)


def before_step(needs: Iterable[str]) -> frozenset[str]:
    """Those of ``needs`` that must be prepared before the optimizer's step: they read gradients."""
    return frozenset(need for need in needs if raw_needs((need,)) & AT_THE_GRADIENT)


class Moment:
    """One step of one stream. ``moment[need]`` gives a value, ``need in moment`` asks for it."""

    def __init__(self, stream: str, step: int, raw: Mapping[str, Any]) -> None:
        self.stream = stream
        self.step = step
        self._known: dict[str, Any] = dict(raw)
        self._allowed: frozenset[str] | None = None  # None: everything (the session's own use)

    def declared(self, needs: Iterable[str]) -> Moment:
        """A view that shares what is computed but gives only ``needs``."""
        return self._view(frozenset(needs))

    def offer(self, need: str, value: Any) -> None:
        """Add a raw need that became known later (weights after the step, times)."""
        self._known[need] = value

    def prepare(self, needs: Iterable[str]) -> None:
        """Start the arithmetic of derived ``needs`` on the device, without waiting for it.

        An error is kept and raised when the need is read, so that only its readers fail.
        """
        for need in needs:
            self._start(need)

    def __contains__(self, need: str) -> bool:
        return self._find(need) is not None

    def __getitem__(self, need: str) -> Any:
        value = self._find(need)
        if value is None:
            raise KeyError(f"step {self.step} of {self.stream} offers no {need!r}; ask with `in` first")
        return value

    def reading(self, series: str, value: float | Sequence[float], where: str = "") -> Reading:
        return Reading(series, value, where)

    def _view(self, allowed: frozenset[str] | None) -> Moment:
        view = object.__new__(Moment)
        view.stream, view.step, view._known, view._allowed = self.stream, self.step, self._known, allowed
        return view

    def _find(self, need: str) -> Any:
        if self._allowed is not None and need not in self._allowed:
            raise KeyError(f"{need!r} was read but not declared; add it to `needs`")
        self._start(need)
        if isinstance(self._known[need], Pending):
            self._bring_to_host()
        value = self._known[need]
        if isinstance(value, _Failed):
            raise value.error
        return value

    def _start(self, need: str) -> None:
        if need in self._known:
            return
        derived = DERIVED.get(need)
        try:
            self._known[need] = None if derived is None else derived.start(self._view(derived.needs))
        except Exception as error:
            self._known[need] = _Failed(error)

    def _bring_to_host(self) -> None:
        waiting = {need: value for need, value in self._known.items() if isinstance(value, Pending)}
        arrays = iter(_to_host([part for pending in waiting.values() for part in pending.parts]))
        for need, pending in waiting.items():
            mine = [next(arrays) for _ in pending.parts]
            try:
                self._known[need] = pending.finish(mine)
            except Exception as error:
                self._known[need] = _Failed(error)


@dataclass(frozen=True, slots=True)
class _Failed:
    """Stands for a derived need that could not be computed."""

    error: Exception


def _to_host(parts: list[Tensor]) -> list[NDArray[np.float64]]:
    """All parts in one transfer per device, as float64 (exact for floats and for counts below 2^53)."""
    arrays = {  # what lies on the host already needs no transfer
        index: part.detach().reshape(-1).double().numpy()
        for index, part in enumerate(parts)
        if part.device.type == "cpu"
    }
    for device in {part.device for part in parts if part.device.type != "cpu"}:
        mine = [index for index, part in enumerate(parts) if part.device == device]
        mine.sort(key=lambda index: str(parts[index].dtype))  # what is alike is joined, then widened at once
        joined = [
            _widened(torch.cat([parts[index].detach().reshape(-1) for index in alike]))
            for _, alike in groupby(mine, key=lambda index: parts[index].dtype)
        ]
        ends = np.cumsum([parts[index].numel() for index in mine])
        arrays.update(zip(mine, np.split(torch.cat(joined).cpu().numpy(), ends[:-1]), strict=True))
    return [arrays[index] for index in range(len(parts))]


def _widened(values: Tensor) -> Tensor:
    return (values.cpu() if values.device.type == "mps" else values).double()  # mps has no float64
