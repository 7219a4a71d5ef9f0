"""Test the parts of a step: processes that share a model say together what one process says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.observed import SCRIPTS
from tests.scripts.ranks import BATCH, make
from vario.capture.graph import bottom_up
from vario.capture.per_example.parts import GradientParts, PartListener


def start(place: Path, world: int, *more: str) -> None:
    place.mkdir()
    root = str(SCRIPTS.parent.parent)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [sys.executable, str(SCRIPTS / "ranks.py"), str(place), str(world), *more]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def of_one_process(world: int) -> list[tuple[float, float]]:
    """Signal and noise at each step, from the gradients of the ranks' parts of the batch."""
    model, x, y = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for _ in range(3):
        parts = []
        for a, b in zip(x.chunk(world), y.chunk(world), strict=True):
            grads = torch.autograd.grad(
                torch.nn.functional.cross_entropy(model(a), b), list(model.parameters())
            )
            parts.append(torch.cat([g.flatten() for g in grads]))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        small = torch.stack(parts).square().sum(dim=1).mean()
        big = torch.stack(parts).mean(dim=0).square().sum()
        each = BATCH // world
        found.append(
            (
                float((world * big - small) / (world - 1)),
                float((small - big) * each * world / (world - 1)),
            )
        )
    return found


def of_single_examples() -> list[tuple[float, float]]:
    """Signal and noise at each step, from the gradient of every example of the whole batch."""
    model, x, y = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for _ in range(3):
        rows = []
        for k in range(BATCH):
            loss = torch.nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1])
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        noise = float(torch.stack(rows).var(dim=0).sum())
        found.append((float(torch.stack(rows).mean(dim=0).square().sum()) - noise / BATCH, noise))
    return found


@pytest.mark.parametrize(
    "world, more",
    [
        (2, ()),
        pytest.param(4, (), marks=pytest.mark.slow),
        pytest.param(2, ("unused",), marks=pytest.mark.slow),
    ],
)
def test_the_mean_over_ranks_is_what_one_process_computes(
    world: int, more: tuple[str, ...], tmp_path: Path
) -> None:
    """With `unused` outputs pass through a function of DistributedDataParallel's own."""
    start(tmp_path / "heard", world, "listen", *more)
    heard = [json.loads((tmp_path / "heard" / f"heard{rank}.json").read_text()) for rank in range(world)]
    assert all(not one["off"] for one in heard)
    wanted = of_one_process(world)
    for name, place in (("signal", 0), ("noise", 1)):
        series = [dict(one["read"][f"gradient_parts/{name}"]) for one in heard]
        for step in (1, 2):
            mean = sum(one[step] for one in series) / world
            assert mean == pytest.approx(wanted[step][place], rel=1e-6, abs=1e-9)
    assert {value for one in heard for _, value in one["read"]["gradient_parts/count"]} == {world}
    for name, values in zip(("signal", "noise"), zip(*of_single_examples(), strict=True), strict=True):
        series = [dict(one["read"][f"gradient_noise/{name}"]) for one in heard]
        for step in (1, 2):
            mean = sum(one[step] for one in series) / world
            assert mean == pytest.approx(values[step], rel=1e-6, abs=1e-7)


@pytest.mark.slow
def test_ranks_that_are_listened_to_end_bitwise_as_those_that_are_not(tmp_path: Path) -> None:
    start(tmp_path / "heard", 2, "listen")
    start(tmp_path / "bare", 2)
    for rank in range(2):
        a, b = (torch.load(tmp_path / run / f"weights{rank}.pt") for run in ("heard", "bare"))
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_a_part_is_heard_before_it_is_accumulated() -> None:
    model, x, y = make()
    names = {id(p): name for name, p in model.named_parameters()}
    found = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        listener = PartListener(bottom_up([loss.grad_fn]), names)
        loss.backward()
        found.append(listener.close())
    assert set(found[0]) == set(names.values())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_micro_batches_on_several_ranks_estimate_the_mean_of_their_sums() -> None:
    assert (
        GradientParts(8, parts=6, averaged=2).factor == 3
    )  # one of three micro-batches on each of two ranks
