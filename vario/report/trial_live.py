"""A trial while it runs: a table whose intervals close in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vario.nouns import Verdict
from vario.report.trial_text import difference_words, outcome_line, reach_of, standing, verdict_words
from vario.report.words import duration
from vario.trials.trial import Progress

__all__ = ["progress_lines", "watching"]

STYLES = {"helps": "bold green", "hurts": "bold red", "equivalent": "cyan", "undecided": ""}


@contextmanager
def watching(stream: TextIO) -> Iterator[Callable[[Progress], None]]:
    """What a trial may tell its progress to, for as long as it runs."""
    if not stream.isatty():
        lines = _Lines(stream)
        yield lines.tell
        return
    from rich.console import Console
    from rich.live import Live

    began = time.monotonic()
    with Live(console=Console(file=stream), refresh_per_second=4, transient=True) as live:
        yield lambda progress: live.update(_table(progress, time.monotonic() - began))


def progress_lines(progress: Progress) -> list[str]:
    """What has changed, in plain lines: the run that ended, and where the verdicts stand then."""
    if progress.last is None:
        return []
    stage = "tuning: " if progress.stage == "tuning" else ""
    return [f"vario: {stage}{outcome_line(progress.last)}"]


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pairs = self._reused = 0
        self._said: set[str] = set()

    def tell(self, progress: Progress) -> None:
        lines = progress_lines(progress)
        if lines and progress.reused > self._reused:
            lines[0] += ", made before"
        self._reused = progress.reused
        for reason in progress.reasons:
            if reason not in self._said:
                self._said.add(reason)
                lines.append(f"vario: cannot be tried: {reason}")
        if progress.pairs != self._pairs:
            self._pairs = progress.pairs
            for verdict in progress.verdicts:
                lines.append(
                    f"vario: pair {progress.pairs} of at most {progress.seeds}  {verdict.treatment}: "
                    f"{difference_words(verdict)}, {_word(progress, verdict)}"
                )
        for line in lines:
            self._stream.write(line + "\n")
        if lines:
            self._stream.flush()


def _word(progress: Progress, verdict: Verdict) -> str:
    """The verdict, where one may be looked at as yet."""
    if progress.peeking or progress.pairs >= progress.seeds:
        return verdict_words(verdict)
    return "judged after the last pair"


def _table(progress: Progress, seconds: float) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    metric = progress.metric.name if progress.metric else "metric"
    table = Table(
        title=f"{progress.pairs} of at most {progress.seeds} pairs, {duration(seconds)}", title_justify="left"
    )
    for name in ("treatment", f"difference in {metric}", "better or worse", "verdict"):
        table.add_column(name, no_wrap=True)
    reach = reach_of(progress.verdicts)
    for verdict in progress.verdicts:
        table.add_row(
            verdict.treatment, difference_words(verdict), Text(standing(verdict, reach)),
            Text(_word(progress, verdict), style=STYLES[verdict.verdict]),
        )  # fmt: skip
    running = ", ".join(f"{job.arm} (seed {job.seed})" for job in progress.running)
    said = [f"{progress.done} runs done, {progress.reused} of them before; {progress.failed} failed"]
    said += [f"running: {running}"] if running else []
    return Group(table, *(Text(line, style="dim") for line in [*said, *progress.reasons]))
