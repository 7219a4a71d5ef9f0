"""The modules of the page as one script: thirty small files would cost the first picture a tenth of a second.

They are plain ES modules and stay so; here each becomes a function that returns its exports, after those
that it imports. So a module imports by name in one line, exports where it declares, and awaits nothing at
its top.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["joined"]

STATIC = Path(__file__).parent / "static"
SHARED = Path(__file__).parent.parent / "report" / "static"
IMPORT = re.compile(r'^import (\{[^}]*\}) from "([^"]+)";$', re.M)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.M)


def joined(first: str = "/static/app.js") -> bytes:
    """The module at the address `first` and all that it needs, as one classic script."""
    parts: list[str] = []
    seen: set[str] = set()

    def add(address: str) -> None:
        if address in seen:
            return
        seen.add(address)
        text = _file(address).read_text(encoding="utf-8")
        for _, other in IMPORT.findall(text):
            add(_absolute(other, address))
        names = EXPORT.findall(text)
        body = IMPORT.sub(lambda found: f"const {found[1]} = {_name(found[2])};", EXPORT.sub("", text))
        parts.append(
            f"const {_name(address)} = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();\n"
        )

    add(first)
    return ('"use strict";\n' + "".join(parts)).encode()


def _absolute(other: str, address: str) -> str:
    return other if other.startswith("/") else f"{address.rpartition('/')[0]}/{other.removeprefix('./')}"


def _file(address: str) -> Path:
    _, folder, name = address.split("/")
    return {"static": STATIC, "shared": SHARED}[folder] / name


def _name(address: str) -> str:
    """No two modules of the page have the same file name; a test holds it."""
    return "$" + address.rpartition("/")[2].removesuffix(".js")
