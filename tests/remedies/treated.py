"""Scripts under a treatment: in a forked process for most tests, under the whole of `vario run` for some."""

from __future__ import annotations

import contextlib
import os
import random
import runpy
import subprocess
import sys
import textwrap
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.observed import SCRIPTS
from vario.record.reader import Run, open_run
from vario.remedies.slots_told import TreatmentFailed
from vario.remedies.treatment import Treatment

LAUNCH = (
    "import sys; from pathlib import Path; from vario.capture.launch import launch; "
    "sys.exit(launch(sys.argv[3:], Path(sys.argv[1]), treatment=sys.argv[2]))"
)


@dataclass
class Treated:
    """What is left: the script's `result`, the events as (kind, slot, data), and the exit code."""

    result: Any = None
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    code: int = 0
    error: str = ""

    def kinds(self) -> list[tuple[str, str]]:
        """Kind and slot of every event but the seeds'."""
        return [(kind, slot) for kind, slot, _ in self.events if slot != "seed"]

    def data(self, slot: str) -> dict[str, Any]:
        """The data of the first event of a slot."""
        return next(data for _, where, data in self.events if where == slot)


def _warm_up() -> None:
    """What torch imports at the first step of an optimizer, so that not every child does it again."""
    import pytorch_optimizer  # noqa: F401

    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    torch.optim.AdamW([weight]).step()
    import vario.methods.memory
    import vario.methods.optimizers
    import vario.methods.schedules
    import vario.remedies.slots_layer
    import vario.remedies.slots_loss
    import vario.remedies.slots_sampler
    import vario.remedies.slots_step  # noqa: F401

    weight.square().sum().backward()


_warm_up()


def treated(script: str, treatment: Treatment | str | None, place: Path) -> Treated:
    """The script's text run in a child of this process; the child's end is told as at a real end."""
    path = place / "script.py"
    path.write_text(textwrap.dedent(script))
    if isinstance(treatment, str):
        treatment = Treatment.parse(treatment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking is fine: torch has one thread here
        pid = os.fork()
    if pid == 0:
        _in_child(path, treatment, place)
    os.waitpid(pid, 0)
    return torch.load(place / "treated.pt", weights_only=False)


def _in_child(path: Path, treatment: Treatment | None, place: Path) -> None:
    import vario.capture.exits as exits
    from vario.remedies.slots import put_in

    made, ends = Treated(), []
    exits.at_exit = ends.append  # the parent's pytest must not end here
    torch.set_num_threads(1)
    try:
        torch.seed()  # as a fresh process has it: any
        if treatment is not None:
            put_in(treatment, tell=lambda kind, slot, data: made.events.append((kind, slot, data)))
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            made.result = runpy.run_path(str(path)).get("result")
    except TreatmentFailed as end:
        made.code = end.code
    except BaseException as error:
        made.code, made.error = 1, f"{type(error).__name__}: {error}"
    for finish in ends:
        finish("")
    torch.save(made, place / "treated.pt")
    os._exit(0)


def launched(
    script: Path | str, treatment: Treatment, place: Path, *before: str
) -> tuple[int, str, Run, dict[str, Any]]:
    """Exit code, stderr, record and final state of a script run as a trial runs it."""
    path = SCRIPTS / f"{script}.py" if isinstance(script, str) else script
    env = {**os.environ, "FINAL_STATE": str(place / "state.pt"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LAUNCH, str(place / "run"), treatment.to_json()]
    done = subprocess.run(
        [*command, sys.executable, *before, str(path)], env=env, capture_output=True, text=True, timeout=240
    )
    state = {}
    if (place / "state.pt").exists():
        state = torch.load(place / "state.pt", weights_only=False)
    return done.returncode, done.stderr, open_run(place / "run"), state


def chance() -> dict[str, Any]:
    """The state of every random generator."""
    return {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state()}
