"""How quickly the dashboard's page shows large records, in Debian's chromium: first paint, refresh, zoom.

First paint is from the start of the navigation to the frame in which the first chart of the loss stands;
"all" is when every chart and heat map of a tall screen does. A refresh is from the first question that
follows news of the run to the frame after the last answer was drawn. Server and page share the machine.
Run: python bench/dashboard_page.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tests.ui.browsing import Served, chromium
from vario.nouns import Reading
from vario.record import packing
from vario.record.schema import FILE_NAME
from vario.record.store import RecordWriter

WHOLE = ("loss/train", "hyper/lr", "update/ratio", "gradient/norm", "weight/norm", "time/step", "batch/size")
CHUNK = 1_000
SCREEN = {"width": 1440, "height": 1700}
SHAPES = (
    ("200 series x 100,000 steps", 200, 100_000, 250, 80),
    ("2,000 series x 1,000 steps", 2_000, 1_000, 500, 80),
)
# When the first chart of the loss stands, and when nothing has been added for a while.
WATCH = """
window.stood = {};
new MutationObserver(() => requestAnimationFrame(() => {
  if (document.querySelector("#loss canvas, .blank")) stood.first ??= performance.now();
  const count = document.querySelectorAll("main canvas").length;
  if (count !== stood.count) [stood.count, stood.all] = [count, performance.now()];
})).observe(document, { subtree: true, childList: true });
"""
LATEST = """since => {
  const asked = performance.getEntriesByType("resource").filter(
    ({ name, startTime }) => startTime > since && /series|heatmap|distribution/.test(name));
  if (!asked.length) return null;
  const [starts, ends] = [asked.map((one) => one.startTime), asked.map((one) => one.responseEnd)];
  return { count: asked.length, began: Math.min(...starts), ended: Math.max(...ends) };
}"""
FRAME = """() => new Promise((done) =>
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"""


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


def painted(browser: Any, served: Served) -> tuple[float, float, float, Any]:
    """Milliseconds to the first chart and to all of them, those computed until then; and the page."""
    view = window(browser)
    before = processor_time()
    view.goto(served.address("#/run/large"))
    view.wait_for_function("() => window.stood.first")
    computed = processor_time() - before
    view.wait_for_function("() => performance.now() - window.stood.all > 700")
    return view.evaluate("stood.first"), view.evaluate("stood.all"), computed, view


def empty(browser: Any, served: Served) -> float:
    """Milliseconds to a page that only says that there is no such run: what browser and frame cost here."""
    view = window(browser)
    view.goto(served.address("#/run/nobody"))
    view.wait_for_function("() => window.stood.first")
    stood = float(view.evaluate("stood.first"))
    view.context.close()
    return stood


def refreshed(view: Any, act: Any) -> tuple[float, int]:
    """Milliseconds from the first question after `act` to the frame after the last answer; the questions."""
    since = view.evaluate("performance.now()")
    act()
    view.wait_for_function(LATEST, arg=since, timeout=20_000)
    seen = -1
    while (found := view.evaluate(LATEST, since))["count"] != seen:
        seen = found["count"]
        drawn = view.evaluate(FRAME)
        time.sleep(0.25)
    return min(drawn, found["ended"] + 34) - found["began"], seen


def drag(view: Any) -> None:
    box = view.locator("#loss .u-over").first.bounding_box()
    view.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40)
    view.mouse.down()
    view.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 40, steps=3)
    view.mouse.up()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for title, series, steps, first_limit, refresh_limit in SHAPES:
        with tempfile.TemporaryDirectory() as folder, chromium() as browser:
            record(Path(folder) / "large", series, steps)
            served = Served(Path(folder))
            first, whole, zoomed, news, work, bare = [], [], [], [], [], []
            for _ in range(rounds):
                bare.append(empty(browser, served))
                a, b, computed, view = painted(browser, served)
                ms, _ = refreshed(view, lambda view=view: drag(view))
                back, asked = refreshed(view, lambda view=view: view.keyboard.press("Escape"))
                for row, value in zip(
                    (first, whole, work, zoomed, news), (a, b, computed, ms, back), strict=True
                ):
                    row.append(value)
                view.context.close()
            served.stop()
        print(f"{title} (median and range of {rounds}):")
        for name, values, limit in (
            ("a page without a run, for comparison", bare, None),
            ("first chart of the loss", first, first_limit),
            ("computed until then, server and browser together", work, None),
            ("all charts of a tall screen", whole, None),
            (f"full refresh ({asked} questions)", news, refresh_limit),
            ("zoom: every view again", zoomed, None),
        ):
            limited = f", limit {limit}" if limit else ""
            low, middle, high = min(values), statistics.median(values), max(values)
            print(f"  {name}: {middle:.0f} ms ({low:.0f} to {high:.0f}){limited}", flush=True)


if __name__ == "__main__":
    main()
