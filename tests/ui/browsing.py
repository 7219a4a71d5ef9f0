"""A dashboard to look at and a browser to look with, for the tests of the page."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from vario.ui.server import Dashboard

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
NEEDED = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
]
TOKEN = "the-token-of-the-tests"
SECOND = 1_000.0  # milliseconds


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; skips where Playwright is missing."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()


class Served:
    """A dashboard over `home` in a thread of this process; `stop` breaks off every connection."""

    def __init__(self, home: Path, port: int = 0) -> None:
        self.home = home
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.dashboard = Dashboard(home, token=TOKEN, port=self.port)
        config = uvicorn.Config(
            self.dashboard.app, log_level="critical", http="h11", ws="none", lifespan="off",
            timeout_graceful_shutdown=0,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.dashboard.close()
        self.thread.join(10)
        self.socket.close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, fragment: str = "") -> str:
        return f"{self.origin}/?token={TOKEN}{fragment}"


def opened(browser: Any, served: Served, fragment: str = "#/runs", **context: Any) -> Any:
    """A page at `fragment`, with what it asked for and what went wrong."""
    wanted = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | context
    view = browser.new_context(**wanted).new_page()
    view.set_default_timeout(15 * SECOND)
    view.asked, view.wrong = [], []
    view.on("request", lambda request: view.asked.append(request.url))
    view.on("pageerror", lambda error: view.wrong.append(str(error)))
    view.on("console", lambda line: line.type == "error" and view.wrong.append(line.text))
    view.goto(served.address(fragment))
    return view


def foreign(view: Any, served: Served) -> list[str]:
    """What the page asked of any other host: data inside an address asks nobody."""
    own = (f"{served.origin}/", f"blob:{served.origin}/", "data:")
    return [url for url in view.asked if not url.startswith(own)]


def fragment(view: Any) -> str:
    """What the page's own address says after `#`: `view.url` hears of a change only later."""
    return str(view.evaluate("location.hash"))


def picture(view: Any, selector: str) -> str:
    """What is painted on the first canvas that `selector` finds."""
    return str(view.locator(selector).first.evaluate("canvas => canvas.toDataURL()"))


def described(view: Any, figure: str, number: int = 0) -> str:
    """What that chart of the page tells those who hear it: each is known when its own curves are."""
    chart = view.locator(figure).nth(number)
    chart.and_(view.locator("[aria-label]")).wait_for()
    return str(chart.get_attribute("aria-label"))


def settled(view: Any, figure: str) -> None:
    """Waits until the chart is there, has been painted, and nothing around it moves any more."""
    view.locator(figure).first.scroll_into_view_if_needed()
    view.wait_for_selector(f"{figure} canvas")
    places: list[Any] = []
    while len(places) < 4 or places[-1] != places[-4]:  # three tenths of a second without news or a move
        view.wait_for_timeout(100)
        places.append((view.locator(figure).first.bounding_box(), len(view.asked)))
    view.wait_for_function(
        "() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true), 30)))"
    )
