"""One self-contained page about a trial."""

from __future__ import annotations

from pathlib import Path

from vario.report.trial_text import trial_text
from vario.trials.result import Trial

__all__ = ["write_trial"]


def write_trial(trial: Trial, out: Path) -> Path:
    """Write the page."""
    import html

    out.write_text(f"<pre>{html.escape(trial_text(trial))}</pre>")
    return out
