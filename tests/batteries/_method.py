"""One method file, as the shared checks see it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

HOUSE = Path(__file__).resolve().parents[2] / "vario"


@dataclass(frozen=True)
class Method:
    path: Path
    shelf: str
    module: ModuleType
    card: Mapping[str, Any]

    @property
    def id(self) -> str:
        return self.path.stem.replace("_", "-")

    @property
    def thing(self) -> Any:
        """The public class or function."""
        return getattr(self.module, self.module.__all__[0])

    @property
    def example(self) -> dict[str, Any]:
        return dict(self.card["example"])


def discover(room: Path) -> list[Method]:
    found = []
    for path in sorted(room.glob("*.py")):
        if not path.name.startswith("_"):
            name = ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts)
            module = importlib.import_module(name)
            found.append(Method(path, room.name, module, module.CARD))
    return found
