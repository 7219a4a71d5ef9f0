"""Test that a trial can be kept and opened again."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from tests.report.trial_sample import sample
from vario.nouns import VarioError, Verdict
from vario.report.trial_text import trial_text
from vario.trials.result import find_trial, open_trial


def test_what_was_kept_is_what_is_opened(tmp_path: Path) -> None:
    nothing = Verdict("SGD:lr=0.1", "undecided", (math.nan, -math.inf, math.inf), 1.0, 0.5, 0, 9, math.nan)
    trial = dataclasses.replace(sample(), path=tmp_path, verdicts=(sample()[0], nothing))
    trial.save()
    again = open_trial(tmp_path)
    assert trial_text(again) == trial_text(trial)
    assert again.verdicts[0] == trial.verdicts[0] and math.isnan(again[1].difference[0])
    assert again[1].difference[1:] == (-math.inf, math.inf)
    assert [list(map(tuple, c)) for c in again.arms[0].curves.values()] == [
        list(map(tuple, c)) for c in trial.arms[0].curves.values()
    ]
    assert len(again) == 2 and list(again) == list(again.verdicts) and again.arm("AdamW").name == "AdamW"


def test_a_trial_that_cannot_be_kept_is_said_and_stands(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    dataclasses.replace(sample(), path=tmp_path / "file").save()
    assert "the trial cannot be kept in " in capfd.readouterr().err


def test_a_trial_is_found_by_a_path_a_prefix_or_as_the_last(tmp_path: Path) -> None:
    with pytest.raises(VarioError, match="there are no trials"):
        find_trial("last", tmp_path)
    for name in ("2026-a", "2026-b"):
        place = tmp_path / "trials" / name
        place.mkdir(parents=True)
        dataclasses.replace(sample(), path=place).save()
    assert find_trial("2026-b", tmp_path).name == "2026-b"
    assert find_trial("last", tmp_path).name == "2026-b"
    assert find_trial(str(tmp_path / "trials/2026-a"), tmp_path).name == "2026-a"
    with pytest.raises(VarioError, match="the start of several"):
        find_trial("2026", tmp_path)
    with pytest.raises(VarioError, match="is no trial"):
        find_trial("heron", tmp_path)
    (tmp_path / "trials/2026-a/trial.json").write_text("{")
    with pytest.raises(VarioError, match="cannot be read"):
        open_trial(tmp_path / "trials/2026-a")
