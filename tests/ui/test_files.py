"""The page's files: what is there is answered with its type, what is not there or outside is refused."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from vario.ui.files import Files


def test_files_are_answered_with_their_type_and_read_again_when_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    (folder / "deep").mkdir(parents=True)
    (folder / "app.js").write_text("let a = 1;")
    (folder / "deep" / "page.css").write_text("body {}")
    (tmp_path / "secret.txt").write_text("no")
    client = TestClient(Starlette(routes=[Mount("/static", Files(folder))]))
    answer = client.get("/static/app.js")
    assert answer.text == "let a = 1;" and answer.headers["content-type"].startswith("text/javascript")
    assert client.get("/static/deep/page.css").headers["content-type"].startswith("text/css")
    assert client.head("/static/app.js").headers["content-length"] == "10"
    (folder / "app.js").write_text("let b = 22;")
    os.utime(folder / "app.js", (1, 1))
    assert client.get("/static/app.js").text == "let b = 22;"
    for path in ("/static/none.js", "/static/../secret.txt", "/static/%2e%2e/secret.txt", "/static/deep"):
        assert client.get(path).status_code == 404, path


def test_a_file_can_be_made_when_it_is_asked_for(tmp_path: Path) -> None:
    part = tmp_path / "part.js"
    part.write_text("1")
    files = Files(tmp_path, {"all.js": lambda: b"all of " + part.read_bytes()})
    client = TestClient(Starlette(routes=[Mount("/static", files)]))
    assert client.get("/static/all.js").text == "all of 1"
    part.write_text("2")
    os.utime(part, (2_000_000_000, 2_000_000_000))
    answer = client.get("/static/all.js")
    assert answer.text == "all of 2" and answer.headers["content-type"].startswith("text/javascript")
