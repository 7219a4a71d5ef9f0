"""What a measured step copies must leave the script the memory that its next step needs.

A step needs most at some point in its middle, and whoever holds a copy of the weights then takes it from the
script. So copies are made, and further passes through the graph run, only where the most that was ever needed
and what they need fit together into what there is. What is left out is told once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vario.capture.needs import CURVATURE, EXAMPLES, KEEP
from vario.capture.shards import local
from vario.capture.streams import Stream

__all__ = ["Memory", "Room", "memory"]

# Each as much as all parameters: copies of them or of their gradients, and outputs of layers that are kept
# while a backward would let them go for the gradients that it makes.
COPIES = frozenset({"weights_before", "keep_grads", KEEP, "activations"})
# Of what lies between a step's middle and its end: second derivatives keep all of it and go through it once
# more, the gradients of examples were seen to need a twentieth.
PASSES = ((CURVATURE - COPIES, 1.0), (EXAMPLES, 0.25))
STATE = 2  # times the parameters: what an optimizer will hold that has not stepped yet
SHARE = 0.9  # of what there is; the rest is in pieces


class Memory(NamedTuple):
    """Bytes of one device: held now, held at most so far, and that could be held."""

    now: int
    peak: int
    most: int


class Room:
    """Leaves out of what is wanted of a step what there is no room for."""

    def __init__(self, happened: Callable[[str, str, dict[str, Any]], None]) -> None:
        self._happened, self._told = happened, set[str]()

    def left(self, stream: Stream, wanted: frozenset[str]) -> frozenset[str]:
        """What of `wanted` the stream can offer, and there is room for."""
        wanted = stream.can_offer(wanted)
        dear = wanted & (COPIES | CURVATURE | EXAMPLES)
        if not dear:
            return wanted
        sizes: dict[torch.device, int] = {}
        for parameter in map(local, stream.params):
            sizes[parameter.device] = sizes.get(parameter.device, 0) + parameter.nbytes
        known = {device: found for device in sizes if (found := memory(device)) is not None}

        def short(wanted: frozenset[str]) -> list[torch.device]:
            return [d for d, m in known.items() if _needed(stream, wanted, sizes[d], m) > SHARE * m.most]

        taken = wanted
        for needs in (*(needs for needs, _ in PASSES), COPIES):
            if not short(taken):
                break
            taken -= needs
        if taken != wanted and not self._told >= wanted - taken:
            self._told |= wanted - taken
            device = short(wanted)[0]
            needed = _needed(stream, wanted, sizes[device], known[device])
            told = {"device": str(device), "needed": needed, "there": known[device].most}
            self._happened("no_room", "", told | {"left_out": sorted(wanted - taken)})
        return taken


def memory(device: torch.device) -> Memory | None:
    """What is known of a device's memory; None where nothing is."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        part = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(device)
        most = min(free + torch.cuda.memory_reserved(device), int(part * total))
        return Memory(torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device), most)
    return _of_the_host() if device.type == "cpu" else None


def _of_the_host() -> Memory | None:
    status = _kilobytes("/proc/self/status")
    available = _kilobytes("/proc/meminfo").get("MemAvailable")
    now, peak = status.get("VmRSS"), status.get("VmHWM")
    if available is None or now is None or peak is None:
        return None
    return Memory(now, peak, now + min(available, _of_the_container()))


def _of_the_container(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that its limit leaves, kept files having made way; many where there is no limit."""
    try:
        limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
    except (OSError, ValueError):  # none, or "max"
        return 1 << 62
    return limit - used + sum(int(line[1]) for line in lines if line[0] in ("active_file", "inactive_file"))


def _kilobytes(place: str) -> dict[str, int]:
    """The lines `Name:  1234 kB` of a file of the system, in bytes."""
    try:
        lines = [line.split() for line in Path(place).read_text().splitlines()]
    except OSError:
        return {}
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[2:] == ["kB"]}


def _needed(stream: Stream, wanted: frozenset[str], size: int, memory: Memory) -> float:
    """The most that will be held: by the script, and beside it by us."""
    passes = [part for needs, part in PASSES if needs & wanted]
    started = any(optimizer.state for ref in stream.optimizers if (optimizer := ref()) is not None)
    state = 0 if started or not stream.optimizers else STATE * size
    within = max(memory.peak - memory.now, 0)
    return memory.peak + state + len(COPIES & wanted) * size + max(passes, default=0.0) * within
