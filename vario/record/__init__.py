"""The record of a run: an append-only store, its reader, the list of runs, and exports. No torch.

What only a reader needs is imported when it is first asked for: a process that writes goes without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vario.record.memory import record_of
    from vario.record.reader import Event, Record, Run, open_run

__all__ = ["Event", "Record", "Run", "open_run", "record_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "memory" if name == "record_of" else "reader"
    return getattr(import_module(f"{__name__}.{home}"), name)
