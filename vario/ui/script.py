"""The page's files as one script and one style: thirty small ones would hold up the first picture.

Its modules are plain ES modules and stay so; here each becomes a function that returns its exports, after
those that it imports. So a module imports by name in one line, exports where it declares, and awaits
nothing at its top. What the page asks while all that is on its way stands in the page itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

__all__ = ["joined", "page", "styles"]

STATIC = Path(__file__).parent / "static"
SHARED = Path(__file__).parent.parent / "report" / "static"
IMPORT = re.compile(r'^import (\{[^}]*\}) from "([^"]+)";$', re.M)
CHARTS = ("quiet.js", "uPlot.iife.min.js")
STYLES = ("uplot/uPlot.min.css", "page.css")
EARLY = '<script src="/static/early.js"></script>'
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.M)


def page() -> tuple[bytes, str]:
    """The page with the script that asks at once inside it, and how a policy names that script."""
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    early = (STATIC / "early.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(early.encode()).digest()).decode()
    return html.replace(EARLY, f"<script>{early}</script>").encode(), f"'sha256-{digest}'"


def styles() -> bytes:
    """The style of charts, of all of vario's pages, and of this one, in that order."""
    files = [*(SHARED / name for name in STYLES), STATIC / "app.css"]
    return b"\n".join(file.read_bytes() for file in files)


def joined(first: str = "/static/app.js") -> bytes:
    """The charts' library, the module at the address `first` and all that it needs, as one classic script."""
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
    quiet, charts = ((SHARED / "uplot" / name).read_text(encoding="utf-8") for name in CHARTS)
    return (
        f'{quiet.replace("/* uPlot */", charts)}\n(() => {{\n"use strict";\n{"".join(parts)}}})();\n'.encode()
    )


def _absolute(other: str, address: str) -> str:
    return other if other.startswith("/") else f"{address.rpartition('/')[0]}/{other.removeprefix('./')}"


def _file(address: str) -> Path:
    _, folder, name = address.split("/")
    return {"static": STATIC, "shared": SHARED}[folder] / name


def _name(address: str) -> str:
    """No two modules of the page have the same file name; a test holds it."""
    return "$" + address.rpartition("/")[2].removesuffix(".js")
