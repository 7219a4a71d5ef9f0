"""One self-contained page about a run, and its short form for notebooks.

The page asks no other host for anything: style, scripts and numbers are inside it. Everything that
matters (findings, evidence, remedies, tables, a still of each finding's charts) is plain HTML; the
scripts of ``static/`` only make it alive. Those are the modules of the dashboard as well: joined here
in the order of ``MODULES`` into one script, because a page from a disk may not import files.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vario.nouns import Diagnosis, Finding, Prescription
from vario.record import Record, Run
from vario.remedies.prescribe import prescribe_all
from vario.report import charts, facts, finding_html, layers, svg, tables, words
from vario.report.charts import Chart
from vario.report.curves import Curves
from vario.report.finding_html import said
from vario.rules import diagnose

__all__ = ["MODULES", "notebook_html", "page_html", "write_report"]

STATIC = Path(__file__).parent / "static"
MODULES = (
    "dom.js", "format.js", "source.js", "linked.js", "svg.js", "smooth.js", "picture.js", "chart.js",
    "heatmap.js", "strip.js", "layers.js", "page.js",
)  # fmt: skip
SECTIONS = (
    ("loss", "Loss and metrics"),
    ("layers", "Layers over steps"),
    ("noise", "Gradient noise"),
    ("examples", "Examples"),
    ("data", "Data"),
    ("settings", "Settings"),
    ("more", "More series"),
    ("cost", "What vario cost"),
)
STILL_BINS = 160


def write_report(run: Run, out: Path) -> Path:
    """Write the page of ``run`` to ``out``, whole or not at all, and return its path."""
    diagnosis = diagnose(run)
    text = page_html(run, diagnosis, prescribe_all(diagnosis, run))
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", errors="replace")
    temporary.replace(out)
    return out


def page_html(run: Run, diagnosis: Diagnosis, cures: Mapping[Finding, Sequence[Prescription]]) -> str:
    """The whole page as text."""
    page = _Page(run, diagnosis)
    findings = page.findings(diagnosis, cures)
    sections = {name: page.section(name) for name, _ in SECTIONS}
    maps = layers.layer_maps(page.records, page.curves, diagnosis.findings)
    if maps:
        sections["layers"] = page.layers() + sections["layers"]
    body = "".join(
        f'<section id="{name}"><h2>{title}</h2>{sections[name]}</section>'
        for name, title in SECTIONS
        if sections[name]
    )
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in SECTIONS if sections[name])
    inlined = {
        "steps": [0, max(facts.steps_seen(run) - 1, 1)],
        "grids": page.curves.grids,
        "curves": page.curves.curves,
        "charts": page.charts,
        "layers": maps,
    }
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{said(facts.title(run))} · vario</title>"
        f"<style>{_static('uplot/uPlot.min.css')}{_static('page.css')}</style></head><body>"
        '<nav aria-label="Sections"><a class="brand" href="#top">vario</a><a href="#findings">Findings</a>'
        f"{links}"
        f'<button type="button" id="theme" hidden>theme</button></nav><main id="top">'
        f"{_verdict(run, diagnosis)}{findings}{page.left_out()}{body}</main>"
        f"<footer>Made by vario {said(_version())}. This page is complete: it loads nothing from"
        " anywhere.</footer>"
        f'<script type="application/json" id="vario-data">{_inline(inlined)}</script>'
        f"<script>{_charts()}</script>"
        f'<script type="module">{script()}</script></body></html>'
    )


def notebook_html(run: Run) -> str:
    """What a notebook shows: headline, findings and the loss without scripts, and the page folded below."""
    diagnosis = diagnose(run)
    cures = prescribe_all(diagnosis, run)
    whole = page_html(run, diagnosis, cures)
    # Inside another page the links to sections would otherwise lead to that page's address.
    whole = escape(whole.replace("<head>", '<head><base href="about:srcdoc">', 1))
    page = _Page(run, diagnosis)
    loss = next((chart for chart in charts.course(page.records) if chart.section == "loss"), None)
    rows = []
    for finding in [item for item in diagnosis.findings if not item.explained_by][:3]:
        first = next((cure.change for cure in cures[finding] if cure.available), "")
        hint = f"<br>try: {said(first, longest=300)}" if first else ""
        sentence = said(words.summary(finding, words.card_of(finding.id)), longest=600)
        rows.append(f"<li><b>{said(finding.id)}</b> ({finding.severity}): {sentence}{hint}</li>")
    steps = facts.steps_seen(run)
    return (
        '<div style="font-family:system-ui,sans-serif;max-width:640px">'
        f"<b>vario: {said(words.headline(run, diagnosis))}</b><br>"
        f'<small style="opacity:.7">{said(facts.title(run))} · {steps:,} steps ·'
        f" {said(facts.ending(run))}</small>"
        f"{'<ul>' + ''.join(rows) + '</ul>' if rows else ''}{page.still(loss) if loss else ''}</div>"
        "<details><summary>All charts</summary>"
        f'<iframe title="vario report" style="width:100%;height:720px;border:0" srcdoc="{whole}"></iframe>'
        "</details>"
    )


def _charts() -> str:
    return _static("uplot/quiet.js").replace("/* uPlot */", _static("uplot/uPlot.iife.min.js"))


def script() -> str:
    """The modules of ``static/`` as one script: each in a function of its own that returns its exports."""
    return "\n".join(_enclosed(name) for name in MODULES)


def _enclosed(name: str) -> str:
    text = re.sub(r'^import (\{[^}]*\}) from "\./(\w+)\.js";', r"const \1 = $\2;", _static(name), flags=re.M)
    exports = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", text, flags=re.M)
    text = re.sub(r"^export ", "", text, flags=re.M)
    return f"const ${Path(name).stem} = (() => {{\n{text}return {{ {', '.join(exports)} }};\n}})();"


class _Page:
    """The charts of a page as they are asked for, with the curves they need."""

    def __init__(self, run: Run, diagnosis: Diagnosis) -> None:
        self.run = run
        self.all = [r for r in run.records() if "@" not in r.stream] or run.records()
        self.records = _chosen(self.all, diagnosis)
        self.noisy = {finding.stream for finding in diagnosis.findings if finding.id == "label-noise"}
        self.curves = Curves()
        self.charts: list[dict[str, Any]] = []

    def findings(self, diagnosis: Diagnosis, cures: Mapping[Finding, Sequence[Prescription]]) -> str:
        cards = []
        for cause, elsewhere in words.told_once(diagnosis.findings):
            beneath = words.explained(cause, diagnosis.findings)
            names = ", ".join(said(words.title(item.id).lower()) for item in beneath)
            folds = self._fold(f"Explains {len(beneath)}: {names}", beneath, cures)
            others = [one for item in elsewhere for one in (item, *words.explained(item, diagnosis.findings))]
            folds += self._fold(said(words.same_elsewhere(elsewhere), longest=600), others, cures)
            cards.append(self._card(cause, cures, beneath=folds))
        told = "".join(cards) + finding_html.checks(diagnosis)
        return f'<section id="findings"><h2>Findings</h2>{told}</section>'

    def _fold(
        self, title: str, findings: Sequence[Finding], cures: Mapping[Finding, Sequence[Prescription]]
    ) -> str:
        """Findings that are told in the second place, as small cards in a fold; "" where there are none."""
        cards = "".join(self._card(item, cures, small=True) for item in findings)
        return f'<details class="symptoms"><summary>{title}</summary>{cards}</details>' if cards else ""

    def section(self, name: str) -> str:
        """The tables and figures of a section, "" where the record has nothing for it."""
        shown = [
            chart for chart in charts.course(self.records) if chart.section == name and not _is_still(chart)
        ]
        if name == "more":
            shown = list(charts.rest(self.records))
        grid = "".join(self._figure(chart, still=name == "loss" and i == 0) for i, chart in enumerate(shown))
        figures = f'<div class="grid">{grid}</div>' if grid else ""
        if name == "more" and figures:
            summary = f"<summary>{len(shown)} more series of the whole model</summary>"
            return f"<details>{summary}{figures}</details>"
        return figures + self._tables(name)

    def layers(self) -> str:
        return (
            '<p class="hint">A colour holds until the next reading; the ticks below a map are its readings.'
            " Choose a row to look at its layer.</p>"
            '<div id="layer-maps"><noscript><p>The heat maps need'
            " JavaScript; the table has their last column."
            '</p></noscript></div><details class="table"><summary>Every layer in numbers (last measured'
            " values)"
            f"</summary>{tables.layer_table(self.records)}</details>"
        )

    def still(self, chart: Chart) -> str:
        """The chart as an unmoving picture."""
        drawn = []
        for line in chart.lines:
            steps, low, mean, high = line.record.overview(line.name, line.where, bins=STILL_BINS)
            parts = [v[:, line.column] if v.ndim == 2 else v for v in (low, mean, high)]
            drawn.append((line.label, steps, parts[0], parts[1], parts[2]))
        return svg.curve(drawn, chart.title, limits=[limit for limit, _ in chart.limits])

    def _tables(self, name: str) -> str:
        if name == "data":
            return "".join(dict.fromkeys(tables.data(record) for record in self.records))
        if name == "examples":
            return tables.examples(self.records, self.noisy)
        if name == "settings":
            return tables.settings(self.run, self.records) + tables.modules(self.records)
        return tables.cost(self.run, self.records) if name == "cost" else ""

    def _card(
        self,
        finding: Finding,
        cures: Mapping[Finding, Sequence[Prescription]],
        *,
        beneath: str = "",
        small: bool = False,
    ) -> str:
        record = self._record_of(finding)
        shown = (
            charts.finding_charts(finding, record, words.card_of(finding.id), most=1 if small else 2)
            if record
            else []
        )
        figures = "".join(self._figure(chart, still=True) for chart in shown)
        several = len(self.all) > 1
        return finding_html.finding_card(
            finding, cures.get(finding, ()), figures, beneath, stream=several, small=small
        )

    def _record_of(self, finding: Finding) -> Record | None:
        own = (record for record in self.all if _model(record.stream) == _model(finding.stream))
        return next(own, self.all[0] if self.all else None)

    def left_out(self) -> str:
        """That a search of sixty models is not shown whole; "" where all is."""
        if len(self.records) == len(self.all):
            return ""
        return (
            f'<p class="hint">Below are {len(self.records)} of {len(self.all)} models, those of the first'
            f" findings before others. <code>vario export {said(facts.run_name(self.run))}</code> gives the"
            " numbers of all.</p>"
        )

    def _figure(self, chart: Chart, *, still: bool) -> str:
        lines = []
        for line in chart.lines:
            number = self.curves.add(line.record, line.name, line.where, column=line.column)
            if number >= 0:
                lines.append({"label": line.label, "curve": number})
        self.charts.append(
            {
                "title": chart.title,
                "lines": lines,
                "limits": [{"value": value, "label": label} for value, label in chart.limits],
                "span": list(chart.span) if chart.span else None,
                "unit": chart.unit,
            }
        )
        inside = self.still(chart) if still else ""
        return (
            f'<figure class="chart" data-chart="{len(self.charts) - 1}" data-testid="chart">'
            f"<figcaption>{said(chart.title)}</figcaption><div class='plot'>{inside}</div></figure>"
        )


def _chosen(records: list[Record], diagnosis: Diagnosis) -> list[Record]:
    """As many as can be told apart; those with findings before others, in their old order."""
    if len(records) <= charts.MOST_INKS:
        return records
    sick = [finding.stream for finding in diagnosis.findings]
    first = [next((r for r in records if _model(r.stream) == _model(name)), records[0]) for name in sick]
    kept = list(dict.fromkeys(record.stream for record in first + records))[: charts.MOST_INKS]
    return [record for record in records if record.stream in kept]


def _model(stream: str) -> str:
    """A stream's name without its rank."""
    return stream.partition("@")[0]


def _is_still(chart: Chart) -> bool:
    """Whether a chart has nothing to show: a setting that never changed, or a share that stayed 0."""
    values = [line.record.series(line.name, line.where)[1] for line in chart.lines]
    if all(line.name.startswith("hyper/") for line in chart.lines):
        return all((row == row[0]).all() for row in values)
    return chart.section == "examples" and all((row == 0).all() for row in values)


def _verdict(run: Run, diagnosis: Diagnosis) -> str:
    """The first screen: what is the matter, and with which run."""
    steps = facts.steps_seen(run)
    state = _state(run, diagnosis, steps)
    spent, wall = facts.cost(run), facts.wall_seconds(run)
    told = [
        ("run", said(facts.run_name(run))),
        ("steps", f"{steps:,}"),
        ("ended", said(facts.ending(run), longest=240)),
        *([("took", words.duration(wall))] if math.isfinite(wall) else []),
        *([("vario took", str(spent))] if math.isfinite(spent.share) else []),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in told)
    return (
        f'<header class="verdict {state}">{svg.dial(state)}<div><h1>'
        f"{said(words.headline(run, diagnosis))}</h1>"
        f"<p class='cmd'><code>{said(facts.title(run), longest=600)}</code></p><dl>{listed}</dl></div>"
        "</header>"
    )


def _state(run: Run, diagnosis: Diagnosis, steps: int) -> str:
    """Where the dial points: to the gravest finding; a run that failed is not well."""
    if run.status in ("failed", "killed"):
        return "error"
    if not steps or not diagnosis.checked:
        return "unknown"
    return diagnosis.findings[0].severity if diagnosis.findings else "well"


def _inline(data: Any) -> str:
    """JSON that can stand inside a script element: no ``<`` is left that could end it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _version() -> str:
    from vario import __version__

    return __version__
