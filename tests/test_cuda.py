"""What holds on the processor holds on a GPU. Skipped where there is none, as in CI."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.engine import loop, ours
from bench.engine_models import MODELS
from tests.batteries import optimizers as battery
from tests.observed import SCRIPTS, Ran
from tests.test_neutral import differences
from tests.test_shelves import METHODS
from vario.instruments import ALL
from vario.record.reader import Record, open_run
from vario.watching import watch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

OPTIMIZERS = [m for m in METHODS if m.shelf == "optimizers" and battery.applies(m)]
RANDOM = {"gradient-noise"}  # draws from the device's own generator
UNLIKE = ("time/", "memory/")  # what differs from machine to machine
ROWS = "data/twice_share"  # rows that lie on a GPU are not looked at: it would have to be waited for


@pytest.mark.parametrize("name", ["fused_scaler", "cuda_training", "cuda_graph", "cuda_compiled"])
def test_a_watched_run_ends_as_the_bare_one(
    name: str, watched: Callable[[str], Ran], bare: Callable[[str], Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    ours_, theirs = watched(name), bare(name)
    assert (ours_.code, theirs.code) == (0, 0), ours_.err + theirs.err
    assert "switched off" not in ours_.err
    assert ours_.run.main.step_count > 0
    assert ours_.out == theirs.out
    assert not list(differences(ours_.state, theirs.state))


def test_losses_are_those_that_the_script_prints(
    watched: Callable[[str], Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    ran = watched("cuda_training")
    lost = len(ran.record.events("skipped_step"))
    printed = ran.printed("loss")
    losses = ran.record.series("loss/train")[1]
    assert len(losses) == len(printed) - lost
    assert np.abs(np.asarray(losses)[:, None] - np.asarray(printed)).min(axis=1).max() < 1e-6
    assert ran.record.series("eval/loss", "loader 1")[1] == pytest.approx(ran.printed("test"), abs=2e-3)


def test_a_captured_graph_is_left_alone_and_told(watched: Callable[[str], Ran]) -> None:
    ran = watched("cuda_graph")
    assert ran.code == 0, ran.err
    assert len(ran.run.events("graph_captured")) == 1
    assert "not seen: steps inside a CUDA graph" in ran.err or "CUDA graph" in _findings(ran.place / "run")
    assert ran.record.series("loss/train")[1] == pytest.approx(ran.printed("loss")[:3], abs=1e-5)


def test_what_is_recorded_is_what_is_recorded_on_the_processor(tmp_path: Path) -> None:
    here, there = (_recorded(device, tmp_path / device) for device in ("cpu", "cuda"))
    series = [
        (name, where) for name in here.names() for where in here.wheres(name) if not name.startswith(UNLIKE)
    ]
    series.remove((ROWS, ""))
    assert len(series) > 100
    assert ROWS not in there.names()
    for name, where in series:
        steps, values = here.series(name, where)
        steps_there, values_there = there.series(name, where)
        assert list(steps) == list(steps_there), (name, where)
        close = pytest.approx(np.asarray(values), rel=1e-5, abs=1e-7)  # single precision within
        assert np.asarray(values_there) == close, (name, where)


def _recorded(device: str, home: Path) -> Record:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 4)).double().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    draw = torch.Generator().manual_seed(1)
    with watch(model, optimizer, home=home, overhead=1.0, instruments=ALL) as run:
        for _ in range(6):
            x = torch.randn(32, 8, generator=draw, dtype=torch.float64).to(device)
            y = torch.randint(0, 4, (32,), generator=draw).to(device)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.path is not None
    opened = open_run(run.path)
    assert not list(opened.events("switched_off")), list(opened.events("switched_off"))
    return opened.main


@pytest.mark.parametrize("name", list(MODELS))
def test_gradients_of_single_examples_are_those_of_a_loop(name: str) -> None:
    was = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.device("cuda"):
            work = MODELS[name]()
            got, true = ours(work, check=True)(), loop(work)()
        assert isinstance(got, Tensor) and isinstance(true, Tensor)
        assert got.cpu().numpy() == pytest.approx(true.cpu().numpy(), rel=2e-3)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = was


def test_a_step_that_is_not_measured_waits_for_nothing(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(512, 256, device="cuda"), torch.randint(0, 10, (512,), device="cuda")
    waited, measured = 0, 0
    torch.cuda.synchronize()
    with watch(model, optimizer, home=tmp_path, overhead=0.01) as run:
        session: Any = run._session
        plan = None
        for _ in range(400):
            plan = plan or next(iter(session._plans.values()), None)
            kind = plan.kind if plan is not None else "probe"
            keeps = plan is not None and plan.next_probe
            measured += kind != "none" or keeps
            torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            torch.cuda.set_sync_debug_mode("default")
            waits = [w for w in told if "synchroniz" in str(w.message)]
            waited += bool(waits)
            assert not waits or kind != "none", (kind, [str(w.message) for w in waits])
    assert 0 < waited <= measured < 400


def test_losses_of_steps_that_are_not_measured_are_those_of_the_script(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    with watch(model, optimizer, home=tmp_path, overhead=0.1) as run:
        for _ in range(600):
            x, y = torch.randn(512, 256, device="cuda"), torch.randint(0, 10, (512,), device="cuda")
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            truth.append(loss.detach().clone())
            optimizer.step()
    assert run.path is not None
    record = open_run(run.path).main
    steps, losses = record.series("loss/train")
    assert len(steps) >= 200 and len(steps) > 1.5 * len(record.series("time/step")[0])
    np.testing.assert_array_equal(losses, np.asarray(torch.stack(truth).tolist())[steps])


def test_a_run_that_fills_the_memory_keeps_what_it_needs(tmp_path: Path) -> None:
    """Weights, gradients and two of Adam's state, and little more: no room for copies of ours."""
    total, each = torch.cuda.mem_get_info()[1], 4096 * 4096 * 4
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 52 * each) / total)
    try:
        for watched in (False, True):
            model = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(12))).cuda()
            optimizer = torch.optim.AdamW(model.parameters(), fused=True)
            torch.cuda.reset_peak_memory_stats()
            with watch(model, optimizer, home=tmp_path, overhead=1.0) if watched else nullcontext() as run:
                for _ in range(12):
                    optimizer.zero_grad(set_to_none=False)
                    model(torch.randn(8, 4096, device="cuda")).square().mean().backward()
                    optimizer.step()
            del model, optimizer
            torch.cuda.empty_cache()
        assert run is not None and run.path is not None
        record = open_run(run.path)
        assert record.main.step_count == 12 and len(record.main.series("gradient/norm")[0]) == 12
        assert (
            not record.events("switched_off")
            and "weights_before" in record.events("no_room")[0].data["left_out"]
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda method: method.id)
def test_an_optimizer_steps_as_on_the_processor(method: Any) -> None:
    if method.card.get("needs"):
        pytest.importorskip(method.card["needs"])
    ends = []
    for device in ("cpu", "cuda"):
        params = [nn.Parameter(p.detach().to(device)) for p in battery.draw(0)]
        optimizer = battery.make(method, params)
        _advance(optimizer, params, device)
        ends.append([p.detach().cpu() for p in params])
    for here, there, start in zip(*ends, battery.draw(0), strict=True):
        assert torch.isfinite(there).all()
        if method.id in RANDOM:
            assert not torch.equal(there, start.detach())
        else:
            torch.testing.assert_close(there, here, rtol=2e-3, atol=2e-4)


def _advance(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], device: str) -> None:
    for step in range(6):
        source = torch.Generator().manual_seed(1000 + step)
        for p in params:
            p.grad = torch.randn(p.shape, generator=source).to(device)
        battery.run_step(optimizer, params)


def test_a_trial_runs_on_the_gpu(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text((SCRIPTS / "cuda_training.py").read_text())
    (tmp_path / "ended.py").write_text((SCRIPTS / "ended.py").read_text())
    command = [sys.executable, "-m", "vario", "trial", str(script), "--set", "optimizer.lr=0.05"]
    command += ["--with", "infobatch", "--seeds", "2", "--budget", "steps", "--home", str(tmp_path / "runs")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=280)
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    assert len(told["verdicts"]) == 2 and all(v["pairs"] == 2 for v in told["verdicts"]), told


def _findings(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vario", "findings", str(path)], capture_output=True, text=True, timeout=100
    )
    return done.stdout + done.stderr
