"""A loop that computes gradients and takes no step with them: `optimizer.step()` was forgotten.

A stream begins with the first step of its optimizer, so the record of such a run would hold nothing at all.
After ``ENOUGH`` backwards without a step, those optimizers are told of whose parameters have a gradient;
whether a step ever came is known at the end only, as a step may gather as many micro-batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vario.capture import alive

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["ENOUGH", "look", "tell"]

ENOUGH = 20


def look(attachment: Attachment) -> None:
    """After a backward of a run without any stream."""
    batches = attachment.gathered.batches
    if len(batches.members) < ENOUGH:
        return
    batches.calls.clear()  # nobody will read them, and outputs and targets must not pile up
    if len(batches.members) > ENOUGH:
        return
    for optimizer in alive.known()[1]:
        if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            stream = attachment.stream_of(optimizer)
            if stream is not None:
                stream.wanted = frozenset()  # the step under way has nothing more to offer


def tell(attachment: Attachment) -> None:
    """At the end: the backwards that no step came of, where none ever came."""
    backwards = len(attachment.gathered.batches.members)
    if backwards >= ENOUGH and not any(stream.step for stream in attachment.streams):
        for stream in attachment.streams:
            attachment.observer.event(stream, "never_stepped", "", {"backwards": backwards})
