"""The habits of the house that a machine can hold: size, names, docstrings, CARDs, mirrored tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vario.remedies import catalog

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ROOT / "vario"
FILES = sorted(HOUSE.rglob("*.py"))
ROOMS_WITH_CARDS = ("instruments", "rules", "methods", "scores", "laws", "problems")
CARDED = [
    path
    for path in FILES
    if path.relative_to(HOUSE).parts[0] in ROOMS_WITH_CARDS
    and not path.name.startswith("_")
    and path.relative_to(HOUSE).as_posix() != "laws/fit.py"
]
PRINTERS = {
    "cli.py",
    "cli_measure.py",
    "cli_open.py",
    "cli_plan.py",
    "cli_trial.py",
    "demo",
}  # what a person called by name may print
VOCABULARY = """
diverging learning-rate-too-high learning-rate-too-low learning-rate-decayed-too-early loss-plateau
oscillating-loss exploding-gradients vanishing-gradients gradient-spikes loss-spikes
gradient-clipping-dominates gradients-accumulate parameters-not-updated no-gradient batch-too-small
batch-too-large weight-decay-dominates adam-epsilon-dominates excessive-regularization underfitting
gradient-conflict dead-units saturated-activations non-finite non-finite-input low-precision-underflow
softmax-collapse unnormalized-inputs double-softmax symmetric-initialization poor-initialization
batchnorm-small-batch rank-collapse train-eval-mode target-scale overfitting memorization label-noise
class-imbalance class-neglected unshuffled-data duplicate-examples train-test-leakage outlier-examples
overconfidence shortcut-features catastrophic-overfitting delayed-generalization holdout-overuse
not-identified
""".split()


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_is_small_documented_and_plain(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = parse(path)
    assert text.count("\n") <= 400, "a file holds one concept: 400 lines are the ceiling"
    assert ast.get_docstring(tree), "the first docstring line says what the file is"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), "no note to oneself without an issue"
    assert "torchvision" not in {alias for node in ast.walk(tree) for alias in _imported(node)}
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    outer = [node for body in bodies for node in body]
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines; 60 are the ceiling"
            public = not node.name.startswith("_") and node in outer  # a closure has no public signature
            assert not (public and node.args.kwarg), f"{node.name} takes **kwargs"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "hasattr"), f"line {node.lineno}: {node.func.id}"
            if node.func.id == "print":
                assert set(path.relative_to(HOUSE).parts) & PRINTERS, f"line {node.lineno}: print"
        if isinstance(node, ast.ExceptHandler):
            silent = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
            assert not (silent and broad), f"line {node.lineno}: an error is swallowed unseen"


@pytest.mark.parametrize("path", CARDED, ids=name)
def test_a_concept_has_a_card_and_a_mirrored_test(path: Path) -> None:
    entry = next((e for e in catalog.entries() if e.path == path), None)
    assert entry is not None, "no literal CARD"
    known = catalog.papers()
    unknown = [paper for paper in entry.card.get("papers", ()) if paper not in known]
    assert not unknown, f"CARD cites {unknown}, which papers.toml does not hold"
    room = path.relative_to(HOUSE)
    mirror = ROOT / "tests" / room.parent / f"test_{room.name}"
    assert mirror.exists(), f"{name(mirror)} is missing"
    if room.parts[0] == "rules":
        assert parse(path).body and f'ID = "{entry.id}"' in path.read_text(encoding="utf-8")
        assert entry.id in VOCABULARY
        for heading in ("What it means:", "How it is decided:", "Not applicable:"):
            assert heading in entry.doc
        assert {"papers", "reads", "summary"} <= set(entry.card)
    if room.parts[0] == "methods":
        for heading in ("When to use:", "When not to:"):
            assert heading in entry.doc
        assert {"papers", "slot", "treats", "cost", "checked", "changed"} <= set(entry.card)
        assert set(entry.card["treats"]) <= set(VOCABULARY)


def test_every_finding_of_the_vocabulary_has_its_rule() -> None:
    rules = {entry.id for entry in catalog.entries() if entry.kind == "finding"}
    assert rules == set(VOCABULARY)


def test_every_paper_is_planned_cited_or_has_its_reason() -> None:
    papers = catalog.papers()
    assert len(papers) == 360
    for paper in papers.values():
        assert bool(paper.place) != bool(paper.why), paper.id
        assert set(paper.treats) <= set(VOCABULARY), paper.id


def test_the_version_is_the_newest_of_the_changelog() -> None:
    import vario

    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest and newest.group(1) == vario.__version__
    assert f'version = "{vario.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_nothing_right_of_the_record_loads_torch() -> None:
    rooms = ["nouns", "record", "rules", "laws", "remedies.catalog", "remedies.prescribe", "report", "ui"]
    modules = []
    for room in rooms:
        base = HOUSE / room.replace(".", "/")
        paths = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
        for path in paths:
            parts = path.relative_to(ROOT).with_suffix("").parts
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    code = f"import importlib, sys\nfor m in {modules}: importlib.import_module(m)\n"
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"


def test_imports_point_upstream() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_path_of_one_machine_is_tracked() -> None:
    found = subprocess.run(
        ["git", "grep", "-nE", r"(^|[^A-Za-z0-9_.])/(work|root|farm)/", "--", ".", ":!tests/test_habits.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []
