"""Test `vario.running` and `vario.cli`: exit codes and streams kept, the contract of findings, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vario.nouns import VarioError
from vario.running import overhead_share

VARIO = Path(sys.executable).with_name("vario")
TRAIN = """
import sys, torch
torch.manual_seed(0)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(torch.randn(16, 4)), torch.randint(0, 2, (16,)))
    loss.backward()
    optimizer.step()
print(f"{loss.item():.6f} {sys.stdin.read().strip()}")
sys.exit(3)
"""


def vario(*arguments: str, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VARIO_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [str(VARIO), *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, env=environment, cwd=home.parent
    )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    place = tmp_path_factory.mktemp("place")
    (place / "train.py").write_text(TRAIN)
    home = place / "runs"
    return home, vario("run", "train.py", home=home, stdin="hello")


def test_the_command_keeps_its_exit_code_and_streams(watched) -> None:
    home, done = watched
    bare = subprocess.run(
        [sys.executable, "train.py"],
        input="hello",
        capture_output=True,
        text=True,
        check=False,
        cwd=home.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (bare.returncode, bare.stdout) and done.returncode == 3
    first, *_, last = done.stderr.splitlines()
    assert first.startswith("vario: watching train.py as ") and "vario took" in last


def test_findings_as_json_keep_the_contract(watched) -> None:
    home, _ = watched
    done = vario("findings", "--json", home=home)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said) == {"run", "findings", "checked", "not_applicable"}
    assert len(said["checked"]) + len(said["not_applicable"]) == 50
    assert all(set(row) == {"id", "reason"} for row in said["not_applicable"])


def test_a_recorded_run_is_listed_reported_and_exported(watched) -> None:
    home, _ = watched
    (row,) = json.loads(vario("runs", "--json", home=home).stdout)
    assert row["steps"] == 12 and row["status"] == "failed"
    page = vario("report", row["id"][:16], "-o", "page.html", home=home)
    assert page.returncode == 0 and "<html" in (home.parent / "page.html").read_text()
    out = home.parent / "series.csv"
    assert vario("export", "last", "--to", "csv", "-o", str(out), home=home).returncode == 0
    assert "loss/train" in out.read_text()


def test_a_home_that_cannot_be_made_costs_the_record_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "file").write_text("")
    done = vario("run", "train.py", home=tmp_path / "file")
    assert done.returncode == 3 and done.stdout
    assert done.stderr.startswith("vario: not watching: ") and "VARIO_HOME" in done.stderr


def test_a_stream_that_the_shell_has_closed_is_closed_for_the_command(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys; print(1); sys.exit(4 if sys.stdout is None else 5)")
    for stream in ("1", "1>&- 2"):
        command = f"{sys.executable} {VARIO} run train.py {stream}>&-"
        environment = os.environ | {"VARIO_HOME": str(tmp_path / "runs")}
        assert subprocess.run(command, shell=True, cwd=tmp_path, env=environment, check=False).returncode == 4


def test_a_mistake_is_one_clear_line(tmp_path: Path) -> None:
    done = vario("findings", "nosuch", home=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("vario: there are no runs in")
    done = vario("run", "--metric", "acc=[", "train.py", home=tmp_path)
    assert done.returncode == 2 and "regular expression" in done.stderr
    assert vario("explain", "overfiting", home=tmp_path).stderr.count("overfitting") == 1


def test_help_and_explain_need_no_torch() -> None:
    for arguments in (["--help"], ["explain", "overfitting"], ["methods", "spikes"], ["papers"]):
        code = (
            f"import sys; sys.argv = ['vario', *{arguments}]\n"
            "from vario.cli import main\n"
            "try: main()\n"
            "except SystemExit as end: code = end.code\n"
            "else: code = 0\n"
            "assert not code and 'torch' not in sys.modules and 'numpy' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize(("text", "share"), [("3%", 0.03), ("3 %", 0.03), ("0.03", 0.03), ("100%", 1.0)])
def test_overhead_is_a_share(text: str, share: float) -> None:
    assert overhead_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["3", "0", "-1%", "abc", "nan", "1.2.3%", ""])
def test_an_overhead_that_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(VarioError, match="write a share"):
        overhead_share(text)
