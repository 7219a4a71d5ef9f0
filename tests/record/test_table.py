"""Test ``vario.record.table``: runs as rows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from vario.nouns import Reading, VarioError
from vario.record.runs import create_run
from vario.record.store import RecordWriter
from vario.record.table import COLUMNS, runs_table


def write(
    home: Path, *, width: int, steps: int = 100, code: int = 0, evaluated: bool = True, classes: int = 0
) -> Path:
    path = create_run(home, command=["train.py", str(width), "--lr=0.1", "--data", "web", "--width", "8"])
    writer = RecordWriter(path)
    with closing(writer):
        shapes = [[width, 3], [width]]
        rows = [{"name": f"p{i}", "shape": s, "in_optimizer": i == 0} for i, s in enumerate(shapes)]
        writer.event("model", 0, "parameters", data={"parameters": rows})
        for step in range(steps):
            found = [
                Reading("loss/train", 1.0 if step < 95 else 0.25),
                Reading("time/step", 0.5),
                Reading("hyper/lr", 0.1 * (step + 1) / steps, "group 0"),
            ]
            found += [Reading("batch/targets", 64.0), Reading("batch/size", 8.0)] if step % 10 == 0 else []
            found += [Reading("batch/class_counts", [1.0] * classes)] if classes and step % 10 == 0 else []
            found += [Reading("eval/examples", 500.0, "loader 1")] if evaluated and step % 20 == 9 else []
            found += (
                [Reading("eval/loss", 2.0 - step / 100, "loader 1")] if evaluated and step % 20 == 9 else []
            )
            writer.readings("model", step, found)
        writer.event("", -1, "exit", data={"code": code, "signal": 0})
    return path


def test_a_row_says_what_a_run_was_and_what_it_reached(tmp_path: Path) -> None:
    write(tmp_path, width=4)
    write(tmp_path, width=8, evaluated=False)
    table, left_out = runs_table([tmp_path])
    assert set(table) == set(COLUMNS) and not left_out
    assert sorted(table["params"]) == [16.0, 32.0] and sorted(table["trained"]) == [12.0, 24.0]
    assert list(table["tokens"]) == [6400.0, 6400.0] and list(table["seconds"]) == [50.0, 50.0]
    assert table["lr"] == pytest.approx([0.1, 0.1])
    of = dict(zip(table["params"], table["loss"], strict=True))
    assert of == pytest.approx({16.0: 2.0 - 0.89, 32.0: 0.25})
    seen = dict(zip(table["params"], table["eval_examples"], strict=True))
    assert seen[16.0] == 500.0 and np.isnan(seen[32.0])
    assert set(table["script"]) == {"train.py --data web"}


def test_what_the_loss_chooses_among_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a", width=4)
    write(tmp_path / "b", width=4, classes=7)
    assert np.isnan(runs_table([tmp_path / "a"])[0]["classes"][0])
    assert runs_table([tmp_path / "b"])[0]["classes"][0] == 7.0


def test_tables_of_embeddings_are_counted_once_under_whatever_name(tmp_path: Path) -> None:
    """A tied table goes by its first name, which may be the head's, or that of another table."""
    modules = [
        {"name": "head", "class": "Linear", "in_features": 4, "out_features": 9},
        {"name": "tok", "class": "Embedding", "num_embeddings": 9, "embedding_dim": 4},
        {"name": "decoder.tok", "class": "Embedding", "num_embeddings": 9, "embedding_dim": 4},
        {"name": "place", "class": "Embedding", "num_embeddings": 5, "embedding_dim": 4},
    ]
    for first in ("head.weight", "tok.weight"):
        path = write(tmp_path / first / ".vario", width=4)
        writer = RecordWriter(path)
        shapes = {first: [9, 4], "place.weight": [5, 4], "body.weight": [4, 4]}
        rows = [{"name": name, "shape": shape} for name, shape in shapes.items()]
        with closing(writer):
            writer.event("model", 0, "parameters", data={"parameters": rows})
            writer.event("model", 0, "modules", data={"modules": modules})
        table, _ = runs_table([tmp_path / first])  # a project's directory: its records lie in .vario
        assert (table["params"][0], table["embedding"][0]) == (72.0, 56.0)
        assert table["classes"][0] == 9.0
    write(tmp_path / "none", width=4)
    assert runs_table([tmp_path / "none"])[0]["embedding"][0] == 0.0


def test_what_crashed_is_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path, width=4)
    crashed = write(tmp_path, width=8, code=1)
    table, left_out = runs_table([tmp_path])
    assert len(table["run"]) == 1 and left_out == {crashed.name: "it failed"}


def test_a_directory_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(VarioError, match="no finished run"):
        runs_table([tmp_path])
    write(tmp_path, width=4, code=1)
    with pytest.raises(VarioError, match="it failed"):
        runs_table([tmp_path])
