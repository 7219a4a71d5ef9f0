"""One self-contained page about a trial: verdicts, the curves of the pairs, and what else changed.

It has no scripts: every picture is drawn, and the page asks nothing of any host.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from vario.nouns import Verdict
from vario.remedies.figures import number
from vario.report import svg
from vario.report.trial_text import cost_words, difference_words, removed_words, verdict_words
from vario.report.words import clean, duration
from vario.trials.result import Arms, Trial

__all__ = ["trial_page", "write_trial"]

STYLE = Path(__file__).parent / "static" / "page.css"
OWN = """
.verdicts td, .verdicts th { vertical-align: middle; }
.helps { color: var(--well); } .hurts { color: var(--error); } .equivalent { color: var(--advice); }
.undecided { color: var(--muted); }
.verdicts td:nth-child(n + 4):not(:last-child) { white-space: nowrap; }
.verdicts td:first-child { min-width: 10rem; }
td .forest { display: block; width: 260px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
.charts figure { background: var(--card); border: 1px solid var(--hair); }
.charts figure { border-radius: 12px; padding: 0.9rem 1rem; }
.charts svg { width: 100%; height: auto; }
"""
SHOWN_SEEDS = 8  # curves that one chart can hold
DIALS = {"helps": "none", "hurts": "error", "equivalent": "advice", "undecided": "unknown"}


def write_trial(trial: Trial, out: Path) -> Path:
    """Write the page of a trial to `out`, whole or not at all, and return its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    temporary.write_text(trial_page(trial), encoding="utf-8", errors="replace")
    temporary.replace(out)
    return out


def trial_page(trial: Trial) -> str:
    """The whole page as text."""
    sections = (
        ("verdicts", "Verdicts", _verdicts(trial)),
        ("curves", "Pairs", _charts(trial)),
        ("budgets", "At equal steps, examples and time", _budgets(trial)),
        ("times", "Apart from the budgets", _times(trial)),
        ("findings", "Findings before and after", _findings(trial)),
        ("tuning", "Tuning", _tuning(trial)),
        ("values", "Every pair", _values(trial)),
        ("failures", "Failed runs", _failures(trial)),
        ("notes", "Caution", "".join(f"<p>{_said(note, 600)}</p>" for note in _cautions(trial))),
    )
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, body in sections if body)
    body = "".join(
        f'<section id="{name}"><h2>{title}</h2>{text}</section>' for name, title, text in sections if text
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>Trial of {_said(' '.join(trial.command))} · vario</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}{OWN}</style></head><body>"
        f'<nav aria-label="Sections"><a class="brand" href="#top">vario</a>{links}</nav>'
        f'<main id="top">{_head(trial)}{body}</main>'
        "<footer>Made by vario. This page is complete: it loads nothing from anywhere.</footer></body></html>"
    )


def _head(trial: Trial) -> str:
    best = next((v for word in DIALS for v in trial.verdicts if v.verdict == word), None)
    headline = "no verdict" if best is None else f"{best.treatment}: {verdict_words(best, trial.margin)}"
    better = "higher" if trial.higher_is_better else "lower"
    facts = {
        "metric": f"{trial.metric}, {better} is better ({trial.metric_source})",
        "pairs": f"{trial.pairs} of at most {trial.seeds}, "
        + ("looked at after each" if trial.peeking else "judged once, after the last"),
        "compared at equal": trial.budget,
        "took": duration(trial.seconds) + ("" if trial.finished else ", and was ended early"),
        "trial": trial.id,
    }
    listed = "".join(f"<div><dt>{name}</dt><dd>{_said(text, 300)}</dd></div>" for name, text in facts.items())
    dial = svg.dial(DIALS[best.verdict] if best else "unknown")
    return (
        f'<header class="verdict">{dial}<div><h1>{_said(headline)}</h1>'
        f'<p class="cmd"><code>{_said(" ".join(trial.command), 400)}</code></p>'
        f"<dl>{listed}</dl></div></header>"
    )


def _verdicts(trial: Trial) -> str:
    reach = max(
        (abs(v) for verdict in trial.verdicts for v in verdict.difference if math.isfinite(v)), default=0.0
    )
    rows = []
    for verdict in trial.verdicts:
        arm = trial.arm(verdict.treatment)
        said = [text for text in (arm.note, arm.reason) if text] + trial.notes_on(arm.name)
        note = "".join(f"<br><small>{_said(text, 400)}</small>" for text in said)
        rows.append(
            [
                f"<b>{_said(verdict.treatment)}</b>{note}",
                _word(verdict, trial.margin),
                _forest(verdict, reach, trial.higher_is_better),
                difference_words(verdict),
                f"{verdict.p:.2g}",
                f"{verdict.probability:.2f}",
                str(verdict.pairs),
                f"{cost_words(verdict)} ×" if math.isfinite(verdict.cost) else "—",
                removed_words(arm) or "—",
            ]
        )
    head = (
        "treatment", "verdict", "worse or better", f"difference in {_said(trial.metric)}", "p",
        "probability that it helps", "pairs", "time of a step", "variance removed by pairing",
    )  # fmt: skip
    control = ""
    if trial.against_control:
        control = "<h4>Against the control that was drawn at random</h4>" + _table(
            ("treatment", "verdict", "difference"),
            [
                [_said(v.treatment), _word(v, trial.margin), difference_words(v)]
                for v in trial.against_control
            ],
        )
    return _table(head, rows, "verdicts") + control + _statistics(trial)


def _statistics(trial: Trial) -> str:
    """The other tests of the same pairs, for who wants to know."""
    rows = []
    for arm in trial.arms:
        s = arm.statistics
        if s and math.isfinite(s["t_low"]):
            rows.append(
                [
                    _said(arm.name), f"{s['t_low']:+.4g} to {s['t_high']:+.4g}", f"{s['p_t']:.2g}",
                    f"{s['bootstrap_low']:+.4g} to {s['bootstrap_high']:+.4g}", f"{s['p_permutation']:.2g}",
                    f"{s['p_sign']:.2g}",
                ]
            )  # fmt: skip
    head = ("treatment", "Student's interval", "p", "bootstrap interval", "p by permutation", "p by signs")
    text = "<summary>The same pairs by other tests, each as if looked at once</summary>"
    return f"<details>{text}{_table(head, rows)}</details>" if rows else ""


def _charts(trial: Trial) -> str:
    baseline = trial.arms[0]
    figures = []
    for arm in trial.arms[1:]:
        seeds = [seed for seed in arm.curves if seed in baseline.curves][:SHOWN_SEEDS]
        lines = [
            _line(f"{who.name}, seed {seed}", who.curves[seed]) for seed in seeds for who in (baseline, arm)
        ]
        if lines:
            name = _said(arm.name)
            figures.append(
                _figure(
                    f"{_said(trial.metric)}: baseline and {name}, {len(seeds)} pairs",
                    svg.curve(
                        lines,
                        f"{trial.metric} of the pairs of {arm.name}",
                        colors=svg.COLORS[:2],
                        height=220,
                    ),
                    f'<i style="color:{svg.COLORS[0]}">—</i> baseline '
                    f'<i style="color:{svg.COLORS[1]}">—</i> {name}',
                )
            )
        if arm.difference:
            figures.append(
                _figure(
                    f"{_said(arm.name)} minus baseline over training",
                    _difference(arm),
                    "mean over the pairs, and Student's 95 % interval at each place by itself",
                )
            )
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def _line(name: str, points: Sequence[tuple[float, float]]) -> svg.Curve:
    at, values = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    return name, at, values, values, values


def _difference(arm: Arms) -> str:
    bands = [band for band in arm.difference if math.isfinite(band[1])]
    if not bands:
        return '<p class="nothing">no pair gave a value</p>'
    at, mean, low, high = (np.array(column) for column in zip(*bands, strict=True))
    closed = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(closed, low, mean), np.where(closed, high, mean)
    return svg.curve(
        [("difference", at, low, mean, high)], f"difference of {arm.name}", limits=[0.0], height=220
    )


def _budgets(trial: Trial) -> str:
    if not trial.budgets:
        return ""
    rows = []
    for place, verdict in enumerate(next(iter(trial.budgets.values()))):
        found = [verdicts[place] for verdicts in trial.budgets.values()]
        rows.append(
            [_said(verdict.treatment), *(f"{_word(v, trial.margin)}<br>{difference_words(v)}" for v in found)]
        )
    return _table(("treatment", *(f"equal {name}" for name in trial.budgets)), rows)


def _times(trial: Trial) -> str:
    rows = [
        [
            _said(arm.name), _seconds(arm.start_seconds), _seconds(arm.warmup_seconds),
            _seconds(arm.step_seconds),
            f"{arm.memory_bytes / 2**20:,.0f} MB" if math.isfinite(arm.memory_bytes) else "not known",
        ]
        for arm in trial.arms
        if arm.curves
    ]  # fmt: skip
    return (
        _table(("arm", "outside steps", "warm-up and compiling", "a usual step", "memory"), rows)
        if rows
        else ""
    )


def _findings(trial: Trial) -> str:
    arms = [arm for arm in trial.arms if arm.examined]
    names = list(dict.fromkeys(name for arm in arms for name in arm.findings))
    if not arms:
        return ""
    if not names:
        return f"<p>No finding in the first {arms[0].examined} runs of any arm.</p>"
    rows = [
        [f"<code>{_said(name)}</code>", *(f"{arm.findings.get(name, 0)} of {arm.examined}" for arm in arms)]
        for name in names
    ]
    return _table(("finding, in so many runs", *(_said(arm.name) for arm in arms)), rows)


def _tuning(trial: Trial) -> str:
    if not trial.tuning:
        return ""
    settings = list(trial.tuning["settings"])
    rows = []
    for name, scores in trial.tuning["scores"].items():
        kept = trial.tuning["kept"].get(name)
        cells = [f"<b>{_value(scores.get(s))}</b>" if s == kept else _value(scores.get(s)) for s in settings]
        rows.append([_said(name), *cells])
    many = trial.tuning["seeds"]
    text = f"<p>Every arm was tried alike on {many} seeds that are not judged; bold was kept.</p>"
    return text + _table(("arm", *(_said(setting) for setting in settings)), rows)


def _values(trial: Trial) -> str:
    seeds = list(dict.fromkeys(seed for arm in trial.arms for seed in arm.values))
    rows = [[seed, *(_value(arm.values.get(seed)) for arm in trial.arms)] for seed in seeds]
    return _table(("seed", *(_said(arm.name) for arm in trial.arms)), rows) if rows else ""


def _failures(trial: Trial) -> str:
    rows = [
        [_said(f.arm), str(f.seed), _said(f.reason, 400), f"<code>{_said(f.path, 200)}</code>"]
        for f in trial.failures
    ]
    return _table(("arm", "seed", "reason", "run"), rows) if rows else ""


def _cautions(trial: Trial) -> Iterable[str]:
    if trial.optimism > 0 and len(trial.verdicts) > 1:
        yield (
            f"The best of these {len(trial.verdicts) + 1} arms looks better than it is by about "
            f"{number(trial.optimism)} in {trial.metric}, for having been chosen by it. Judge the winner "
            "once more on data that chose nothing."
        )
    yield from trial.notes


def _forest(verdict: Verdict, reach: float, higher: bool) -> str:
    """The interval on a line whose right side is better."""
    value, low, high = (v * (1 if higher else -1) for v in verdict.difference)
    if not math.isfinite(value) or not reach > 0:
        return ""
    low, high = min(low, high), max(low, high)

    def x(at: float) -> float:
        return 130 + 120 * max(-1.0, min(1.0, at / (1.08 * reach)))

    color = {"helps": "#009e73", "hurts": "#d55e00"}.get(verdict.verdict, "#7f8896")
    return (
        f'<svg class="forest" viewBox="0 0 260 22" role="img" aria-label="{difference_words(verdict)}">'
        '<path d="M130 1V21" stroke="currentColor" opacity=".45"/>'
        f'<path d="M{x(low):.1f} 11H{max(x(high), x(low) + 1):.1f}" stroke="{color}"'
        ' stroke-width="5" opacity=".5"/>'
        f'<circle cx="{x(value):.1f}" cy="11" r="4.5" fill="{color}"/></svg>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _figure(title: str, picture: str, legend: str) -> str:
    return f"<figure><figcaption><b>{title}</b></figcaption>{picture}<small>{legend}</small></figure>"


def _word(verdict: Verdict, margin: float | None) -> str:
    return f'<b class="{verdict.verdict}">{_said(verdict_words(verdict, margin))}</b>'


def _said(text: str, longest: int = 120) -> str:
    return escape(clean(text, longest=longest), quote=True)


def _value(value: float | None) -> str:
    return "—" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _seconds(value: float) -> str:
    return duration(value) if math.isfinite(value) else "not known"
