"""Test what a terminal is told of a trial."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.report.trial_sample import sample
from vario.nouns import Verdict
from vario.report.trial_text import standing, trial_text, verdict_words


def verdict(word: str, difference: tuple[float, float, float] = (1.0, 0.5, 1.5), **more: object) -> Verdict:
    values = {"p": 0.1, "probability": 0.5, "pairs": 5, "more_seeds": 0, "cost": 1.0, **more}
    return Verdict("x", word, difference, **values)  # type: ignore[arg-type]


def test_verdicts_in_words() -> None:
    assert verdict_words(verdict("helps")) == "helps"
    assert verdict_words(verdict("undecided", more_seeds=12)) == "undecided: about 12 more seeds"
    assert verdict_words(verdict("undecided", more_seeds=10_000)) == "undecided: 10,000 more seeds or more"
    assert verdict_words(verdict("undecided", pairs=0)) == "undecided: no pair gave a value"
    assert verdict_words(verdict("equivalent", (0.0, 0.0, 0.0))) == "exactly no difference"
    assert verdict_words(verdict("equivalent"), 0.2) == "no difference larger than 0.2"


def test_an_interval_is_drawn_around_zero() -> None:
    drawn = standing(verdict("undecided", (0.5, -1.0, 2.0)), 2.0)
    assert len(drawn) == 21 and drawn[10] == "|" and drawn.index("o") == 12
    assert drawn[5] == "-" and drawn[20] == "-" and drawn[4] == " "
    open_ = standing(verdict("undecided", (0.5, -math.inf, math.inf)), 2.0)
    assert open_[0] == "-" and open_[20] == "-"
    assert standing(verdict("undecided", (math.nan,) * 3), 2.0).strip() == "|"


def test_the_whole_trial_says_what_a_reader_must_know() -> None:
    text = trial_text(sample())
    for part in (
        "metric: loss, lower is better", "looked at after every pair", "at equal", "examples", "time",
        "AdamW\n    helps", "against the control", "the treated run failed in 1 of",
        "a step takes 1.30 (1.30 to 1.30) times", "looked at once: t -0.", "permutation p", "bootstrap",
        "pairing removed", "tuned alike: 2 settings on 2 seeds that are not judged", "warm-up and compiling",
        "for having been chosen by this metric",
    ):  # fmt: skip
        assert part in text, part


def test_what_is_to_be_borne_in_mind_stands_with_its_verdict() -> None:
    made = replace(sample(), notes=("AdamW: it runs at the script's learning rate", "all runs write"))
    lines = trial_text(made).splitlines()
    verdict_at = lines.index("AdamW")
    assert "    note: it runs at the script's learning rate" in lines[verdict_at : verdict_at + 4]
    assert [line for line in lines if "note: " in line][1:] == ["  note: all runs write"]
