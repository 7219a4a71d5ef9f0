"""Every page of ``examples/`` runs, learns the digits, and differs from the plain script by few lines."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "examples"
PAGES = sorted(path for path in ROOT.glob("*.py") if path.name not in ("_digits.py", "plan_char_lm.py"))
SHELVES = {"optimizers", "schedules", "samplers", "memory", "posthoc", "losses", "layers", "detectors", "hpo"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(ROOT))
    runpy.run_path(str(page))
    found = re.search(r"accuracy (0\.\d+|1\.0+)", capsys.readouterr().out)
    assert found and float(found.group(1)) > 0.88
    changed = re.findall(r"# (?:new|was)", page.read_text(encoding="utf-8"))
    lines = 4 if page.stem == "hpo" else 2  # there the optimizer and the loss change too
    assert len(changed) == lines, f"the page shows a change of {len(changed)} lines, not {lines}"


def test_every_shelf_has_its_page() -> None:
    assert {page.stem for page in PAGES} >= SHELVES
