"""Against the real packages where they are installed: offline, nothing leaves the machine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.sample import sick_run
from vario.nouns import Reading, VarioError
from vario.record import Run, open_run
from vario.record.store import RecordWriter
from vario.report.forward import forward
from vario.rules import diagnose


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sick_run(tmp_path_factory.mktemp("runs") / "sick", steps=60)


def test_what_is_no_open_run_is_refused_with_the_way_out(run: Run) -> None:
    for wrong in (None, 3, "wandb", run):
        with pytest.raises(VarioError, match=r"wandb\.init\(\.\.\.\)"):
            forward(run, wrong)


class _Log:
    """What a run of Weights & Biases was given, read back from the file that it keeps offline."""

    def __init__(self, folder: Path) -> None:
        from wandb.proto import wandb_internal_pb2

        (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, str] = {}
        for data in _records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                self.rows.append({_key(item): json.loads(item.value_json) for item in items})
            if kind == "summary":
                self.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
            if kind == "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric


def _records(raw: bytes) -> Iterator[bytes]:
    """LevelDB's log: blocks of 32 KiB, in them pieces of checksum, length, type (1 whole, 2 to 4 parts)."""
    at, whole = 7, b""  # after the file's own mark
    while at + 7 <= len(raw):
        room = 32_768 - at % 32_768
        if room < 7:
            at += room
            continue
        length, kind = int.from_bytes(raw[at + 4 : at + 6], "little"), raw[at + 6]
        whole += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def test_weights_and_biases(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=str(tmp_path), project="p") as opened:
        opened.log({"own": 1.0})
        done = forward(run, opened)
        opened.log({"own": 2.0})
    wandb.teardown()  # only then is its file whole
    log = _Log(tmp_path)
    steps, values = run.main.series("loss/train")
    seen = [(row["vario/step"], row["vario/loss/train"]) for row in log.rows if "vario/loss/train" in row]
    assert seen == list(zip(steps.tolist(), values.tolist(), strict=True))
    assert [row["own"] for row in log.rows if "own" in row] == [1.0, 2.0]
    assert any("vario/hyper/lr/group 0" in row for row in log.rows)
    assert not any("conv1" in key for row in log.rows for key in row)
    assert log.metrics["vario/*"] == "vario/step"
    key = "vario/gradient/log_histogram/values"
    histograms = [row[key] for row in log.rows if key in row]
    at, counts = run.main.series("gradient/log_histogram")
    assert histograms == counts.tolist() and len(at) == len(histograms) > 0
    found = diagnose(run).findings
    assert done.findings == len(found) > 0
    for finding in found:
        assert log.summary[f"vario/finding/{finding.id}"]
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/vario/*.json")
    assert [row[0] for row in json.loads(table.read_text())["data"]] == [finding.id for finding in found]
    told = sum(len(run.main.series(name)[0]) for name in run.main.names() if "" in run.main.wheres(name))
    assert done.numbers > told and not done.left_out


def test_mlflow(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic", reason="mlflow's own store of a test needs sqlalchemy and alembic")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run() as opened:
        mlflow.log_metric("own", 1.0, step=7)
        done = forward(run, opened, layers=True)
    client = mlflow.MlflowClient()
    for name, where in (("loss/train", ""), ("hyper/lr", "group 0"), ("gradient/norm", "conv1.weight")):
        steps, values = run.main.series(name, where)
        tag = f"vario/{name}/{where}" if where else f"vario/{name}"
        seen = sorted(client.get_metric_history(opened.info.run_id, tag), key=lambda metric: metric.step)
        assert [metric.step for metric in seen] == steps.tolist()
        np.testing.assert_array_equal([metric.value for metric in seen], values)
    assert client.get_metric_history(opened.info.run_id, "own")[0].step == 7
    assert any(name.startswith("gradient/log_histogram") for name in done.left_out)
    tags = client.get_run(opened.info.run_id).data.tags
    found = diagnose(run).findings
    assert {f"vario.finding.{finding.id}" for finding in found} <= set(tags) and found
    told = mlflow.artifacts.load_dict(f"runs:/{opened.info.run_id}/vario/findings.json")
    assert [row["id"] for row in told["findings"]] == [finding.id for finding in found]


def test_a_second_call_hands_on_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic", reason="mlflow's own store of a test needs sqlalchemy and alembic")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    writer = RecordWriter(tmp_path / "run")
    odd = {3: math.nan, 4: math.inf}

    def write(start: int, stop: int) -> None:
        for step in range(start, stop):
            writer.readings("net", step, [Reading("loss/train", odd.get(step, float(step)))])
        writer.flush()

    write(0, 10)
    with mlflow.start_run() as opened, open_run(tmp_path / "run") as run:
        first = forward(run, opened)
        write(10, 25)
        writer.readings("net", 9, [Reading("eval/loss", 1.0, "loader 1")])  # belongs to a step already gone
        writer.flush()
        second = forward(run, opened, since=first)
        third = forward(str(tmp_path / "run"), opened, since=second)
    writer.close()
    assert (first.numbers, second.numbers, third.numbers) == (10, 16, 0)
    client = mlflow.MlflowClient()
    seen = sorted(client.get_metric_history(opened.info.run_id, "vario/loss/train"), key=lambda m: m.step)
    assert [metric.step for metric in seen] == list(range(25))
    assert math.isnan(seen[3].value)
    (late,) = client.get_metric_history(opened.info.run_id, "vario/eval/loss/loader 1")
    assert late.step == 9
