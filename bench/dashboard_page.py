"""How quickly the dashboard's page shows large records, in Debian's chromium: first paint, refresh, zoom.

First paint is from the start of the navigation to the frame in which the first chart of the loss stands;
"all" is when every chart and heat map of a tall screen does. A refresh is from its first question, a zoom
from the key or the mouse, to the frame in which all had been painted. Server and page are processes of
their own, as a user has them, and share the machine.
Run: python bench/dashboard_page.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.dashboard import Server, served
from tests.ui.browsing import chromium
from vario.nouns import Reading
from vario.record import open_run, packing
from vario.record.schema import FILE_NAME
from vario.record.store import RecordWriter

WHOLE = ("loss/train", "hyper/lr", "update/ratio", "gradient/norm", "weight/norm", "time/step", "batch/size")
CHUNK = 1_000
SCREEN = {"width": 1440, "height": 1700}
SHAPES = (
    ("200 series x 100,000 steps", 200, 100_000, 250, 80),
    ("2,000 series x 1,000 steps", 2_000, 1_000, 500, 80),
)
# When the first chart of the loss stands, and when nothing has been added for a while. Of a refresh: when it
# was wanted, when the last answer was there, and when the frame with the last stroke had been painted.
WATCH = """
window.stood = {};
window.seen = {};
new MutationObserver(() => requestAnimationFrame(() => {
  if (document.querySelector("#loss canvas, .blank")) stood.first ??= performance.now();
  const count = document.querySelectorAll("main canvas").length;
  if (count !== stood.count) [stood.count, stood.all] = [count, performance.now()];
})).observe(document, { subtree: true, childList: true });
const begin = () => (seen.began ??= performance.now());
for (const name of ["mouseup", "keydown"]) addEventListener(name, begin, true);
const plain = window.fetch;
window.fetch = async (address, options) => {
  if (!/series|heatmap|distribution/.test(address)) return plain(address, options);
  const mine = seen;
  mine.began ??= performance.now(); // news: nobody touched anything
  mine.open = (mine.open ?? 0) + 1;
  mine.asked = (mine.asked ?? 0) + 1;
  const answer = await plain(address, options);
  const bytes = answer.arrayBuffer.bind(answer);
  answer.arrayBuffer = async () => {
    const found = await bytes();
    [mine.open, mine.data] = [mine.open - 1, performance.now()];
    return found;
  };
  return answer;
};
let due = false;
function stroke() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    const after = new MessageChannel(); // its message comes when the frame has been painted
    after.port1.onmessage = () => ([due, seen.painted] = [false, performance.now()]);
    after.port2.postMessage(null);
  });
}
for (const name of ["clearRect", "drawImage"]) {
  const draw = CanvasRenderingContext2D.prototype[name];
  CanvasRenderingContext2D.prototype[name] = function (...all) {
    stroke();
    return draw.apply(this, all);
  };
}
"""
STILL = (
    "() => !seen.open && seen.painted > (seen.data ?? seen.began) && performance.now() - seen.painted > 400"
)
# From a stroke on an empty page to the frame that shows it: what no page can be quicker than here.
FRAME = """() => new Promise((done) => {
  const began = performance.now();
  const context = document.body.appendChild(document.createElement("canvas")).getContext("2d");
  context.fillRect(0, 0, 9, 9);
  requestAnimationFrame(() => {
    const after = new MessageChannel();
    after.port1.onmessage = () => done(performance.now() - began);
    after.port2.postMessage(null);
  });
})"""


def record(path: Path, series: int, steps: int) -> None:
    """A record of so many series, made of whole chunks; its process ended well."""
    rng = np.random.default_rng(0)
    layers = (series - len(WHOLE)) // 2
    names = [(name, "") for name in WHOLE]
    names += [
        (name, f"blocks.{i}.fc.weight") for name in ("gradient/norm", "update/ratio") for i in range(layers)
    ]
    with closing(RecordWriter(path)) as writer:
        writer.meta("command", ["python", "large.py"])
        writer.readings("model", 0, [Reading(name, 1.0, place) for name, place in names])
        writer.event("", steps, "exit", data={"code": 0})
    at = np.arange(1, steps + 1)
    with closing(sqlite3.connect(path / FILE_NAME)) as connection, connection:
        connection.execute("update stream set last_step=?", (steps,))
        for number, _, place in connection.execute("select id, name, place from series").fetchall():
            values = np.exp(-at / steps) * np.exp(rng.normal(0, 0.3, steps)) * (0.1 if place else 1.0)
            for first in range(0, steps, CHUNK):
                part, held = values[first : first + CHUNK], at[first : first + CHUNK]
                row = (number, int(held[0]), int(held[-1]), len(part), *packing.summary(part))
                connection.execute(
                    "insert into chunk(series, first, last, count, low, mean, high, points) "
                    "values(?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, packing.pack(held, part)),
                )


def processor_time() -> float:
    """Milliseconds that this process (the server) and its children (the browser) have computed."""
    parents, spent = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parts = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)], spent[int(entry.name)] = int(parts[1]), int(parts[11]) + int(parts[12])
    total, wanted = 0, [os.getpid()]
    while wanted:
        one = wanted.pop()
        total += spent.get(one, 0)
        wanted += [child for child, parent in parents.items() if parent == one]
    return 1_000 * total / os.sysconf("SC_CLK_TCK")


def window(browser: Any) -> Any:
    """A blank page in a window at rest: making a window costs the browser a second of its own."""
    view = browser.new_context(viewport=SCREEN).new_page()
    view.add_init_script(WATCH)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        before = processor_time()
        view.wait_for_timeout(300)
        if processor_time() - before < 30:
            break
    return view


def painted(browser: Any, server: Server) -> tuple[float, float, float, Any]:
    """Milliseconds to the first chart and to all of them, those computed until then; and the page."""
    view = window(browser)
    before = processor_time()
    view.goto(server.address("#/run/large"))
    view.wait_for_function("() => window.stood.first")
    computed = processor_time() - before
    view.wait_for_function("() => performance.now() - window.stood.all > 700")
    return view.evaluate("stood.first"), view.evaluate("stood.all"), computed, view


def empty(browser: Any, server: Server) -> tuple[float, float]:
    """Milliseconds to a page that only says that there is no such run, and those computed until then."""
    view = window(browser)
    before = processor_time()
    view.goto(server.address("#/run/nobody"))
    view.wait_for_function("() => window.stood.first")
    computed = processor_time() - before
    stood = float(view.evaluate("stood.first"))
    view.context.close()
    return stood, computed


class Refresh(NamedTuple):
    """Milliseconds from the first question to the painted frame, and from the last answer to it.

    Of processor time, which holds on a busy machine too: of the server, of the page's thread.
    """

    whole: float
    drawing: float
    server: float
    page: float


def page_time(view: Any) -> float:
    """Milliseconds of processor time that the page's own thread has spent on tasks."""
    if "cdp" not in view.__dict__:
        view.cdp = view.context.new_cdp_session(view)
        view.cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    metrics = view.cdp.send("Performance.getMetrics")["metrics"]
    return 1_000 * next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


def refreshed(view: Any, server: Server, act: Callable[[], None]) -> Refresh:
    view.evaluate("() => void (window.seen = {})")
    before, served_before = page_time(view), server.computed()
    act()
    view.wait_for_function(STILL, timeout=60_000, polling=200)
    seen = view.evaluate("seen")
    spent = page_time(view) - before
    asked = seen.get("data", seen["began"])  # a page that has the answers does not ask
    return Refresh(
        seen["painted"] - seen["began"], seen["painted"] - asked, server.computed() - served_before, spent
    )


def drag(view: Any) -> None:
    box = view.locator("#loss .u-over").first.bounding_box()
    view.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40)
    view.mouse.down()
    view.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 40, steps=3)
    view.mouse.up()


class Growing:
    """A record that goes on, as if it had not ended: the same series at a step more."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path / FILE_NAME)) as connection, connection:
            connection.execute("delete from event where kind='exit'")
        with open_run(path) as run:
            self.keys = [(name, place) for name in run.main.names() for place in run.main.wheres(name)]
            self.step = run.main.step_count
        self.writer = RecordWriter(path)

    def grow(self, steps: int) -> None:
        readings = [Reading(name, 0.5, place) for name, place in self.keys]
        for _ in range(steps):
            self.step += 1
            self.writer.readings("model", self.step, readings)
        self.writer.flush()


def looked_at(browser: Any, server: Server, path: Path, rounds: int) -> dict[str, list[float]]:
    """What a page costs, round by round; a page without a run and an empty frame stand beside each."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        stood, least = empty(browser, server)
        found["a page without a run, for comparison"].append(stood)
        found["computed for a page without a run"].append(least)
        first, whole, computed, view = painted(browser, server)
        found["first chart of the loss"].append(first)
        found["computed for the first chart, server and browser together"].append(computed)
        found["all charts of a tall screen"].append(whole)
        found["zoom: every view again"].append(refreshed(view, server, partial(drag, view)).whole)
        back = refreshed(view, server, partial(view.keyboard.press, "Escape"))
        found["back to all steps"].append(back.whole)
        found["back to all steps, from the last answer to the screen"].append(back.drawing)
        found["back to all steps, processor time of the server"].append(back.server)
        found["back to all steps, processor time of the page's thread"].append(back.page)
        found["a frame of an empty page, for comparison"].append(frame(browser))
        view.context.close()
    growing = Growing(path)
    view = window(browser)
    view.goto(server.address("#/run/large"))
    view.wait_for_selector(".verdict:not(.pending)", timeout=120_000)  # what is diagnosed once is done
    view.wait_for_timeout(4_000)
    for steps in [1 + growing.step // 700] * rounds:  # a pixel's worth, so that every view has news
        news = refreshed(view, server, partial(growing.grow, steps))
        found["news of a run: every view again"].append(news.whole)
        found["news of a run, from the last answer to the screen"].append(news.drawing)
        found["news of a run, processor time of the server"].append(news.server)
        found["news of a run, processor time of the page's thread"].append(news.page)
    growing.writer.close()
    view.context.close()
    return found


def frame(browser: Any) -> float:
    view = window(browser)
    took = [float(view.evaluate(FRAME)) for _ in range(5)]
    view.context.close()
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for title, series, steps, first_limit, refresh_limit in SHAPES:
        with tempfile.TemporaryDirectory() as folder, chromium() as browser:
            path = Path(folder) / "large"
            record(path, series, steps)
            with served(Path(folder)) as server:
                found = looked_at(browser, server, path, rounds)
        limits = {"first chart of the loss": first_limit, "back to all steps": refresh_limit}
        limits["news of a run: every view again"] = refresh_limit
        print(f"{title} (median and range of {rounds}; load {os.getloadavg()[0]:.1f}):")
        for name, values in found.items():
            limited = f", limit {limits[name]}" if name in limits else ""
            low, middle, high = min(values), statistics.median(values), max(values)
            print(f"  {name}: {middle:.0f} ms ({low:.0f} to {high:.0f}){limited}", flush=True)


if __name__ == "__main__":
    main()
