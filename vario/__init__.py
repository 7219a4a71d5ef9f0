"""vario shows what a PyTorch training run is doing, says what is wrong, and tries what should help.

The public names are loaded on first use, so that ``import vario`` costs nothing and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vario.nouns import VarioError as VarioError
    from vario.record.reader import Record as Record
    from vario.record.reader import Run as Run
    from vario.record.reader import open_run as open_run
    from vario.record.runs import find_run as find_run
    from vario.report.forward import forward as forward
    from vario.report.html import write_report as write_report
    from vario.rules._diagnose import diagnose as diagnose
    from vario.trials.result import Trial as Trial
    from vario.trials.trial import trial as trial
    from vario.watching import watch as watch

_HOMES = {
    "VarioError": "vario.nouns",
    "Record": "vario.record.reader",
    "Run": "vario.record.reader",
    "open_run": "vario.record.reader",
    "find_run": "vario.record.runs",
    "forward": "vario.report.forward",
    "write_report": "vario.report.html",
    "diagnose": "vario.rules._diagnose",
    "Trial": "vario.trials.result",
    "trial": "vario.trials.trial",
    "watch": "vario.watching",
}
__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604 - the names are those of _HOMES


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"vario has no {name!r}; it has {', '.join(sorted(_HOMES))}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
