"""The doors of few steps, to single examples and second derivatives: each is loaded when first wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.hooks import RemovableHandle

from vario.capture.needs import CURVATURE, EXAMPLES
from vario.capture.streams import Stream

if TYPE_CHECKING:
    from vario.capture.attach import Attachment
    from vario.capture.curvature.door import CurvatureDoor
    from vario.capture.per_example.door import ExampleDoor

__all__ = ["Doors"]

Heard = TypeVar("Heard")


class Doors:
    """Asked around every backward, and for what a step has to offer."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._handles = -1  # hooks that were made before the step began
        self._examples: ExampleDoor | None = None
        self._curvature: CurvatureDoor | None = None

    def step_begins(self) -> None:
        """Hooks that are made from now on are on tensors of the step."""
        self._handles = RemovableHandle.next_id

    def ours(self, listen: Callable[[], Heard]) -> Heard:
        """Hooks that we make in mid-step are not the script's."""
        before, heard = RemovableHandle.next_id, listen()
        if self._handles >= 0:
            self._handles += RemovableHandle.next_id - before
        return heard

    def before(self, tensors: Any) -> None:
        """A backward is about to run; the micro-batch is among those gathered."""
        for stream in self._all.streams:
            self._load(stream.wanted)
        hooked = self._handles != RemovableHandle.next_id  # asked before we make any
        if self._curvature is not None:  # first: examples listen to every pass through the graph
            self._curvature.before(tensors, hooked=hooked and self._handles >= 0)
        if self._examples is not None:
            self._examples.before(tensors)

    def after(self) -> None:
        """The backward is over, well or not."""
        if self._examples is not None:
            self._examples.after()

    def of(self, stream: Stream) -> dict[str, Any]:
        """What the step that ends has to offer; before the optimizer moves."""
        self._load(stream.wanted)
        found: dict[str, Any] = {}
        if self._examples is not None:
            found |= self._examples.of(stream)
        if self._curvature is not None:
            found |= self._curvature.of(stream)
        return found

    def _load(self, wanted: frozenset[str]) -> None:
        if self._examples is None and EXAMPLES & wanted:
            from vario.capture.per_example.door import ExampleDoor

            self._examples = ExampleDoor(self._all)
        if self._curvature is None and CURVATURE & wanted:
            from vario.capture.curvature.door import CurvatureDoor

            self._curvature = CurvatureDoor(self._all)
