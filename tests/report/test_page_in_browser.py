"""The page in a real browser: it draws, zooms, answers clicks, changes its theme, fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.sample import cures_of, sick_diagnosis, sick_run, write_series
from vario.report.html import notebook_html, page_html

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    diagnosis = sick_diagnosis()
    out = folder / "report.html"
    out.write_text(page_html(sick_run(folder / "run"), diagnosis, cures_of(diagnosis)), encoding="utf-8")
    return out


def opened(browser, page: Path, **context):
    """The page, with what it asked for and what went wrong."""
    view = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context)).new_page()
    view.asked, view.wrong = [], []
    view.on("request", lambda request: view.asked.append(request.url))
    view.on("pageerror", lambda error: view.wrong.append(str(error)))
    view.on("console", lambda line: line.type == "error" and view.wrong.append(line.text))
    view.goto(page.as_uri())
    view.wait_for_selector("figure.chart canvas")
    return view


def pixels(view, figure: int) -> str:
    """The picture of the n-th figure of the page."""
    return view.locator("figure.chart canvas").nth(figure).evaluate("canvas => canvas.toDataURL()")


def test_it_draws_everything_and_asks_for_nothing(browser, sick: Path) -> None:
    view = opened(browser, sick)
    for figure in view.query_selector_all("figure[data-chart]:visible"):
        figure.scroll_into_view_if_needed()
        figure.wait_for_selector("canvas")
        view.wait_for_function("figure => figure.ariaLabel?.length > 20", arg=figure)
    view.wait_for_selector("[data-testid=layer] figure.strip canvas")
    assert len(view.query_selector_all("[data-testid=heat-map] canvas")) >= 5
    assert view.asked == [sick.as_uri()] and view.wrong == []


def test_dragging_zooms_every_view_and_double_click_returns(browser, sick: Path) -> None:
    view = opened(browser, sick)
    plots = view.query_selector_all("figure.chart .u-over")
    before = [pixels(view, figure) for figure in (0, 1)]
    box = plots[0].bounding_box()
    view.mouse.move(box["x"] + 40, box["y"] + 60)
    view.mouse.down()
    view.mouse.move(box["x"] + 200, box["y"] + 60, steps=4)
    view.mouse.up()
    view.wait_for_selector("#all-steps:visible")
    view.wait_for_timeout(100)
    during = [pixels(view, figure) for figure in (0, 1)]
    assert during[0] != before[0] and during[1] != before[1]
    plots[0].dblclick()
    view.wait_for_selector("#all-steps", state="hidden")
    assert view.wrong == []


def test_a_row_of_the_heat_map_opens_its_layer_and_its_curves(browser, sick: Path) -> None:
    view = opened(browser, sick)
    view.locator("#layer-maps").scroll_into_view_if_needed()
    canvas = view.wait_for_selector("[data-testid=heat-map] canvas")
    view.wait_for_selector("[data-testid=layer] canvas")
    height = canvas.bounding_box()["height"] - 21
    canvas.click(position={"x": 300, "y": height * 4.5 / 8})
    view.wait_for_function("document.querySelector('[data-testid=layer]').innerText.includes('fc1.weight')")
    assert view.eval_on_selector("#layer-maps select", "select => select.value") == "fc1.weight"
    canvas.press("ArrowDown")
    view.wait_for_function("document.querySelector('#layer-maps select').value === 'fc1.bias'")
    assert len(view.query_selector_all("[data-testid=layer] figure.chart canvas")) >= 3
    assert view.wrong == []


def test_themes_and_a_phone(browser, sick: Path) -> None:
    phone = opened(browser, sick, viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    back = "getComputedStyle(document.body).backgroundColor"
    dark, drawn = phone.evaluate(back), pixels(phone, 0)
    phone.click("#theme")
    assert phone.evaluate(back) != dark
    phone.wait_for_timeout(100)
    assert pixels(phone, 0) != drawn
    assert phone.wrong == []


@pytest.mark.parametrize("value", [float("nan"), 1e-30, 5.0])
def test_odd_numbers_and_hostile_names_break_no_chart(browser, tmp_path: Path, value: float) -> None:
    name = "<img src=x onerror=document.title='broken'></script>\u202e" + "y" * 500
    steps = [0, 1, 2, 3]
    values = [value, float("inf"), value, value * 1e12]
    series = {("loss/train", ""): (steps, values), ("gradient/norm", name): (steps, values)}
    diagnosis = sick_diagnosis()
    out = tmp_path / "odd.html"
    run = write_series(tmp_path / "run", series, stream=name)
    out.write_text(page_html(run, diagnosis, cures_of(diagnosis)), encoding="utf-8")
    view = opened(browser, out)
    view.locator("#layer-maps").scroll_into_view_if_needed()
    view.wait_for_selector("[data-testid=layer] canvas")
    assert "broken" not in view.title() and view.wrong == []
    assert view.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_notebook_unfolds_the_same_charts(browser, tmp_path: Path) -> None:
    view = browser.new_context(viewport={"width": 1000, "height": 900}).new_page()
    view.wrong = []
    view.on("pageerror", lambda error: view.wrong.append(str(error)))
    view.set_content(notebook_html(sick_run(tmp_path / "run")))
    view.click("summary:text('All charts')")
    inside = view.frame_locator("iframe")
    inside.locator("figure.chart canvas").first.wait_for()
    assert inside.locator("figure.chart canvas").first.bounding_box()["width"] > 300
    inside.locator("nav a[href='#layers']").click()
    assert inside.locator("#layers h2").is_visible() and inside.locator("#findings").count() == 1
    inside.locator("#layers [data-testid=heat-map]").first.scroll_into_view_if_needed()
    inside.locator("[data-testid=heat-map] canvas").first.wait_for()
    assert view.wrong == []
