"""Memory of the process, and of the accelerator that holds the parameters, in bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "one small read from the kernel",
    "checked": "closed form: an array of known size is allocated",
    "changed": "resident memory only where the system has /proc (Linux)",
}

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Memory:
    """Resident bytes of this process; bytes that torch has allocated on the device."""

    name: str = "memory"
    needs: frozenset[str] = frozenset({"params"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if _STATM.exists():
            pages = int(_STATM.read_text().split()[1])
            yield moment.reading("memory/resident", float(pages * os.sysconf("SC_PAGE_SIZE")))
        if "params" in moment and moment["params"] and moment["params"][0].is_cuda:
            yield moment.reading(
                "memory/device", float(torch.cuda.memory_allocated(moment["params"][0].device))
            )
