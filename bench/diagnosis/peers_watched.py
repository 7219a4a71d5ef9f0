"""Run by the peers' own Python: a script watched as a user of each would, and what each then says of it.

python peers_watched.py bare|log|torchmortem|both PLACE SCRIPT ARGUMENTS...
python peers_watched.py judge PLACE
"""

from __future__ import annotations

import csv
import json
import runpy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOSSES = ("cross_entropy", "mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
HEADER = ["step", "train_loss", "grad_norm", "lr", "val_loss"]


class Watching:
    """Logs every step ("log"), has torchmortem hook the model, "both", or only takes the time ("bare").

    Of several optimizers the first one is watched.
    """

    def __init__(self, how: str) -> None:
        self.logs, self.hooks = how in ("log", "both"), how in ("torchmortem", "both")
        self.rows: list[list[Any]] = []
        self.began = 0.0
        self.loss = self.norm = float("nan")
        self.evaluated: list[float] = []
        self.model: Any = None
        self.optimizer: Any = None
        self.autopsy: Any = None

    def listen(self) -> None:
        """Set what a user would write into the script."""
        import torch
        from torch.nn import functional
        from torch.nn.modules.module import register_module_forward_pre_hook
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        register_optimizer_step_pre_hook(self.before)
        if not (self.logs or self.hooks):
            return
        register_optimizer_step_post_hook(self.after)
        backward = torch.Tensor.backward

        def heard(loss: torch.Tensor, *rest: Any, **named: Any) -> None:
            self.loss = float(loss.detach())
            backward(loss, *rest, **named)

        torch.Tensor.backward = heard  # type: ignore[assignment]
        if self.logs:
            for name in LOSSES:
                setattr(functional, name, self.evaluation(getattr(functional, name)))
        if self.hooks:
            register_module_forward_pre_hook(self.forward)

    def evaluation(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A loss function that notes what it gives without gradients."""
        import torch

        def called(*rest: Any, **named: Any) -> Any:
            result = function(*rest, **named)
            if not torch.is_grad_enabled() and result.ndim == 0:
                self.evaluated.append(float(result))
            return result

        return called

    def forward(self, module: Any, _: Any) -> None:
        """The first module that is trained is the model."""
        if self.model is None and next(module.parameters(), None) is not None:
            self.model = module

    def before(self, optimizer: Any, *_: Any) -> None:
        """Gradients are there."""
        import torch

        self.began = self.began or time.process_time()
        self.optimizer = self.optimizer or optimizer
        if self.logs and optimizer is self.optimizer:
            grads = [
                p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
            ]
            self.norm = float(torch.stack([g.norm() for g in grads]).norm()) if grads else float("nan")

    def after(self, optimizer: Any, *_: Any) -> None:
        """A step was made."""
        if optimizer is not self.optimizer:
            return
        if self.logs:
            held_out = statistics.fmean(self.evaluated) if self.evaluated else ""
            self.evaluated = []
            rate = optimizer.param_groups[0]["lr"]
            self.rows.append([len(self.rows), self.loss, self.norm, rate, held_out])
        if self.autopsy is not None:
            self.autopsy.step(loss=self.loss)
        elif self.hooks and self.model is not None:
            from torchmortem import Autopsy  # type: ignore[import-not-found]

            self.autopsy = Autopsy(self.model, optimizer=optimizer)
            self.autopsy.attach()

    def end(self, place: Path) -> None:
        """Write the time, the log, and what torchmortem found."""
        if self.autopsy is not None:
            self.autopsy.detach()
        (place / "seconds.json").write_text(json.dumps(time.process_time() - self.began))
        with (place / "log.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *self.rows])
        report = self.autopsy.get_report() if self.autopsy is not None else None
        findings = sorted(report.findings, key=lambda f: -f.severity) if report else []
        told = [f.title.lower() for f in findings if f.severity > 0] if report else ["broke"]
        (place / "torchmortem.json").write_text(json.dumps(told))


def watch(how: str, place: Path, program: str, arguments: list[str]) -> None:
    """Run a script in this process."""
    watching = Watching(how)
    watching.listen()
    sys.argv, sys.path[0] = [program, *arguments], str(Path(program).parent)
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        watching.end(place)


def judge(place: Path) -> None:
    """What the readers of logs say, into ``said.json``."""
    log = str(place / "log.csv")
    said = {"torchmortem": json.loads((place / "torchmortem.json").read_text())}
    for tool, read in (("runmedic", _runmedic), ("trainspotter", _trainspotter), ("gradsnitch", _gradsnitch)):
        try:
            said[tool] = read(log)
        except Exception as error:  # noqa: BLE001 - a tool that breaks is part of the answer
            said[tool] = ["broke", repr(error)]
    (place / "said.json").write_text(json.dumps(said))


def _runmedic(log: str) -> list[str]:
    command = [str(Path(sys.executable).with_name("runmedic")), "diagnose", log, "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found = [f for run in told for f in run["findings"] if f["severity"] != "info"]
    return [f"{f['check']} {f['title']}".lower() for f in found]


def _trainspotter(log: str) -> list[str]:
    from trainspotter import load_run, run_all  # type: ignore[import-not-found]

    order = {"error": 0, "warning": 1}
    found = [f for f in run_all(load_run(log)) if str(getattr(f.severity, "value", f.severity)) in order]
    found.sort(key=lambda f: order[str(getattr(f.severity, "value", f.severity))])
    return [f"{f.detector} {f.title}".lower() for f in found]


def _gradsnitch(log: str) -> list[str]:
    import gradsnitch  # type: ignore[import-not-found]
    import pandas

    found = sorted(gradsnitch.lint(pandas.read_csv(log)), key=lambda f: f.severity != "error")
    return [f.name.lower() for f in found]


if __name__ == "__main__":
    if sys.argv[1] == "judge":
        judge(Path(sys.argv[2]))
    else:
        watch(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
