"""The page: complete in itself, readable without scripts, safe against hostile names, right on odd runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.sample import cures_of, empty_run, healthy_run, sick_diagnosis, sick_run, write_series
from vario.nouns import Diagnosis, Finding, Reading
from vario.record import Run
from vario.record.reader import open_run
from vario.record.store import RecordWriter
from vario.report.html import MODULES, STATIC, notebook_html, page_html, script, write_report

HOSTILE = "<script>alert(1)</script>\u202e\"'&" + "x" * 500


class Outline(HTMLParser):
    """Text outside scripts and styles, and whether every element was closed."""

    VOID = ("meta", "link", "br", "path", "circle", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.ids, self.links, self.scripts = "", [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text += data


def page_of(run: Run, diagnosis: Diagnosis) -> tuple[str, Outline]:
    text = page_html(run, diagnosis, cures_of(diagnosis))
    outline = Outline(text)
    assert not outline.open
    assert len(set(outline.ids)) == len(outline.ids)
    return text, outline


def inlined(text: str) -> dict:
    raw = re.search(r'<script type="application/json" id="vario-data">(.*?)</script>', text, re.S)
    return json.loads(raw[1], parse_constant=lambda word: pytest.fail(word))


def test_everything_is_inside_the_page(tmp_path: Path) -> None:
    text, outline = page_of(sick_run(tmp_path / "run"), sick_diagnosis())
    assert all(link.startswith(("#", "data:")) for link in outline.links)
    assert not re.search(r"@import|url\(\s*['\"]?(?!data:)[a-z]+:", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon)\b", script())
    assert len(text) < 400_000


def test_findings_are_readable_without_scripts(tmp_path: Path) -> None:
    text, outline = page_of(sick_run(tmp_path / "run"), sick_diagnosis())
    for words in (
        "The learning rate is too high, and 1 more cause",
        "With a learning rate of 3 a step changed the weights by 52 %",
        "lr 3 -> 0.05: the update is 52 % of the weight per step",
        "vario trial digits.py --lr 3.0 --batch 64 --set optimizer.lr=0.05",
        "A paper of worth",
        "What it means",
        "no evaluation was seen",
        "Explains 1: dead units",
        "vario took 80 ms beside steps of 4.83 s (1.66 %)",
    ):
        assert words in outline.text, words
    cards = text.split("<article")[1:]
    assert len(cards) == 3
    assert cards[0].count('class="curve"') == 2 and cards[0].count('class="meter"') == 3


def test_every_chart_names_curves_that_are_there(tmp_path: Path) -> None:
    text, _ = page_of(sick_run(tmp_path / "run"), sick_diagnosis())
    data = inlined(text)
    shown = [int(n) for n in re.findall(r'data-chart="(\d+)"', text)]
    assert sorted(shown) == list(range(len(data["charts"]))) and len(shown) > 10
    used = {line["curve"] for chart in data["charts"] for line in chart["lines"]}
    used |= {row[1] for stream in data["layers"] for m in stream["maps"] for row in m["rows"]}
    assert used == set(range(len(data["curves"])))
    ratio = next(chart for chart in data["charts"] if chart["title"].startswith("Update over"))
    assert ratio["limits"] == [{"value": 0.1, "label": "limit 10 %"}] and ratio["span"] == [0, 399]
    assert data["steps"] == [0, 399]
    (stream,) = data["layers"]
    assert {"Gradient norm", "Dead channels"} <= {m["title"] for m in stream["maps"]}
    assert "" in stream["strips"] and "conv1.weight" in stream["strips"]


def test_the_worst_examples_are_a_table(tmp_path: Path) -> None:
    text, _ = page_of(sick_run(tmp_path / "run"), sick_diagnosis())
    (table,) = re.findall(r"<table><thead><tr><th scope=\"col\">worst example</th>.*?</table>", text)
    assert re.findall(r'<th scope="row">(\d+)</th><td>[37]</td>', table) == ["4711", "12"]
    assert "<td>0.2 %</td>" in table


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    steps = list(range(10))
    series = {("gradient/norm", HOSTILE): (steps, [1.0] * 10), ("loss/train", ""): (steps, [1.0] * 10)}
    run = write_series(tmp_path / "run", series, stream="<b>model</b>")
    found = Finding("outside-rule", "error", 1.0, (HOSTILE,), (0, 9), (), stream="<b>model</b>")
    text, outline = page_of(
        run, Diagnosis((found,), ("outside-rule",), {"<i>": "<img src=x onerror=alert(1)>"})
    )
    assert "<script>alert" not in text and "<img" not in text and "<b>model" not in text
    assert "\u202e" not in outline.text and "x" * 130 not in outline.text
    assert inlined(text)["layers"][0]["maps"][0]["rows"][0][0] == HOSTILE
    assert len(outline.scripts) >= 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 0.0, 3e300])
def test_a_run_of_nothing_but_odd_numbers_has_a_page(tmp_path: Path, value: float) -> None:
    names = ("loss/train", "update/ratio", "gradient/norm", "time/own", "time/step", "examples/error_norm")
    series = {(name, ""): ([0, 1, 2], [value] * 3) for name in names}
    series[("gradient/norm", "fc")] = ([0, 1, 2], [value] * 3)
    page_of(write_series(tmp_path / "run", series), sick_diagnosis())


def test_one_step_no_step_and_a_crash_have_their_pages(tmp_path: Path) -> None:
    _, one = page_of(
        write_series(tmp_path / "one", {("loss/train", ""): ([0], [2.0])}), Diagnosis((), ("diverging",))
    )
    assert "Nothing wrong was found in 1 of 1 checks" in one.text
    _, none = page_of(empty_run(tmp_path / "none"), Diagnosis((), (), {"diverging": "the run has no steps"}))
    assert "No training step was seen" in none.text and "failed: FileNotFoundError" in none.text
    assert "Loss and metrics" not in none.text


def test_the_file_is_written_whole_beside_its_name(tmp_path: Path) -> None:
    out = write_report(healthy_run(tmp_path / "run"), tmp_path / "deep" / "page.html")
    assert out == tmp_path / "deep" / "page.html" and list(out.parent.iterdir()) == [out]
    assert out.read_text(encoding="utf-8").endswith("</html>")


def test_the_notebook_form_is_small_safe_and_has_the_loss(tmp_path: Path) -> None:
    for run in (sick_run(tmp_path / "sick"), empty_run(tmp_path / "none")):
        text, _, whole = notebook_html(run).partition("<details>")
        assert "&lt;!doctype html&gt;" in whole and "<script" not in whole
        assert "<script" not in text and "class=" in text or run.status == "failed"
        assert len(text) < 40_000 and not Outline(text).open
    assert 'aria-label="Loss"' in notebook_html(sick_run(tmp_path / "again"))


def test_modules_come_after_what_they_import() -> None:
    for i, name in enumerate(MODULES):
        needed = re.findall(r'from "\./(\w+\.js)"', (STATIC / name).read_text())
        assert set(needed) <= set(MODULES[:i]), name
    assert set(MODULES) == {path.name for path in STATIC.glob("*.js")}
    assert not re.search(r"^(import|export) ", script(), re.M)


def test_a_long_run_with_many_layers_stays_small(tmp_path: Path) -> None:
    layers = tuple(f"block.{i}.weight" for i in range(260))
    run = sick_run(tmp_path / "wide", steps=40, layers=layers)
    text, _ = page_of(run, sick_diagnosis())
    rows = [len(m["rows"]) for m in inlined(text)["layers"][0]["maps"] if m["name"] == "gradient/norm"]
    assert rows == [200] and text.count("block.259.weight") >= 1
    assert len(text) < 5_000_000


def test_of_a_search_of_twenty_models_a_few_are_shown_and_the_rest_is_told(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run")
    for number in range(1, 21):
        for step in range(5):
            writer.readings(f"net#{number}", step, [Reading("loss/train", 2.0 - step / 10)])
    writer.close()
    ill = Finding("diverging", "error", 0.9, (), (0, 4), (), stream="net#17")
    text, outline = page_of(open_run(tmp_path / "run"), Diagnosis((ill,), ()))
    labels = {line["label"] for chart in inlined(text)["charts"] for line in chart["lines"]}
    assert labels == {"training", "net#17: training", *(f"net#{number}: training" for number in range(1, 8))}
    assert "Below are 8 of 20 models" in outline.text and "vario export run" in outline.text
    _, whole = page_of(sick_run(tmp_path / "one"), sick_diagnosis())
    assert "Below are" not in whole.text
