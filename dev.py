"""Everything a developer or a curious user types: ``python3 dev.py demo | test | check | evidence``.

Standard library only. Makes ``.venv``, installs what the verb needs (again only when pyproject.toml,
constraints.txt or Python changed), and runs it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "installed.json"
USAGE = """usage: python3 dev.py VERB [ARGS]

  demo       install what it needs and run the whole loop on real handwritten digits
  test       the tests (ARGS go to pytest: python3 dev.py test tests/rules -k dead)
  check      format, lint, types, import contracts, docs, then the tests
  evidence   the slow runs behind the claims
  docs       write the generated pages under docs/
"""


def main(arguments: list[str]) -> int:
    """Run one verb; its exit code is ours."""
    verb, rest = (arguments or ["help"])[0], arguments[1:]
    if verb in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if verb == "demo":
        install("demo")
        return run([BIN / "vario", "demo", *rest])
    if verb in ("test", "evidence"):
        install("dev")
        chosen = ["-m", "slow"] if verb == "evidence" else []
        return run([BIN / "python", "-m", "pytest", "-n", "2", "--dist", "worksteal", *chosen, *rest])
    if verb == "docs":
        install("dev")
        return run([BIN / "python", "-m", "docs.build", *rest])
    if verb == "check":
        install("dev")
        return check()
    print(f"dev.py has no verb {verb!r}.\n\n{USAGE}", file=sys.stderr)
    return 2


def check() -> int:
    """Every check in turn; all are run, and the first failure's code is returned."""
    python = BIN / "python"
    places = ["vario", "tests", "bench", "examples", "docs", "dev.py"]
    places = [place for place in places if (ROOT / place).exists()]
    steps = {
        "format": [BIN / "ruff", "format", "--check", *places],
        "lint": [BIN / "ruff", "check", *places],
        "types": [python, "-m", "mypy"],
        "imports": [BIN / "lint-imports", "--no-cache"],
        "docs": [python, "-m", "docs.build", "--check"],
        "tests": [python, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-q"],
    }
    codes = {}
    for name, command in steps.items():
        print(f"== {name}", flush=True)
        codes[name] = run(command)
    for name, code in codes.items():
        print(f"{'ok  ' if code == 0 else 'FAIL'} {name}")
    return next((code for code in codes.values() if code), 0)


def run(command: list[object]) -> int:
    """The exit code of a command run in the project's folder."""
    environment = {**os.environ, "PYTHONPATH": ""} if os.environ.get("PYTHONPATH") else dict(os.environ)
    return subprocess.call([str(part) for part in command], cwd=ROOT, env=environment)


def install(extra: str) -> None:
    """Make the environment and install ``.[extra]`` unless it is there and up to date."""
    state = _state()
    have = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    if have.get("state") == state and (extra in have["extras"] or "dev" in have["extras"]):
        return
    if sys.version_info < (3, 10):  # noqa: UP036 - this file runs before anything is checked
        raise SystemExit(f"vario needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}.")
    start = time.monotonic()
    if have.get("python") != sys.version and VENV.exists():
        shutil.rmtree(VENV)
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        _say("making .venv")
        venv.create(VENV, with_pip=True)
    command = [BIN / "python", "-m", "pip", "install", "-c", "constraints.txt", "-e", f".[{extra}]"]
    code, tail = _pip([str(part) for part in command], start)
    if code:
        print("\n".join(tail), file=sys.stderr)
        raise SystemExit(
            f"pip could not install vario[{extra}] (exit {code}); its last lines are above.\n"
            f"Try the command by hand: {' '.join(map(str, command))}"
        )
    extras = sorted({extra, *(have.get("extras", []) if have.get("state") == state else [])})
    STAMP.write_text(json.dumps({"state": state, "extras": extras, "python": sys.version}))
    _say(f"installed vario[{extra}] in {time.monotonic() - start:.0f} s", end="\n")


def _state() -> str:
    """What an installation depends on, as one hash."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"".join([*parts, sys.version.encode()])).hexdigest()


def _pip(command: list[str], start: float) -> tuple[int, list[str]]:
    """Run pip, showing what it is at; its exit code and last lines."""
    tail: list[str] = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for line in map(str.strip, pip.stdout):
            if "is ignored: it is neither a file nor a directory" in line:
                continue
            tail = [*tail[-15:], line]
            if line.startswith(("Collecting", "Downloading", "Building", "Installing")):
                _say(f"[{time.monotonic() - start:4.0f} s] {line}")
    return pip.returncode, tail


def _say(text: str, *, end: str = "") -> None:
    """One line that replaces itself on a terminal, and ordinary lines elsewhere."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text[:width]}{end}")
    elif not text.startswith("[") or "Installing" in text:
        sys.stderr.write(text[:200] + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
