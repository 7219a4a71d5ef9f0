"""Learning-rate schedulers: which they are, how they are set, and how often they are stepped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vario.capture.attach import Attachment

__all__ = ["Schedulers"]


class Schedulers:
    """Counts the calls of each scheduler; told at its first call, after an epoch, and at the end."""

    def __init__(self, attachment: Attachment) -> None:
        self._all = attachment
        self._known: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._depth = 0

    def stepped(self, scheduler: Any) -> None:
        """A scheduler was stepped: after how many steps of its optimizer, and epochs of training?"""
        optimizer = getattr(scheduler, "optimizer", None)
        wrapped = optimizer, getattr(optimizer, "optimizer", None)
        known = [self._all.of_optimizer.get(id(one)) for one in wrapped]
        streams = [pair[1] for pair in known if pair is not None and pair[1] is not None] + self._all.streams
        self._all.doze.count()
        optimizer_steps, epochs = streams[0].step if streams else 0, self._all.loaders.epochs_trained
        if getattr(scheduler, "last_epoch", 1) == 0:
            return  # its constructor steps once
        held = self._known.get(id(scheduler))
        if held is None or held[0] is not type(scheduler):
            counts = {"calls": 0, "first_step": optimizer_steps, "first_epoch": epochs, "told": -1}
            self._known[id(scheduler)] = (type(scheduler), {**counts, "settings": _settings(scheduler)})
            held = self._known[id(scheduler)]
        kind, counts = held
        counts["calls"] += 1
        counts["steps"], counts["epochs"] = optimizer_steps, epochs
        if counts["calls"] == 1 or (epochs - counts["first_epoch"] == 1 and counts["told"] < epochs):
            counts["told"] = epochs
            # called within a new epoch: the calls before this one were made in the whole epochs before it
            self._say(kind, counts, (counts["calls"] - 1) / (epochs - 1) if epochs > 1 else None)

    def close(self) -> None:
        """The end of the run: the last word on each."""
        for kind, counts in self._known.values():
            self._say(kind, counts, counts["calls"] / counts["epochs"] if counts["epochs"] else None)

    def _say(self, kind: type, counts: dict[str, Any], calls_per_epoch: float | None) -> None:
        self._all.happened(
            "scheduler",
            "",
            {
                "class": kind.__name__,
                "calls": counts["calls"],
                "optimizer_steps": counts["steps"],
                "calls_per_optimizer_step": counts["calls"] / counts["steps"] if counts["steps"] else None,
                "steps_per_epoch": calls_per_epoch,
                "settings": counts["settings"],
            },
        )


def _settings(scheduler: Any) -> dict[str, Any]:
    """Its own numbers, such as T_max, step_size, gamma, milestones, total_steps."""
    found: dict[str, Any] = {}
    for name, value in vars(scheduler).items():
        if name.startswith("_") or name in ("optimizer", "last_epoch"):
            continue
        if isinstance(value, (int, float, str, bool)):
            found[name] = value
        elif isinstance(value, (list, tuple, dict)) and len(value) <= 20:  # a Counter of milestones too
            found[name] = [item for item in value if isinstance(item, (int, float))]
    return found
