"""What the page asks for and paints, and what not: answers it holds, rows that nobody sees, news at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.ui.browsing import NEEDED, Served, chromium, described, fragment, opened, settled
from vario.nouns import Reading
from vario.record.store import RecordWriter

pytestmark = NEEDED
LOSS = "#loss figure.chart"
MAP = "[data-testid=heat-map]"
LAYERS = 400
ZOOM = "location.hash = location.hash.split('?')[0] + '?x=200:400'"


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


def write(writer: RecordWriter, steps: range, layers: int = 2) -> None:
    """A loss of 2 that is 1 from step 600 on, and a gradient that is as large as its layer's number."""
    for step in steps:
        norms = [Reading("gradient/norm", float(i + 1), f"blocks.{i}.weight") for i in range(layers)]
        writer.readings("model", step, [Reading("loss/train", 2.0 if step < 600 else 1.0), *norms])
    writer.flush()


def asked(view: Any) -> list[str]:
    return [
        url for url in view.asked if any(word in url for word in ("/series", "/heatmap", "/distribution"))
    ]


def test_back_to_all_steps_asks_nothing_that_was_answered(browser: Any, served: Served) -> None:
    with closing(RecordWriter(served.home / "run")) as writer:
        write(writer, range(600))
        writer.event("", 599, "exit", data={"code": 0})
    view = opened(browser, served, "#/run/run")
    settled(view, LOSS)
    view.evaluate(ZOOM)
    view.wait_for_selector(f"{LOSS}[aria-label*='at step 196']")
    settled(view, LOSS)
    before = asked(view)
    assert any("from=196" in url for url in before)
    view.keyboard.press("Escape")
    view.wait_for_selector(f"{LOSS}[aria-label*='at step 599']")
    settled(view, LOSS)
    view.evaluate(ZOOM)
    view.wait_for_selector(f"{LOSS}[aria-label*='at step 196']")
    settled(view, LOSS)
    assert asked(view) == before and view.wrong == []


def test_after_news_all_steps_are_asked_for_anew(browser: Any, served: Served) -> None:
    with closing(RecordWriter(served.home / "run")) as writer:
        write(writer, range(600))
        view = opened(browser, served, "#/run/run")
        settled(view, LOSS)
        view.evaluate(ZOOM)
        view.wait_for_selector(f"{LOSS}[aria-label*='at step 196']")
        write(writer, range(600, 700))
        view.wait_for_selector("[data-testid=steps]:has-text('700')")
        view.keyboard.press("Escape")
        view.wait_for_selector(f"{LOSS}[aria-label*='to 1 at step 699']")
        assert view.wrong == []


def test_news_of_all_that_is_looked_at_is_asked_for_at_once(browser: Any, served: Served) -> None:
    with closing(RecordWriter(served.home / "run")) as writer:
        write(writer, range(600))
        view = opened(browser, served, "#/run/run", viewport={"width": 1280, "height": 2000})
        settled(view, LOSS)
        view.wait_for_selector("[data-testid=layer] canvas")
        before = len(asked(view))
        write(writer, range(600, 640))
        view.wait_for_selector(f"{LOSS}[aria-label*='at step 639']")
        settled(view, LOSS)
        curves = [url for url in asked(view)[before:] if "/series" in url]
        assert len(curves) == 1 and "loss" in curves[0] and "blocks" in curves[0]
        assert any("/heatmap" in url for url in asked(view)[before:])


def test_a_map_of_many_layers_paints_those_that_are_seen(browser: Any, served: Served) -> None:
    with closing(RecordWriter(served.home / "run")) as writer:
        write(writer, range(40), LAYERS)
        writer.event("", 39, "exit", data={"code": 0})
    view = opened(browser, served, "#/run/run?at=layers&layer=blocks.0.weight")
    view.wait_for_selector("[data-testid=layer] canvas")
    canvas, stage = view.locator(f"{MAP} canvas"), view.locator(f"{MAP} .stage")
    tall = canvas.bounding_box()["height"] - 21
    seen = round(tall / 3)
    assert seen == pytest.approx(560 / 3, abs=1)
    assert stage.evaluate("box => box.scrollHeight") == pytest.approx(3 * LAYERS + 21, abs=2)
    stage.evaluate("box => (box.scrollTop = 300)")
    view.wait_for_timeout(100)
    canvas.click(position={"x": 200, "y": 3 * 50 + 1})
    view.wait_for_function("() => document.querySelector('.layer-name').textContent === 'blocks.150.weight'")
    stage.evaluate("box => (box.scrollTop = box.scrollHeight)")
    canvas.press("ArrowDown")
    view.wait_for_function("() => document.querySelector('.layer-name').textContent === 'blocks.151.weight'")
    view.wait_for_function(f"() => document.querySelector('{MAP} .stage').scrollTop < 3 * 151")
    pixel = "canvas => Array.from(canvas.getContext('2d').getImageData(100, {y}, 1, 1).data)"
    stage.evaluate("box => (box.scrollTop = 0)")
    view.wait_for_timeout(100)
    first = canvas.evaluate(pixel.format(y=1))
    stage.evaluate("box => (box.scrollTop = box.scrollHeight)")
    view.wait_for_timeout(100)
    last = canvas.evaluate(pixel.format(y=int(tall) - 1))
    assert first[0] < 80 < 200 < last[0]  # viridis: dark where the norm is 1, yellow where it is 400
    assert view.wrong == []


def test_memory_is_told_in_megabytes(browser: Any, served: Served) -> None:
    with closing(RecordWriter(served.home / "run")) as writer:
        for step in range(40):
            writer.readings("model", step, [Reading("memory/resident", 4.31e8 + 1e6 * step)])
        writer.event("", 39, "exit", data={"code": 0})
    view = opened(browser, served, "#/run/run?at=cost")
    told = described(view, "#cost figure.chart")
    assert told.startswith("Memory. ") and "from 431 MB at step 0 to 470 MB at step 39" in told
    assert view.locator("#cost figure.chart .legend").inner_text().split("\n")[-1].endswith("470 MB")
    assert view.wrong == []


def test_the_tables_of_languages_are_not_read_for_the_first_picture(browser: Any, served: Served) -> None:
    """They take a sixth of the time to it; numbers of steps have their commas all the same."""
    with closing(RecordWriter(served.home / "run")) as writer:
        write(writer, range(1_200))
        writer.event("", 1_199, "exit", data={"code": 0})
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    view = context.new_page()
    view.add_init_script(
        "window.read = []; for (const name of ['NumberFormat', 'DateTimeFormat'])"
        " Intl[name] = class { constructor() { read.push(name); } };"
    )
    view.goto(served.address("#/run/run"))
    view.wait_for_selector(f"{LOSS} canvas")
    assert view.evaluate("read") == []
    view.wait_for_selector("[data-testid=steps]:has-text('1,200')")


def test_of_many_models_one_is_looked_at(browser: Any, served: Served) -> None:
    with closing(RecordWriter(served.home / "run")) as writer:
        for model in ("net", "net#2", "net#3", "net#4", "net#5"):
            writer.event(model, 0, "optimizer", data={"class": f"Optimizer of {model}", "groups": []})
            for step in range(60):
                norm = Reading("gradient/norm", 1.0, f"{model}-layer.weight")
                writer.readings(model, step, [Reading("loss/train", 2.0), Reading("hyper/lr", 0.1), norm])
        writer.event("", 59, "exit", data={"code": 0})
    view = opened(browser, served, "#/run/run?at=layers&model=net%233")
    view.wait_for_selector("[data-testid=layer] canvas")
    assert view.locator("[data-testid=heat-map]").count() == 1
    assert "net#3-layer" in view.locator("[data-testid=layer]").inner_text()
    settings = view.locator("#settings")
    assert "Optimizer of net#3" in settings.inner_text() and "net#5" not in settings.inner_text()
    view.get_by_label("Model whose layers are shown").select_option("net#5")
    view.wait_for_selector("[data-testid=layer]:has-text('net#5-layer')")
    assert view.locator("[data-testid=heat-map]").count() == 1
    assert "Optimizer of net#5" in settings.inner_text() and "model=net%235" in fragment(view)
    assert view.wrong == []


def test_where_labels_are_wrong_it_is_said_which_examples_are_likely_mislabelled(
    browser: Any, served: Served
) -> None:
    noisy = {
        **{"id": "label-noise", "stream": "model", "severity": "warning", "confidence": 0.9, "where": [""]},
        **{"claim": "Labels are wrong", "summary": "Some.", "title": "Label noise", "explained_by": None},
        **{"steps": [0, 9], "evidence": [], "prescriptions": [], "charts": []},
    }
    told = {"findings": [noisy], "checked": ["label-noise"], "not_applicable": [], "headline": "Labels"}
    served.dashboard.answers.diagnoses._examine = lambda path: told
    fill = [float("nan")] * 14
    row = {"example": (7.0, 8.0), "loss": (3.0, 1.0), "target": (1.0, 2.0), "guess": (0.0, 2.0)}
    with closing(RecordWriter(served.home / "run")) as writer:
        writer.event("model", 0, "loader", "loader 0", {"sampler": "SequentialSampler"})
        for step in range(0, 40, 10):
            writer.event("model", step, "epoch", "loader 0", {})
            worst = [
                Reading(f"worst/{name}", [*pair, *fill], "loader 0")
                for name, pair in {**row, "probability": (0.01, 0.4)}.items()
            ]
            writer.readings("model", step, [Reading("loss/train", 2.0), *worst])
        writer.event("", 39, "exit", data={"code": 0})
    view = opened(browser, served, "#/run/run")
    view.wait_for_selector("#examples p:has-text('likely mislabelled')")
    assert view.locator("#examples table").count() == 1
    assert view.wrong == []
