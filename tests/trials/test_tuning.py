"""Test the grid that is tried alike on every arm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trials.test_measure import recorded
from vario.nouns import VarioError
from vario.record.store import RecordWriter
from vario.remedies.treatment import Treatment
from vario.trials.pairs import Arm
from vario.trials.tuning import Tuned, needs_the_scripts_own, settings, settled, variants


def test_values_are_combined_and_short_names_meant_as_the_optimizers() -> None:
    made = settings(["lr=0.1,0.3", "loader.batch_size=8,16"], None)
    assert made == [
        f"optimizer.lr={lr}+loader.batch_size={size}" for lr in ("0.1", "0.3") for size in (8, 16)
    ]
    assert settings(["lr=0.1,0.1"], None) == ["optimizer.lr=0.1"]


def test_multiples_are_of_what_the_script_used(tmp_path: Path) -> None:
    recorded(tmp_path).close()
    assert needs_the_scripts_own(["lr=x0.3,x1"]) and not needs_the_scripts_own(["lr=0.3"])
    assert settings(["lr=x0.3,x1,x3"], tmp_path) == [
        "optimizer.lr=0.03",
        "optimizer.lr=0.1",
        "optimizer.lr=0.3",
    ]
    with pytest.raises(VarioError, match="was not recorded; give the values"):
        settings(["momentum=x2"], tmp_path)


def test_the_scripts_own_rate_is_the_one_before_its_schedule_and_the_last_optimizers(tmp_path: Path) -> None:
    recorded(tmp_path).close()
    writer = RecordWriter(tmp_path)
    for lr in (9.0, 0.2):
        group = {"lr": 1e-4, "initial_lr": lr, "weight_decay": 0.04}
        writer.event("model", 0, "optimizer", data={"class": "SGD", "groups": [group]})
    writer.close()
    assert settings(["lr=x0.5", "weight_decay=x2"], tmp_path) == [
        "optimizer.lr=0.1+optimizer.weight_decay=0.08"
    ]


@pytest.mark.parametrize("text", ["lr", "lr=", "=1", "nonsense.lr=1", "lr=abc"])
def test_what_cannot_be_set_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(VarioError):
        settings([text], None)


def test_an_arm_keeps_its_name_and_its_own_settings() -> None:
    arm = Arm("stable-spam", Treatment.parse("stable-spam"))
    base = Arm("baseline", Treatment("baseline"), "baseline")
    (kept,) = variants(arm, ["optimizer.lr=0.3"]).values()
    assert kept.change.settings == (("optimizer.lr", "0.3"),) and kept.change.methods
    tuned = Tuned(
        ("optimizer.lr=0.3",), 2, {"stable-spam": "optimizer.lr=0.3", "baseline": "optimizer.lr=0.3"}
    )
    after = settled([base, arm], tuned)
    assert [a.name for a in after] == ["baseline", "stable-spam"] and after[0].is_baseline
    assert all(a.change.settings == (("optimizer.lr", "0.3"),) for a in after)
