"""The dashboard's page in a real browser: every page, zoom, links, keys, themes, a phone, saved files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tests.report.sample import empty_run, healthy_run, sick_run
from tests.ui.browsing import NEEDED, Served, chromium, described, foreign, fragment, opened, picture, settled
from tests.ui.test_trials import a_trial
from vario.capture.sketches import sketch
from vario.laws._answer import answer
from vario.nouns import Reading
from vario.record.runs import create_run
from vario.record.store import RecordWriter

pytestmark = NEEDED
LOSS = "#loss figure.chart"
STEPS = 6_000
SPIKE = 3_210


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    for run in (sick_run(home / "sick"), healthy_run(home / "healthy"), empty_run(home / "empty")):
        run.close()
    _long_run(home / "long")
    found = Served(home)
    yield found
    found.stop()


def _long_run(path: Path) -> None:
    """A smooth loss with one reading of 9 at SPIKE, and a gradient noise that was read now and then."""
    rng = np.random.default_rng(0)
    with closing(RecordWriter(path)) as writer:
        writer.meta("command", ["python", "long.py"])
        for step in range(STEPS):
            loss = 9.0 if step == SPIKE else 2.0 + float(rng.normal(0, 0.05))
            readings = [Reading("loss/train", loss), Reading("batch/size", 32.0)]
            if step % 40 == 0:
                readings += [
                    Reading("gradient_noise/signal", 1.0 + float(rng.normal(0, 0.1))),
                    Reading("gradient_noise/noise", 500.0 + float(rng.normal(0, 30))),
                    Reading("curvature/sharpness", 12.0 + float(rng.normal(0, 1))),
                ]
            writer.readings("model", step, readings)
        writer.event("", STEPS - 1, "exit", data={"code": 0})


def reached(view: Any, figure: str) -> dict[str, float]:
    """Where the mouse finds the chart: what came above it may have pushed it out of the window."""
    over = view.locator(f"{figure} .u-over").first
    over.scroll_into_view_if_needed()
    return dict(over.bounding_box())


def drag(view: Any, figure: str, start: float, end: float) -> None:
    box = reached(view, figure)
    view.mouse.move(box["x"] + start * box["width"], box["y"] + 60)
    view.mouse.down()
    view.mouse.move(box["x"] + end * box["width"], box["y"] + 60, steps=4)
    view.mouse.up()


def inked(view: Any, share: float) -> bool:
    """Whether something blue is painted in the upper third of the loss at this share of its steps."""
    return view.locator(LOSS).first.evaluate(
        """(figure, share) => {
            const [canvas, over] = [figure.querySelector("canvas"), figure.querySelector(".u-over")];
            const x = Math.round(over.offsetLeft + share * over.clientWidth) - 3;
            const context = canvas.getContext("2d");
            const { data } = context.getImageData(x, over.offsetTop + 12, 7, over.clientHeight / 3);
            return data.some((value, i) => i % 4 === 2 && value > data[i - 2] + 40);
        }""",
        share,
    )


def windows(asked: list[str]) -> list[tuple[int, int]]:
    """The ranges of steps for which the training loss was asked."""
    found = [re.search(r"loss%2Ftrain.*from=(\d+)&to=(\d+)", url) for url in asked]
    return [(int(one[1]), int(one[2])) for one in found if one]


def test_the_list_has_every_run_and_finds_and_sorts_them(browser: Any, served: Served) -> None:
    view = opened(browser, served)
    view.wait_for_function("() => document.querySelectorAll('.runs tbody tr').length === 4")
    view.wait_for_selector("tr[data-id=sick] .badge.error")
    row = view.locator("tr[data-id=sick]")
    assert "digits.py --lr 3.0" in row.inner_text() and "400" in row.inner_text()
    assert row.locator("svg.spark path").count() == 1
    assert "no such file: data.csv" in view.locator("tr[data-id=empty]").inner_text()
    view.fill("#search", "0.05")
    view.wait_for_function("() => document.querySelectorAll('.runs tbody tr').length === 1")
    assert "#/runs?q=0.05" in fragment(view)
    view.fill("#search", "")
    view.click("th button:text('steps')")
    view.wait_for_selector("th[aria-sort=descending]:has-text('steps')")
    order = view.eval_on_selector_all("tbody tr", "rows => rows.map(row => row.dataset.id)")
    assert order[0] == "long" and order[-1] == "empty"
    assert foreign(view, served) == [] and view.wrong == []


def test_a_run_shows_findings_first_and_then_everything_else(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/sick")
    view.wait_for_selector("[data-testid=finding]")
    cause = view.locator("[data-testid=finding] h3").first.inner_text()
    assert view.inner_text("h1").startswith(cause) and view.locator("header.verdict.pending").count() == 0
    tops = view.eval_on_selector_all("section:not([hidden])", "all => all.map(one => one.id)")
    assert tops[:3] == ["findings", "loss", "layers"] and {"examples", "settings", "cost"} <= set(tops)
    view.wait_for_selector("[data-testid=finding] figure.chart canvas")
    assert view.locator("[data-testid=finding] table.evidence tbody tr").count() >= 1
    assert "momentum" in view.inner_text("#settings") and "torch" in view.inner_text("#settings")
    for section in ("loss", "examples"):
        settled(view, f"#{section} figure.chart:visible")
        assert len(described(view, f"#{section} figure.chart")) > 20
    assert foreign(view, served) == [] and view.wrong == []


def test_one_click_copies_the_trial(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/sick", permissions=["clipboard-read", "clipboard-write"])
    view.wait_for_selector("[data-testid=copy]")
    view.locator("[data-testid=copy]").first.click()
    view.wait_for_selector("[data-testid=copy]:text('copied')")
    copied = view.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("vario trial ") and "#" not in copied
    assert copied == view.locator(".command code").first.inner_text()


def test_dragging_asks_again_for_every_reading_and_links_keep_it(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/long")
    settled(view, LOSS)
    before = picture(view, f"{LOSS} canvas")
    asked = len(view.asked)
    drag(view, LOSS, 0.45, 0.6)
    view.wait_for_selector("#all-steps:visible")
    view.wait_for_function("() => location.hash.includes('x=')")
    view.wait_for_timeout(200)
    (first, last), *more = windows(view.asked[asked:])
    assert not more and picture(view, f"{LOSS} canvas") != before
    assert 2_500 < first < SPIKE < last < 3_800
    again = opened(browser, served, fragment(view))
    settled(again, LOSS)
    assert set(windows(again.asked)) <= {(first + i, last + k) for i in (-1, 0, 1) for k in (-1, 0, 1)}
    assert windows(again.asked)
    view.locator(f"{LOSS} .u-over").first.dblclick()
    view.wait_for_selector("#all-steps", state="hidden")
    view.wait_for_timeout(200)
    assert "x=" not in fragment(view) and picture(view, f"{LOSS} canvas") == before
    assert view.wrong == [] and again.wrong == []


def test_the_first_curves_are_asked_for_once_and_together(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/long")
    view.wait_for_selector(".checks details", state="attached")
    before = view.asked[: next(i for i, url in enumerate(view.asked) if url.endswith("/findings"))]
    assert sum("/series?first=" in url for url in before) == 1
    assert not any("loss%2Ftrain" in url for url in before)
    assert f"at step {STEPS - 1}" in described(view, LOSS)
    assert view.wrong == []


def test_smoothing_hides_no_spike_and_the_cursor_is_shared(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/long?smooth=strong")
    settled(view, LOSS)
    assert view.eval_on_selector("nav [aria-label^=Smoothing]", "pick => pick.value") == "strong"
    view.locator(LOSS).first.hover()
    assert inked(view, SPIKE / (STEPS - 1)) and not inked(view, 0.25)
    soft = picture(view, f"{LOSS} canvas")
    view.keyboard.press("s")
    view.wait_for_function("() => !location.hash.includes('smooth')")
    view.wait_for_timeout(100)
    assert picture(view, f"{LOSS} canvas") != soft
    view.locator("#curvature").scroll_into_view_if_needed()
    view.wait_for_selector("#curvature canvas")
    view.wait_for_selector("#noise canvas")
    over = reached(view, "#noise")
    view.mouse.move(over["x"] + over["width"] / 2, over["y"] + 60)
    view.wait_for_function(
        "() => /step [23],\\d/.test(document.querySelector('#curvature .legend').textContent)"
    )
    assert view.wrong == []


def test_the_noise_scale_has_the_value_that_was_recorded(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/long?at=noise")
    view.wait_for_selector("#noise canvas")
    told = described(view, "#noise figure.chart")
    scale = float(re.search(r"noise scale, in examples .* to (\S+) at step \d+;", told)[1])
    assert scale == pytest.approx(500, rel=0.05) and "to 32 at step" in told


def test_a_cell_of_the_heat_map_opens_its_layer(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/sick?at=layers")
    canvas = view.wait_for_selector("[data-testid=heat-map] canvas")
    view.wait_for_selector("[data-testid=layer] canvas")
    canvas.click(position={"x": 300, "y": (canvas.bounding_box()["height"] - 21) * 4.5 / 8})
    view.wait_for_function("() => document.querySelector('.layer-name').textContent === 'fc1.weight'")
    view.wait_for_selector("[data-testid=strip] canvas")
    view.wait_for_function(
        "() => document.querySelectorAll('[data-testid=layer] figure.chart canvas').length >= 3"
    )
    assert "layer=fc1.weight" in fragment(view)
    view.keyboard.press("]")
    view.wait_for_function("() => document.querySelector('.layer-name').textContent === 'fc1.bias'")
    shown = picture(view, "[data-testid=heat-map] canvas")
    view.click(".pills button:text('Update over weight')")
    view.wait_for_function("() => location.hash.includes('map=update')")
    view.wait_for_timeout(100)
    assert picture(view, "[data-testid=heat-map] canvas") != shown
    tall = view.locator("[data-testid=heat-map] canvas").bounding_box()["height"]
    view.fill("input.filter", "conv2")
    view.wait_for_timeout(50)
    low = view.locator("[data-testid=heat-map] canvas").bounding_box()["height"]
    assert low - 21 == pytest.approx((tall - 21) / 4, abs=2)
    other = opened(browser, served, "#/run/sick?layer=conv2.bias&map=weight%2Fnorm&at=layers")
    other.wait_for_function("() => document.querySelector('.layer-name')?.textContent === 'conv2.bias'")
    assert other.locator(".pills button[aria-pressed=true]").inner_text() == "Weight norm"
    assert view.wrong == [] and other.wrong == []


def test_runs_are_compared_by_choosing_them(browser: Any, served: Served) -> None:
    view = opened(browser, served)
    view.wait_for_selector("tr[data-id=sick]")
    assert view.is_disabled("#compare")
    for name in ("sick", "healthy"):
        view.check(f"tr[data-id={name}] input")
    view.click("#compare")
    view.wait_for_selector("[data-testid=differences]")
    told = view.inner_text("[data-testid=differences]")
    assert re.search(r"\blr\s+3\s+0\.05", told) and "momentum" not in told
    settled(view, LOSS)
    legend = view.locator(f"{LOSS} .legend").first.inner_text()
    assert "sick" in legend and "healthy" in legend
    assert view.wrong == [] and foreign(view, served) == []


def test_a_trial_shows_its_verdict_its_pairs_and_their_difference(browser: Any, served: Served) -> None:
    trial = a_trial(served.home)
    view = opened(browser, served)
    view.click(f"a[href='#/trial/{trial.id}']")
    view.wait_for_selector("h1:text('sam helps')")
    row = view.inner_text("[data-testid=verdict]")
    assert "−0.1 (−0.2 to open)" in row and "helps" in row and "1.9 ×" in row
    view.wait_for_function("() => document.querySelectorAll('[data-testid=pairs] canvas').length === 2")
    assert view.locator("svg.forest circle").count() == 1
    assert "minus baseline from -0.1" in described(view, "figure.chart", 1)
    view.click("text=2 pairs")
    assert view.locator("[data-testid=pairs] tbody tr").count() == 2  # the third run gave no value
    assert "diverged" in view.inner_text("main")
    begun = create_run(
        served.home / "trials", command=("vario", "trial", "b.py"), meta={"trial": ["baseline"]}
    )
    view.evaluate("id => (location.hash = `#/trial/${id}`)", begun.name)
    view.wait_for_selector("h1:text('No verdict yet, 0 runs done')")
    assert "undefined" not in view.inner_text("main") and view.wrong == []


def test_a_plan_shows_its_runs_its_law_and_a_forecast(browser: Any, served: Served) -> None:
    x = np.geomspace(1e4, 1e6, 8)
    made = answer({"x": x, "loss": 3.0 * x**-0.2}, "", law="power", delta="inf", bootstrap=50)
    data = {name: column.tolist() for name, column in made.columns.items()}
    (served.home / "fit.json").write_text(json.dumps({**made.shown, "plan": made.kept, "data": data}))
    view = opened(browser, served, "#/plan/fit")
    view.wait_for_selector("h1:text('power on 8 runs')")
    assert view.locator("svg.law circle.ran").count() == 8 and view.locator("svg.law path.band").count() == 1
    view.fill("#at", "x=1e7")
    view.click("button:text('predict')")
    view.wait_for_selector("h1:text('loss 0.1194 is predicted')")
    assert view.locator("svg.law circle.foretold").count() == 1 and "at=x%3D1e7" in fragment(view)
    view.fill("#at", "x=nothing")
    view.click("button:text('predict')")
    view.wait_for_selector(".forecast + .off:not(:empty)")
    assert [line for line in view.wrong if "400" not in line] == []


def test_charts_are_saved_as_numbers_and_pictures(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/long")
    settled(view, LOSS)
    view.locator(LOSS).first.hover()
    with view.expect_download() as saved:
        view.locator(f"{LOSS} .tools button:text('csv')").first.click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text())))
    assert len(rows) == STEPS and float(rows[SPIKE]["mean"]) == 9.0
    for figure in (LOSS, "[data-testid=heat-map]", "[data-testid=strip]"):
        if figure != LOSS:
            view.goto(served.address("#/run/sick?at=layers"))
            view.wait_for_selector(f"{figure} canvas")
        view.locator(figure).first.hover()
        with view.expect_download() as saved:
            view.locator(f"{figure} .tools button:text('svg')").first.click()
        drawn = ElementTree.fromstring(Path(saved.value.path()).read_text())
        kinds = {one.tag.rpartition("}")[2] for one in drawn.iter()}
        assert drawn.tag.endswith("svg") and "text" in kinds and kinds & {"path", "image"}
    assert view.wrong == []


def test_keys_are_listed_and_work(browser: Any, served: Served) -> None:
    view = opened(browser, served)
    view.wait_for_selector("tr[data-id=sick]")
    view.keyboard.press("?")
    assert "compare the chosen runs" in view.inner_text("[data-testid=key-list]")
    view.keyboard.press("Escape")
    view.keyboard.press("/")
    view.keyboard.type("sick")
    view.wait_for_function("() => document.querySelectorAll('.runs tbody tr').length === 1")
    view.keyboard.press("Enter")
    view.keyboard.press("Enter")
    view.wait_for_function("() => location.hash.startsWith('#/run/sick')")
    view.wait_for_selector("#loss:not([hidden])")
    view.keyboard.press("l")
    view.wait_for_function("() => location.hash.includes('at=layers')")
    view.keyboard.press("r")
    view.wait_for_selector(".runs")
    assert view.wrong == []


def test_a_phone_needs_no_scrolling_sideways(browser: Any, served: Served) -> None:
    trial = a_trial(served.home)
    view = opened(browser, served, viewport={"width": 390, "height": 844}, has_touch=True)
    for place in ("#/runs", "#/run/sick", "#/compare/sick,healthy", f"#/trial/{trial.id}"):
        view.evaluate("place => (location.hash = place)", place)
        view.wait_for_selector("main:not([aria-busy])")
        view.wait_for_timeout(150)
        assert view.evaluate("document.documentElement.scrollWidth") <= 390, place
    verdicts = view.locator(".wide:has(.verdicts)")
    assert verdicts.evaluate("box => box.scrollWidth <= box.clientWidth")
    assert "step time" in verdicts.evaluate(
        "box => getComputedStyle(box.querySelector('td:last-child'), '::before').content"
    )
    assert view.wrong == []


def test_dark_and_light(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/long", color_scheme="dark")
    settled(view, LOSS)
    back = "getComputedStyle(document.body).backgroundColor"
    dark, drawn = view.evaluate(back), picture(view, f"{LOSS} canvas")
    view.keyboard.press("t")
    view.wait_for_timeout(100)
    assert view.evaluate(back) != dark and picture(view, f"{LOSS} canvas") != drawn
    view.reload()
    view.wait_for_selector("h1")
    assert view.evaluate(back) != dark  # the choice is kept
    assert view.wrong == []


def test_a_run_without_a_step_says_why(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/run/empty")
    view.wait_for_selector("h1:text('No training step was seen')")
    assert "no such file: data.csv" in view.inner_text("header.verdict")
    assert view.wrong == []


def test_what_is_not_there_is_said(browser: Any, served: Served) -> None:
    view = opened(browser, served, "#/nowhere")
    view.wait_for_selector(".runs")
    for place, words in (("#/run/nobody", "There is no such run"), ("#/compare/", "Nothing to compare")):
        view.evaluate("place => (location.hash = place)", place)
        view.wait_for_selector(f"h2:text('{words}')")


def test_examples_are_shown_with_what_was_kept_of_them(browser: Any, served: Served) -> None:
    row = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    fill = [float("nan")] * 14
    with closing(RecordWriter(served.home / "kept")) as writer:
        loader = {"sampler": "RandomSampler", "replacement": False}
        writer.event("model", 0, "loader", "loader 0", loader)
        for step in range(20):
            writer.event("model", step, "epoch", "loader 0", {"epoch": step})
            of = {"example": [7, 8], "loss": [3, 1], "target": [1, 2], "guess": [0, 2 + step % 2]}
            worst = [
                Reading(f"worst/{name}", [*map(float, two), *fill], "loader 0") for name, two in of.items()
            ]
            writer.readings("model", step, [Reading("loss/train", 1.0), *worst])
        writer.event("model", 9, "example", "loader 0", {"example": 7, **sketch(row[0])})
        writer.event("model", 9, "example", "loader 0", {"example": 8, "text": "<b>a cat</b>"})
        writer.event("", 19, "exit", data={"code": 0})
    view = opened(browser, served, "#/run/kept")
    pictures = view.locator("#examples table").first.locator("img.sketch")
    pictures.wait_for()
    assert pictures.evaluate(
        "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    ) == [8, 8]
    assert view.locator("#examples span.sketch").first.inner_text() == "<b>a cat</b>"
    forgotten = view.locator("#examples table").nth(1)
    assert "most forgotten example" in forgotten.inner_text()
    assert forgotten.locator("tbody tr").inner_text().split("\n")[0].split("\t")[0].strip() == "8"
    assert "10 times" in forgotten.inner_text()  # right and wrong in turn, and every epoch was looked at
    view.wait_for_selector("summary:has-text('events')")
    assert "image/png" not in view.inner_text("#events") and view.wrong == [] and foreign(view, served) == []
