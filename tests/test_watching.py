"""Test ``vario.watching``: watching one model in a loop of one's own, and processes that come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vario
from vario.capture.launch import environment
from vario.nouns import VarioError
from vario.record.reader import open_run


def made(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return net, torch.optim.SGD(net.parameters(), lr=0.1)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 6) -> list[float]:
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(torch.randn(8, 4)), torch.randint(0, 3, (8,)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_watched_block_is_a_run(tmp_path: Path) -> None:
    net, optimizer = made()
    with vario.watch(net, optimizer, home=tmp_path, overhead=1) as run:
        losses = train(net, optimizer)
    assert run.path is not None and run.path.parent == tmp_path
    with open_run(run.path) as opened:
        assert opened.status == "finished"
        assert opened.main.stream == "net"
        assert list(opened.main.series("loss/train")[1]) == pytest.approx(losses)
        assert opened.main.wheres("gradient/norm") == ("0.weight", "0.bias", "2.weight", "2.bias", "")
    assert {finding.id for finding in run.findings().findings} <= set(run.findings().checked)
    assert 'aria-label="Loss"' in run._repr_html_() and "<iframe" in run._repr_html_()
    assert "nothing is watched yet" in vario.watch(net)._repr_html_()
    assert run.report(tmp_path / "report.html").read_text().lstrip().startswith("<!")


def test_only_its_model_is_watched_also_when_nested_and_repeated(tmp_path: Path) -> None:
    (one, by_one), (other, by_other) = made(1), made(2)
    with (
        vario.watch(one, home=tmp_path, overhead=1) as first,
        vario.watch(other, home=tmp_path, overhead=1) as second,
    ):
        train(one, by_one, 4)
        train(other, by_other, 3)
    with vario.watch(one, home=tmp_path, overhead=1) as third:
        train(one, by_one, 5)
    train(one, by_one, 2)
    counted = []
    for run in (first, second, third):
        with open_run(run.path) as opened:
            counted.append([(record.stream, record.step_count) for record in opened.records()])
    assert counted == [[("one", 4)], [("other", 3)], [("one", 5)]]


def test_each_of_several_optimizers_has_taken_all_its_steps(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model[0], model[2])]
    with vario.watch(model, home=tmp_path, overhead=0.001):
        for _ in range(70):
            F.mse_loss(model(torch.randn(8, 4)), torch.zeros(8, 3)).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    with open_run(next(tmp_path.iterdir())) as run:
        assert [record.step_count for record in run.records()] == [70, 70]


def test_findings_can_be_asked_for_inside_the_block(tmp_path: Path) -> None:
    net, optimizer = made()
    run = vario.watch(net, optimizer, home=tmp_path)
    with pytest.raises(VarioError, match="with vario.watch"):
        run.findings()
    with run:
        train(net, optimizer)
        assert run.findings().checked


def test_an_exception_in_the_block_is_the_users_and_is_recorded(tmp_path: Path) -> None:
    net, optimizer = made()
    with pytest.raises(KeyError), vario.watch(net, optimizer, home=tmp_path) as run:
        train(net, optimizer)
        raise KeyError("theirs")
    with open_run(run.path) as opened:
        assert opened.status == "failed"
        assert opened.main.events("exit")[-1].data["error"] == "KeyError: 'theirs'"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_that_train_are_seen_each_with_its_own_stream(tmp_path: Path, method: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(CHILDREN)
    env = environment(tmp_path / "run", overhead=1.0, metrics={})
    done = subprocess.run(
        [sys.executable, str(script), method],
        env={**env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    counted: dict[str, Any] = {r.stream: r.step_count for r in open_run(tmp_path / "run").records()}
    assert sorted(counted) == ["model", "model#2", "model#3"]
    assert sorted(counted.values()) == [4, 5, 5]


CHILDREN = """
import sys
import torch
from torch import multiprocessing, nn


def train(steps):
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


if __name__ == "__main__":
    train(4)
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=train, args=(5,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""
