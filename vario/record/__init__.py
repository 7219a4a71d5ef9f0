"""The record of a run: an append-only store, its reader, the list of runs, and exports. No torch."""

from vario.record.memory import record_of
from vario.record.reader import Event, Record, Run, open_run

__all__ = ["Event", "Record", "Run", "open_run", "record_of"]
