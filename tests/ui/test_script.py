"""The page's modules as one script: every module once, after what it imports, and nothing left to import."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from vario.ui import script
from vario.ui.script import SHARED, STATIC, joined, page, styles


def test_every_module_of_the_page_is_in_it_once_and_after_what_it_needs() -> None:
    text = joined().decode()
    made = re.findall(r"^const \$(\w+) = \(\(\) => \{$", text, re.M)
    own = {path.stem for path in STATIC.glob("*.js")} - {"early"}
    assert len(made) == len(set(made)) and own <= set(made) and made[-1] == "app"
    assert not {path.name for path in STATIC.glob("*.js")} & {path.name for path in SHARED.glob("*.js")}
    assert not re.search(r"^\s*(import|export)\b", text, re.M)
    for place, name in enumerate(made):
        body = text.split(f"const ${name} = (() => {{\n")[1].split("\n})();\n")[0]
        needed = re.findall(r"^const \{[^}]*\} = \$(\w+);$", body, re.M)
        assert set(needed) <= set(made[:place]), name


def test_a_module_hands_over_what_it_exports(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "app.js").write_text('import { b } from "./b.js";\nb();\n')
    (tmp_path / "b.js").write_text("export async function b() {}\nexport const c = 1;\nexport class D {}\n")
    monkeypatch.setattr(script, "STATIC", tmp_path)
    text = joined().decode()
    assert "return { b, c, D };" in text and "const { b } = $b;" in text
    assert text.index("const $b") < text.index("const $app")


def test_the_page_asks_for_nothing_but_what_the_server_has() -> None:
    page = (STATIC / "index.html").read_text()
    asked = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert "/static/all.js" in asked
    for url in asked:
        folder, name = url.lstrip("/").split("/", 1)
        made = name in ("all.js", "all.css")
        assert made or ({"static": STATIC, "shared": SHARED}[folder] / name).is_file(), url
    # Nothing inline, and nothing from elsewhere.
    assert not re.search(r"<script>|<style|\bstyle=|\bon\w+=|https?:", page)


def test_the_one_script_inside_the_page_is_named_by_what_it_is() -> None:
    html, named = page()
    inside = re.findall(rb"<script>(.*?)</script>", html, re.S)
    assert inside == [(STATIC / "early.js").read_bytes()] and b"early.js" not in html
    digest = base64.b64encode(hashlib.sha256(inside[0]).digest()).decode()
    assert named == f"'sha256-{digest}'"


def test_the_style_of_the_page_comes_after_what_it_changes() -> None:
    text = styles().decode()
    parts = [SHARED / "uplot/uPlot.min.css", SHARED / "page.css", STATIC / "app.css"]
    places = [text.index(part.read_text()) for part in parts]
    assert places == sorted(places)
