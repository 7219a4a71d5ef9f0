"""Every method x every shared check, in one table that is discovered from the files.

A new file in a shelf adds its rows by itself. The checks of all methods are below; those of one shelf
are the ``check_*`` functions of ``tests/batteries/<shelf>.py``. A check that a wrapped package is known
to fail is named in its CARD under ``departs``, and must then really fail.

How a method is built for the checks: ``CARD["example"]`` holds the keyword arguments of its public
thing, the first name of ``__all__``; the battery of its shelf supplies what comes before them.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import tests.batteries
from tests.batteries._method import Method, discover

HOUSE = Path(__file__).resolve().parent.parent / "vario"
ROOMS = [
    *sorted(p for p in (HOUSE / "methods").iterdir() if p.is_dir() and p.name[0] != "_"),
    HOUSE / "scores",
]
METHODS = [method for room in ROOMS for method in discover(room)]
KEYS = {"papers", "slot", "treats", "example", "cost", "checked", "changed", "shown"}


def battery(shelf: str) -> ModuleType | None:
    names = {found.name for found in pkgutil.iter_modules(tests.batteries.__path__)}
    return importlib.import_module(f"tests.batteries.{shelf}") if shelf in names else None


def rows() -> list[tuple[Method, str]]:
    table = []
    for method in METHODS:
        checks = vars(battery(method.shelf) or ModuleType("none"))
        applies = checks.get("applies", lambda method: True)
        table += [(method, name) for name in checks if name.startswith("check_") and applies(method)]
    return table


@pytest.mark.parametrize(("method", "name"), rows(), ids=lambda part: getattr(part, "id", part))
def test_shelf(method: Method, name: str) -> None:
    """One shared check of the shelf."""
    if method.card.get("needs"):
        pytest.importorskip(method.card["needs"])
    check = getattr(battery(method.shelf), name)
    if name.removeprefix("check_") in method.card.get("departs", {}):
        with pytest.raises(Exception):  # noqa: B017 - whatever the package does instead
            check(method)
        pytest.xfail(method.card["departs"][name.removeprefix("check_")])
    check(method)


each = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.id)


@each
def test_card(method: Method) -> None:
    """The CARD says all that the catalogue prints."""
    assert set(method.card) >= KEYS, f"{method.path.name}: CARD lacks {KEYS - set(method.card)}"
    assert set(method.card) <= KEYS | {"needs", "departs", "rate_of"}
    assert all(re.fullmatch(r"P\d{3}", paper) for paper in method.card["papers"]) and method.card["papers"]
    for key in ("slot", "cost", "checked", "changed", "shown"):
        assert isinstance(method.card[key], str)
        assert method.card[key].strip() or key == "slot"  # "": called by its user, no script can take it
    assert isinstance(method.card["treats"], tuple) and isinstance(method.card["example"], dict)


@each
def test_docstring(method: Method) -> None:
    """A first line that says what it is, and an example that shows a change."""
    doc = method.module.__doc__ or ""
    first = doc.splitlines()[0]
    assert 20 <= len(first) <= 110 and first.endswith(".")
    assert ">>>" in doc


@each
def test_doctest(method: Method) -> None:
    """The example does what it prints."""
    if method.card.get("needs"):
        pytest.importorskip(method.card["needs"])
    failed, tried = doctest.testmod(method.module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed


@each
def test_stands_alone(method: Method) -> None:
    """A method imports torch, the standard library, and private files of its own shelf or of all shelves."""
    own = method.module.__name__.rpartition(".")[0]
    for node in ast.walk(ast.parse(method.path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in (name for name in names if name.startswith("vario")):
            assert name.startswith((f"{own}._", "vario.methods._")), f"{method.path.name} imports {name}"


@each
def test_named_in_its_shelf(method: Method) -> None:
    """``from vario.methods.<shelf> import Thing`` works."""
    shelf = importlib.import_module(method.module.__name__.rpartition(".")[0])
    assert getattr(shelf, method.module.__all__[0], None) is method.thing


def test_something_was_found() -> None:
    """An empty table would pass everything."""
    assert len(METHODS) >= 1 and {method.shelf for method in METHODS} >= {"optimizers"}
    assert any(method.shelf == "optimizers" for method, _ in rows())
