"""Test the page about a trial: complete, safe, and alone."""

from __future__ import annotations

import re
from pathlib import Path

from tests.report.trial_sample import sample
from vario.report.trial_html import trial_page, write_trial


def test_the_page_shows_everything_and_loads_nothing(tmp_path: Path) -> None:
    text = write_trial(sample(), tmp_path / "deep" / "page.html").read_text()
    for title in (
        "Verdicts", "Pairs", "At equal steps, examples and time", "Tuning", "Every pair", "Failed runs"
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in text, title
    assert (
        not re.search(r'(src|href)="(?!#|data:)', text) and "<script" not in text and "url(http" not in text
    )
    assert text.count("<figure>") == 6  # pairs, and the difference over training, of three treatments
    assert "minus baseline over training" in text and "drawn at random" in text


def test_what_comes_from_outside_is_escaped() -> None:
    text = trial_page(sample())
    assert "<b>x</b>" not in text and "&lt;b&gt;x&lt;/b&gt;" in text
