"""Test ``vario.remedies.catalog``."""

from __future__ import annotations

import ast

import pytest

from vario.nouns import VarioError
from vario.remedies import catalog


def parsed_whole(path):
    """The docstring and the CARD of a file as Python's own parser has them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "CARD" for target in targets):
            return ast.get_docstring(tree) or "", ast.literal_eval(node.value)
    return None


def test_finds_every_card_and_reads_it_as_python_does():
    read = {entry.path: (entry.doc, entry.card) for entry in catalog.entries()}
    for room in catalog.ROOMS:
        for path in (catalog.HOUSE / room).rglob("*.py"):
            if not path.name.startswith("_"):
                assert read.get(path) == parsed_whole(path), path


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(VarioError, match="Did you mean .*stable-spam"):
        catalog.find("stable_span")
