"""Test ``vario.trials.length``: epochs that were started, of an endless pass, and what is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trials.test_measure import recorded
from vario.nouns import Reading, VarioError
from vario.record.reader import open_run
from vario.record.store import RecordWriter
from vario.remedies.treatment import Treatment
from vario.trials.length import filled, length_of
from vario.trials.pairs import Arm, Job
from vario.trials.runner import Outcome


def started(path: Path, epochs: int, *, length: int | None = None) -> Path:
    """40 steps of two micro-batches of 10 examples, in so many epochs."""
    recorded(path).close()
    writer = RecordWriter(path)
    writer.event("model", -1, "loader", "loader 0", {"length": length})
    for epoch in range(epochs):
        writer.event("model", 40 // epochs * epoch - 1, "epoch", "loader 0", {"epoch": epoch})
    writer.close()
    return path


def test_epochs_are_those_that_were_started(tmp_path: Path) -> None:
    with open_run(started(tmp_path, 5, length=160)) as run:
        assert length_of(run) == (40, 5)


def test_epochs_are_told_of_one_model_where_a_batch_trains_several(tmp_path: Path) -> None:
    writer = RecordWriter(started(tmp_path, 5))
    for step in range(41):
        writer.readings("another", step, [Reading("loss/train", 1.0)])
    writer.close()
    with open_run(tmp_path) as run:
        assert run.main.stream == "another" and length_of(run) == (41, 5)


def test_one_pass_without_an_end_is_as_many_epochs_as_the_data_went_by(tmp_path: Path) -> None:
    for name, length, epochs in (("a", 160, 5), ("b", 10_000, 1), ("c", None, 1)):
        with open_run(started(tmp_path / name, 1, length=length)) as run:
            assert length_of(run) == (40, epochs)


def test_what_was_left_open_is_filled_in_and_said(tmp_path: Path) -> None:
    arms = (Arm("baseline", Treatment("baseline"), "baseline"), *(
        Arm(text, Treatment.parse(text)) for text in ("infobatch:ratio=0.3", "AdamW")
    ))  # fmt: skip
    job = Job("baseline", 0, ())
    made = filled(arms, Outcome(job, started(tmp_path, 5), 1.0))
    assert (made[0], made[2]) == (arms[0], arms[2])
    assert made[1].name == "infobatch:ratio=0.3"
    assert dict(made[1].change.methods[0].options) == {"ratio": "0.3", "epochs": "5"}
    assert made[1].note == "epochs=5, as in the baseline's first run"
    with pytest.raises(VarioError, match=r"how many epochs .* \(exit code 1: boom\)\. .*: epochs=N"):
        filled(arms, Outcome(job, tmp_path, 1.0, "exit code 1: boom"))
