from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vario.nouns import Reading, VarioError
from vario.record.export import export
from vario.record.reader import Run, open_run
from vario.record.store import RecordWriter

HISTOGRAM = np.zeros(64)
HISTOGRAM[[40, 41, 44]] = 3, 5, 2


@pytest.fixture
def run(tmp_path: Path) -> Run:
    writer = RecordWriter(tmp_path / "a run")
    writer.meta("created", 1_000.0)
    for step in range(1_200):
        writer.readings("net", step, [Reading("loss/train", 0.1 * step), Reading("time/step", 0.5)])
    odd = [float("nan"), float("inf"), -0.1]
    writer.readings(
        "net", 1_200, [Reading("h", odd, "fc, 1"), Reading("gradient/log_histogram", HISTOGRAM, "w")]
    )
    writer.readings("net", 1_200, [Reading("wide", np.arange(33.0))])
    writer.readings("netD", 3, [Reading("loss/train", 7.0)])
    writer.close()
    return open_run(tmp_path / "a run")


def rows(table: list[dict], **wanted: object) -> list[dict]:
    return [row for row in table if all(row[key] == value for key, value in wanted.items())]


def test_csv(run: Run, tmp_path: Path) -> None:
    done = export(run, "csv", tmp_path / "new" / "out.csv")
    with done.path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert done.numbers == len(table) == 2_400 + 3 + 64 + 33 + 1
    loss = rows(table, stream="net", series="loss/train", where="", bin="")
    assert [float(row["value"]) for row in loss] == [0.1 * step for step in range(1_200)]
    assert [row["value"] for row in rows(table, where="fc, 1", step="1200")] == ["nan", "inf", "-0.1"]
    assert rows(table, stream="netD")[0]["value"] == "7.0"
    assert export(run, "csv", tmp_path).path == tmp_path / "a run.csv"


def test_parquet(run: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    done = export(run, "parquet", tmp_path / "out.parquet")
    arrow = parquet.read_table(done.path)
    table = arrow.to_pylist()
    assert done.numbers == len(table) == 2_501
    assert [row["value"] for row in rows(table, stream="net", series="loss/train", bin=None)] == [
        0.1 * step for step in range(1_200)
    ]
    wide = rows(table, series="wide")
    assert [(row["bin"], row["value"], row["step"]) for row in wide] == [
        (i, float(i), 1_200) for i in range(33)
    ]
    nan, inf, last = (row["value"] for row in rows(table, where="fc, 1"))
    assert nan != nan and inf == float("inf") and last == -0.1
    assert json.loads(arrow.schema.metadata[b"vario"]) == {"created": 1_000.0}


def test_tensorboard(run: Run, tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = export(run, "tensorboard", tmp_path / "tb")
    assert done.left_out == ("wide of net",)
    everything = {"scalars": 0, "histograms": 0}
    net = accumulators.EventAccumulator(str(done.path / "net"), size_guidance=everything).Reload()
    loss = net.Scalars("loss/train")
    assert [event.step for event in loss] == list(range(1_200))
    np.testing.assert_allclose([event.value for event in loss], 0.1 * np.arange(1_200), rtol=1e-6)
    np.testing.assert_allclose([event.wall_time for event in loss], 1_000.5 + 0.5 * np.arange(1_200))
    assert net.Scalars("h/fc, 1/2")[0].value == pytest.approx(-0.1)
    (event,) = net.Histograms("gradient/log_histogram/w")
    value = event.histogram_value
    assert (event.step, value.num, value.min, value.max) == (1_200, 10, -4.0, -1.5)
    limits = dict(zip(value.bucket_limit, value.bucket, strict=True))
    assert limits[-3.5] == 3 and limits[-3.0] == 5 and limits[-1.5] == 2 and sum(limits.values()) == 10
    assert value.sum == pytest.approx(3 * -3.75 + 5 * -3.25 + 2 * -1.75)
    other = accumulators.EventAccumulator(str(done.path / "netD"), size_guidance=everything).Reload()
    assert [(event.step, event.value) for event in other.Scalars("loss/train")] == [(3, 7.0)]


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [
        ("parquet", "pyarrow", "pyarrow"),
        ("tensorboard", "tensorboard.summary.writer.event_file_writer", "tensorboard"),
    ],
)
def test_a_missing_package_is_named_with_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(VarioError, match=rf"needs {package}: pip install {package}"):
        export(run, kind, tmp_path / "x")  # type: ignore[arg-type]


def test_what_cannot_be_done_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(VarioError, match="no export to 'excel'; choose one of parquet, csv, tensorboard"):
        export(run, "excel")  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(VarioError, match="cannot write the export"):
        export(run, "csv", tmp_path / "file" / "x.csv")
