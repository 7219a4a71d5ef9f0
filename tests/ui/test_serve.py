from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from tests.report.sample import healthy_run
from vario.cli_open import _meant
from vario.nouns import VarioError

VARIO = [sys.executable, "-c", "from vario.cli import main; main()"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    healthy_run(home / "20260102-120000-kite", steps=50).close()
    return home


@contextmanager
def opened(*words: str, home: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`vario open` as a process, and the address that it prints."""
    environment = {**os.environ, "VARIO_HOME": str(home), **more}
    process = subprocess.Popen(
        [*VARIO, "open", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("vario: http://127.0.0.1:"), line + process.communicate()[1]
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def visit(address: str) -> Any:
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open(
        address, timeout=60
    )


def test_the_printed_address_leads_to_the_page_and_ctrl_c_ends_it_cleanly(home: Path) -> None:
    with opened("--no-browser", "--port", "0", home=home) as (process, address):
        assert b"<html" in visit(address).read()
        # A page that listens must not hold up the end.
        port = int(address.partition("127.0.0.1:")[2].partition("/")[0])
        token = address.partition("token=")[2]
        listening = socket.create_connection(("127.0.0.1", port))
        listening.sendall(
            f"GET /api/events?token={token} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        )
        assert b"200 OK" in listening.recv(4096)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert said.splitlines()[-1] == "vario: the dashboard has ended" and "Traceback" not in said
        listening.close()


def test_two_dashboards_take_two_ports_and_two_tokens(home: Path) -> None:
    with opened("--no-browser", home=home) as (_, one), opened("--no-browser", home=home) as (_, other):
        assert visit(one).status == visit(other).status == 200
        assert one.partition("/?")[0] != other.partition("/?")[0]
        assert one.partition("token=")[2] != other.partition("token=")[2]


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*VARIO, "open", str(home), "--no-browser", "--port", str(port)], capture_output=True, text=True
        )
    assert done.returncode == 2 and done.stdout == ""
    assert f"127.0.0.1:{port}" in done.stderr and "--port" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["last", "20260102-120000", "path"])
def test_a_run_is_opened_at_its_own_page(home: Path, word: str) -> None:
    words = str(home / "20260102-120000-kite") if word == "path" else word
    with opened(words, "--no-browser", "--port", "0", home=home) as (_, address):
        assert address.endswith("#/run/20260102-120000-kite")
        assert visit(address.partition("#")[0]).status == 200


def test_what_the_command_line_means(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIO_HOME", str(home))
    trial = tmp_path / ".vario" / "trials" / "one"
    trial.mkdir(parents=True)
    (trial / "trial.json").write_text("{}")
    for folder in (tmp_path, tmp_path / ".vario" / "plans"):
        folder.mkdir(exist_ok=True)
        (folder / "fit.json").write_text('{"law": "power", "plan": null, "refused": "too few"}')
    (tmp_path / "other.json").write_text("{}")
    assert _meant("") == (home, "")
    assert _meant(str(home)) == (home, "")
    assert _meant("last") == (home, "#/run/20260102-120000-kite")
    assert _meant(str(trial)) == (tmp_path / ".vario", "#/trial/one")
    assert _meant(str(tmp_path / ".vario" / "plans" / "fit.json")) == (tmp_path / ".vario", "#/plan/fit")
    assert _meant(str(tmp_path / "fit.json")) == (tmp_path / ".vario", f"#/plan/{tmp_path.name}-fit")
    with pytest.raises(VarioError, match="is no fit"):
        _meant(str(tmp_path / "other.json"))


def test_an_unknown_run_is_an_error(home: Path) -> None:
    done = subprocess.run(
        [*VARIO, "open", "nobody", "--no-browser"],
        capture_output=True, text=True, env={**os.environ, "VARIO_HOME": str(home)},
    )  # fmt: skip
    assert done.returncode == 2 and "nobody" in done.stderr and "Traceback" not in done.stderr


def test_only_this_machine_is_listened_to(home: Path) -> None:
    with opened("--no-browser", "--port", "0", home=home) as (process, address):
        port = int(address.partition("127.0.0.1:")[2].partition("/")[0])
        rows = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]]
        listening = {row[1] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
        assert listening == {f"0100007F:{port:04X}"}


def test_a_browser_is_opened_with_a_ticket_and_not_with_the_token(home: Path, tmp_path: Path) -> None:
    """The command line of a browser can be read by every user of the machine."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}.part\nmv {seen}.part {seen}\n')
    browser.chmod(0o755)
    with opened("--port", "0", home=home, BROWSER=f"{browser} %s") as (_, address):
        for _ in range(600):
            if seen.exists():
                break
            subprocess.run(["sleep", "0.05"], check=True)
        given = seen.read_text().strip()
        assert given.partition("?")[0] == address.partition("?")[0]
        assert given.partition("token=")[2] != address.partition("token=")[2]
        assert visit(given).status == 200
        with pytest.raises(urllib.request.HTTPError, match="403"):
            visit(given)


def test_the_server_does_not_load_torch(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vario.ui.server import Dashboard; "
        "from vario.ui.examiner import examined; import vario.ui.serve; import vario.cli; "
        f"examined(Path({str(home)!r}) / '20260102-120000-kite'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_is_served_before_numpy_is_there(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import vario.cli, vario.cli_open, vario.ui.serve\n"
        "from vario.ui.server import Dashboard\n"
        f"vario.cli_open._meant({str(home)!r}); Dashboard(Path({str(home)!r}), token='t', port=1)\n"
        "print('numpy' in sys.modules, 'vario.ui.answers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
