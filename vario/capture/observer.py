"""Who is told of the steps of a training loop, and says what each is to offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vario.capture.streams import Stream
from vario.capture.thinned import Thinned
from vario.nouns import Reading

__all__ = ["Observer"]


class Observer(Protocol):
    """Is told of everything; decides what a step is to offer. May raise: then it is not told again."""

    def began(self, stream: Stream) -> None:
        """A stream takes its first step; its name is final."""

    def wants(self, stream: Stream) -> frozenset[str]:
        """The raw needs that `stream.step`, which begins now, is to offer."""

    def idle_steps(self, stream: Stream) -> int:
        """How many steps, the coming one first, surely want no more than this one: they may pass untold.

        Asked where this one wants nothing, or nothing but losses and times.
        """

    def loss_period(self, stream: Stream) -> int:
        """Every how many of the steps of which nothing is wanted one has its loss kept; 0: of none."""

    def losses(self, stream: Stream, steps: Sequence[int], losses: Sequence[float]) -> None:
        """What was kept of such steps."""

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        """The same of other numbers of a step; of how many one is read, on average."""

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """What was read of such steps."""

    def passed(self, stream: Stream, steps: int, offered: Sequence[Mapping[str, Any]]) -> None:
        """So many steps passed untold; `stream.step` has been moved on. `offered` by each of them, if any."""

    def at_gradient(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        """The gradients are there, the optimizer has not moved yet."""

    def stepped(self, stream: Stream, raw: Mapping[str, Any]) -> None:
        """The optimizer has moved; what is known only now."""

    def readings(self, stream: Stream, readings: list[Reading]) -> None:
        """Readings that are not of one step."""

    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        """Something happened."""

    def failed(self, place: str, error: Exception) -> None:
        """Something of ours raised; that part is off from now on."""
