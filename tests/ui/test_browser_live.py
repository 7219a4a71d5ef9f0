"""The page while things happen: a run that writes, a server that dies, damage, hostile names, strangers."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.report.sample import healthy_run, write_series
from tests.ui.browsing import NEEDED, TOKEN, Served, chromium, foreign, opened, settled
from vario.nouns import Reading
from vario.record.schema import FILE_NAME
from vario.record.store import RecordWriter

pytestmark = NEEDED
LOSS = "#loss figure.chart"
HOSTILE = "<img src=x onerror=document.title='broken'><script>document.title='broken'</script>\u202e"
HOSTILE += "y" * 500


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def browser(chrome: Any) -> Iterator[Any]:
    """The browser; the pages of a test end with it."""
    yield chrome
    for context in chrome.contexts:
        context.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.stop()


def write(writer: RecordWriter, steps: range, loss: float = 2.0) -> None:
    for step in steps:
        layer = Reading("gradient/norm", 0.1, "fc.weight")
        writer.readings("model", step, [Reading("loss/train", loss), Reading("gradient/norm", 1.0), layer])
    writer.flush()


def test_a_run_that_writes_is_seen_to_grow_and_to_end(browser: Any, served: Served) -> None:
    listed = opened(browser, served)
    listed.wait_for_selector("h2:text('No runs yet')")
    with closing(RecordWriter(served.home / "live")) as writer:
        writer.meta("command", ["python", "live.py"])
        write(writer, range(50))
        listed.wait_for_selector("tr[data-id=live] .state.live")
        view = opened(browser, served, "#/run/live")
        settled(view, LOSS)
        view.wait_for_selector("[data-testid=steps]:has-text('50')")
        view.evaluate("document.querySelector('#loss figure.chart').dataset.kept = 'yes'")
        assert view.locator(".pills button").count() == 1
        writer.readings("model", 50, [Reading("update/ratio", 0.01, "fc.weight")])
        write(writer, range(51, 120), loss=0.125)
        view.wait_for_selector("[data-testid=steps]:has-text('120')")
        view.wait_for_selector(f"{LOSS}[aria-label*='to 0.125 at step 119']")
        assert view.locator(f"{LOSS}[data-kept=yes]").count() == 1  # the chart went on; it was not made anew
        view.wait_for_selector("[data-testid=status].live")
        time.sleep(3)  # the page asks for what a run has every few seconds
        write(writer, range(120, 130), loss=0.125)
        view.wait_for_selector(".pills button:text('Update over weight')")
        view.wait_for_selector("#loss figcaption:has-text('Update over weight')")
        assert view.locator(f"{LOSS}[data-kept=yes]").count() == 1  # nor did the new one beside it disturb it
        writer.event("", 129, "exit", data={"code": 0})
    view.wait_for_selector("[data-testid=status].well")
    listed.wait_for_selector("tr[data-id=live] .state.well")
    assert "0.125" in listed.inner_text("tr[data-id=live]")
    assert view.wrong == [] and listed.wrong == []


def test_a_server_that_was_killed_comes_back_by_itself(browser: Any, tmp_path: Path) -> None:
    first = Served(tmp_path)
    with closing(RecordWriter(tmp_path / "live")) as writer:
        write(writer, range(30))
        view = opened(browser, first, "#/run/live")
        settled(view, LOSS)
        first.stop()
        view.wait_for_selector("#link:text('Disconnected')")
        assert view.locator(f"{LOSS} canvas").count() >= 1  # what was there stays
        write(writer, range(30, 77))
        second = Served(tmp_path, port=first.port)
        view.wait_for_selector("[data-testid=steps]:has-text('77')")
        view.wait_for_selector(f"{LOSS}[aria-label*='at step 76']")
        assert view.inner_text("#link") == ""
        second.stop()


def test_a_damaged_record_is_said_and_forgotten_once_it_is_whole(browser: Any, served: Served) -> None:
    broken = served.home / "broken"
    broken.mkdir()
    (broken / FILE_NAME).write_bytes(b"SQLite format 3\0" + b"rubbish" * 400)
    healthy_run(served.home / "healthy", steps=60).close()
    view = opened(browser, served)
    view.wait_for_selector("tr[data-id=broken] [data-testid=status]:text('corrupt')")
    assert view.locator("tr[data-id=healthy]").count() == 1
    page = opened(browser, served, "#/run/broken")
    page.wait_for_selector("h2:text('This record cannot be read')")
    (broken / FILE_NAME).unlink()
    write_series(broken, {("loss/train", ""): ([0, 1, 2], [3.0, 2.0, 1.0])}).close()
    settled(page, LOSS)
    view.wait_for_selector("tr[data-id=broken] [data-testid=status]:text('finished')")


def test_a_run_that_was_killed_says_where_it_ends(browser: Any, served: Served) -> None:
    script = (
        "import os, sys\nfrom vario.nouns import Reading\nfrom vario.record.store import RecordWriter\n"
        "writer = RecordWriter(sys.argv[1])\n"
        "for step in range(40): writer.readings('model', step, [Reading('loss/train', 1.0)])\n"
        "writer.flush()\nos._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(served.home / "dead")], timeout=60)
    view = opened(browser, served, "#/run/dead")
    view.wait_for_selector("header.verdict.error")
    assert "killed" in view.inner_text("[data-testid=status]")
    assert "ends at step 39" in view.inner_text(".trouble")
    settled(view, LOSS)
    assert view.wrong == []


def test_hostile_names_are_only_text(browser: Any, served: Served) -> None:
    places = {("loss/train", ""): 1.0, ("gradient/norm", HOSTILE): 0.1, ("update/ratio", HOSTILE): 0.01}
    series = {
        key: ([0, 1, 2, 3], [value, float("nan"), float("inf"), 2 * value]) for key, value in places.items()
    }
    write_series(served.home / "hostile", series, stream=HOSTILE).close()
    view = opened(browser, served, "#/run/hostile")
    view.wait_for_selector("[data-testid=layer] canvas")
    assert "<img src=x" in view.inner_text(".layer-name")
    view.click(".pills button:text('Update over weight')")
    view.wait_for_selector(".pills button[aria-pressed=true]:text('Update over weight')")
    settled(view, LOSS)
    assert view.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert view.evaluate("document.documentElement.scrollWidth") <= 1280
    view.evaluate("location.hash = '#/run/<script>document.title=1</script>'")
    view.wait_for_selector("h2:text('There is no such run')")
    view.evaluate("location.hash = '#/compare/hostile,<b>x'")
    view.wait_for_selector("[data-testid=differences]")
    assert "broken" not in view.title() and foreign(view, served) == []
    assert [line for line in view.wrong if "404" not in line] == []


def test_no_token_no_page_and_a_new_token_is_asked_for(browser: Any, served: Served) -> None:
    healthy_run(served.home / "healthy", steps=60).close()
    stranger = browser.new_context().new_page()
    for address in (served.origin, f"{served.origin}/?token=guessed"):
        assert stranger.goto(address).status == 403
        assert "token" in stranger.inner_text("body")
    view = opened(browser, served, "#/run/healthy")
    settled(view, LOSS)
    assert TOKEN not in view.url and TOKEN not in view.content()
    view.context.clear_cookies()
    view.evaluate("location.hash = '#/runs'")
    view.wait_for_selector("#link:text('vario open')")
    view.context.new_page().goto(served.address())  # as somebody would who follows that advice
    view.wait_for_selector("tr[data-id=healthy]")
    assert view.inner_text("#link") == ""


def test_a_foreign_page_reads_nothing(browser: Any, served: Served) -> None:
    view = opened(browser, served)
    answers = []
    view.on("response", lambda answer: answers.append((answer.url, answer.status)))
    view.route(
        "http://stranger.test/**",
        lambda route: route.fulfill(body="<h1>hello</h1>", content_type="text/html"),
    )
    view.goto("http://stranger.test/")
    answers.clear()
    ask = """async address => {
        try {
            return await (await fetch(address, {credentials: "include"})).text();
        } catch {
            return "refused";
        }
    }"""
    assert view.evaluate(ask, f"{served.origin}/api/runs") == "refused"
    assert all(status == 403 for url, status in answers if url.startswith(served.origin))
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", f"/api/runs?token={TOKEN}", headers={"Origin": "http://stranger.test"})
    assert connection.getresponse().status == 403
    connection.close()


def test_a_run_that_is_deleted_while_it_is_shown_breaks_nothing(browser: Any, served: Served) -> None:
    run = healthy_run(served.home / "healthy", steps=60)
    run.close()
    view = opened(browser, served, "#/run/healthy")
    settled(view, LOSS)
    for file in sorted(run.path.iterdir()):
        file.unlink()
    run.path.rmdir()
    time.sleep(0.3)
    view.reload()
    view.wait_for_selector("h2:text('There is no such run')")
    view.click("text=All runs")
    view.wait_for_selector("h2:text('No runs yet')")


def test_charts_follow_a_run_while_its_first_diagnosis_takes_its_time(browser: Any, served: Served) -> None:
    held = threading.Event()
    nothing = {"findings": [], "checked": [], "not_applicable": [], "headline": "Nothing was found"}
    served.dashboard.answers.diagnoses._examine = lambda path: nothing if held.wait(60) else nothing
    with closing(RecordWriter(served.home / "live")) as writer:
        write(writer, range(50))
        view = opened(browser, served, "#/run/live")
        settled(view, LOSS)
        for last in (120, 200):
            write(writer, range(last - 70, last), loss=0.125)
            view.wait_for_selector(f"{LOSS}[aria-label*='at step {last - 1}']")
        assert view.locator(".verdict.pending").count() == 1
        held.set()
        view.wait_for_selector("h1:text('Nothing was found')")
    assert view.wrong == []
