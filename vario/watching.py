"""Watching in this process: the whole of it for `vario run`, or one model for people who own the loop."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.optim.optimizer import Optimizer

    from vario.capture.attach import Attachment
    from vario.instruments._protocol import Instrument
    from vario.nouns import Diagnosis
    from vario.session import Session

__all__ = ["Watch", "start_from_environment", "watch"]


def watch(
    model: nn.Module,
    optimizer: Optimizer | None = None,
    *,
    home: Path | str | None = None,
    overhead: float = 0.03,
    instruments: Sequence[Instrument] | None = None,
    keep_examples: int = 0,
) -> Watch:
    """Watch the training of `model` inside a `with` block; the record goes to `home` as for `vario run`.

    ``overhead`` is the share of step time that may be spent; 1 measures every step in full.
    ``keep_examples``: of how many of the worst examples a small picture, or words, are kept in the record.
    """
    return Watch(
        model,
        optimizer,
        home=home,
        overhead=overhead,
        instruments=instruments,
        keep_examples=keep_examples,
    )


class Watch:
    """One watched model: `findings()`, `report(path)`, and itself as HTML in a notebook."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        *,
        home: Path | str | None,
        overhead: float,
        instruments: Sequence[Instrument] | None,
        keep_examples: int = 0,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._keep_examples = keep_examples
        self._home = Path(home) if home is not None else None
        self._overhead, self._instruments = overhead, instruments
        self._attachment: Attachment | None = None
        self._session: Session | None = None
        self.path: Path | None = None  # of the run's directory, once the block has begun

    def __enter__(self) -> Watch:
        from vario.record.runs import create_run
        from vario.record.runs import home as default_home

        place = (self._home or default_home()).resolve()
        self.path = create_run(place, command=_command(), meta={"overhead": self._overhead})
        self._attachment, self._session = _attach(
            self.path,
            overhead=self._overhead,
            instruments=self._instruments,
            model=self._model,
            keep_examples=self._keep_examples,
        )
        if self._optimizer is not None:
            self._attachment.stream_of(self._optimizer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        attachment, session = self._attachment, self._session
        self._attachment = None
        if attachment is not None and session is not None:
            attachment.detach()
            session.end(f"{kind.__name__}: {error}" if kind is not None else "", code=int(kind is not None))

    def findings(self) -> Diagnosis:
        """What is wrong by now, most important first."""
        from vario.record.reader import open_run
        from vario.rules._diagnose import diagnose

        with open_run(self._recorded()) as run:
            return diagnose(run)

    def report(self, path: Path | str) -> Path:
        """Write the HTML report of the run to `path`."""
        from vario.record.reader import open_run
        from vario.report.html import write_report

        with open_run(self._recorded()) as run:
            return Path(write_report(run, Path(path)))

    def summary(self) -> str:
        """The findings in a few lines."""
        from vario.record.reader import open_run
        from vario.remedies.prescribe import prescribe_all
        from vario.report.text import summary_text
        from vario.rules._diagnose import diagnose

        with open_run(self._recorded()) as run:
            diagnosis = diagnose(run)
            return summary_text(run, diagnosis, prescribe_all(diagnosis, run))

    def _repr_html_(self) -> str:
        from vario.nouns import VarioError
        from vario.record.reader import open_run
        from vario.report.html import notebook_html

        try:
            with open_run(self._recorded()) as run:
                return notebook_html(run)
        except VarioError as error:
            return f"<p>vario: {error}</p>"

    def _recorded(self) -> Path:
        from vario.nouns import VarioError

        if self.path is None:
            raise VarioError("nothing is watched yet: use it as `with vario.watch(model, optimizer) as run:`")
        if self._attachment is not None and self._session is not None:
            self._session.flush()
        return self.path


def start_from_environment() -> None:
    """Watch this whole process, as `vario run` asked for in the environment; called once torch is there."""
    from vario.capture.exits import at_exit, in_forked_child
    from vario.capture.metrics import listen_to_stdout
    from vario.capture.printed import listen_to_figures

    place = os.environ.get("VARIO_RUN")
    if not place:
        return
    if os.environ.get("VARIO_TREATMENT"):  # before we listen, so that what is heard is the treated script
        from vario.remedies.slots import put_in_from_environment

        put_in_from_environment()
    overhead = float(os.environ.get("VARIO_OVERHEAD", "0.03"))
    keep = int(os.environ.get("VARIO_KEEP_EXAMPLES", "0"))
    here: list[tuple[Attachment, Session]] = []

    def begin() -> None:
        for attachment, _ in here:
            attachment.forget()  # in a forked child: the parent's to finish
        first = lambda: at_exit(finish)
        here[:] = [_attach(Path(place), overhead=overhead, at_first_step=first, keep_examples=keep)]

    def finish(error: str) -> None:
        attachment, session = here[0]
        attachment.detach()
        session.end(error, code=int(bool(error)))

    begin()
    in_forked_child(begin)
    hear = lambda series, value, words="": here[0][0].hear("printed", series, value, words)
    patterns = json.loads(os.environ.get("VARIO_METRICS", "{}"))
    if patterns:
        listen_to_stdout(patterns, lambda name, value: hear(f"metric/{name}", value))
    listen_to_figures(hear)


def _attach(
    path: Path,
    *,
    overhead: float,
    instruments: Sequence[Instrument] | None = None,
    model: nn.Module | None = None,
    at_first_step: Callable[[], None] = lambda: None,
    keep_examples: int = 0,
) -> tuple[Attachment, Session]:
    from vario.capture import outside
    from vario.capture.attach import Attachment
    from vario.on_demand import make_session

    def open_writer() -> Any:
        from vario.record.store import RecordWriter

        at_first_step()  # not earlier: multiprocessing forgets what its children were to do at exit
        return RecordWriter(path)

    # The runs of a trial are compared step by step, so their losses are read at every step.
    compared = bool(os.environ.get("VARIO_TREATMENT"))
    session = make_session(
        open_writer,
        overhead=overhead,
        instruments=instruments,
        every_step=compared,
        keep_examples=keep_examples,
    )
    outside.look(model)
    attachment = Attachment(session, only=model, budget=overhead, claim=lambda name: _claim(path, name))
    attachment.loaders.showing = keep_examples > 0
    session.own_time = lambda: attachment.own
    return attachment, session


def _claim(path: Path, name: str) -> bool:
    """Whether no other process of the run has a stream of this name."""
    try:
        (path / "streams").mkdir(parents=True, exist_ok=True)
        os.close(os.open(path / "streams" / re.sub(r"[^\w.@#-]", "_", name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    except OSError:  # the folder cannot be written: the record will say so
        return True
    return True


def _command() -> list[str]:
    return [sys.executable, *sys.argv] if sys.argv and sys.argv[0] else [sys.executable]
