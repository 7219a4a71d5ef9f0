"""Test ``vario.capture.shards`` and ``vario.record.shards``: parts of norms add up to those of the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vario
from tests.observed import SCRIPTS
from tests.scripts.sharded import LOST_AT, STEPS, WAYS, make
from vario.capture.entries import log_edges
from vario.capture.shards import REFUSED, read_by_all
from vario.record.reader import Event, Record, Run, open_run
from vario.record.runs import create_run

Array = np.ndarray[Any, Any]
NORMS = ("gradient/norm", "weight/norm", "update/norm", "update/ratio")
MOMENTS = ("gradient/mean", "gradient/std", "gradient/largest", "gradient/zero_share", "weight/std")


def shared(home: Path, world: int, *ways: str) -> Run:
    return run_together(home, "sharded.py", str(world), *ways)


def run_together(home: Path, script: str, *arguments: str) -> Run:
    run = create_run(home, command=[script], meta={})
    command = [sys.executable, str(SCRIPTS / script), str(run), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPTS.parent.parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return open_run(run)


def of_one_process() -> dict[str, dict[str, list[Any]]]:
    """By series and parameter ("" for all), at each step: by plain torch, nothing of ours."""
    model, x, y = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    names = [name for name, _ in model.named_parameters()]
    everything = (*NORMS, *MOMENTS, "gradient/log_histogram")
    found: dict[str, dict[str, list[Any]]] = {name: {n: [] for n in (*names, "")} for name in everything}

    def each(of: Callable[[Array], Any], tensors: list[torch.Tensor]) -> list[Any]:
        flat = [t.numpy().astype(float).ravel() for t in tensors]
        return [of(entries) for entries in (*flat, np.concatenate(flat))]

    def norms(tensors: list[torch.Tensor]) -> np.ndarray[Any, Any]:
        return np.array([float(t.norm()) for t in (*tensors, torch.cat([t.flatten() for t in tensors]))])

    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        gradient = norms(grads)
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        weight = norms([p.detach() for p in model.parameters()])
        moved = norms([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
        rows = [gradient, weight, moved, moved / norms(before)]
        rows += [
            each(of, grads) for of in (np.mean, np.std, lambda g: np.abs(g).max(), lambda g: (g == 0).mean())
        ]
        rows += [each(np.std, [p.detach() for p in model.parameters()]), each(histogram, grads)]
        for series, row in zip(found, rows, strict=True):
            for name, value in zip((*names, ""), row, strict=True):
                found[series][name].append(value)
    return found


def histogram(entries: Array) -> Array:
    return np.histogram(np.abs(entries[entries != 0]), log_edges())[0]


def check(run: Run, world: int, ways: tuple[str, ...]) -> None:
    records = {record.stream: record for record in run.records()}
    truth = of_one_process()
    assert not run.events("switched_off") and not run.damage
    for way in ways:
        for rank in range(world):
            record = records[f"all_{way}@{rank}" if rank else f"all_{way}"]
            wheres = {""} if way == "flat" else set(truth["gradient/norm"])
            for series in (*NORMS, *MOMENTS):
                assert wheres <= set(record.wheres(series))
                for where in wheres:
                    steps, values = record.series(series, where)
                    assert steps.tolist() == list(range(STEPS))
                    np.testing.assert_allclose(values, truth[series][where], rtol=1e-6, atol=1e-12)
                assert record.last(series) == pytest.approx(truth[series][""][-1], rel=1e-6)
            for where in wheres:
                counts = record.series("gradient/log_histogram", where)[1]
                assert np.abs(counts - truth["gradient/log_histogram"][where]).sum() <= 2  # at an edge
                assert counts.sum() == np.sum(truth["gradient/log_histogram"][where])
            assert record.width("gradient/log_histogram") == 64
            assert record.series("gradient/non_finite")[1].tolist() == [0] * STEPS
            assert not any(name.startswith("shard/") for name in record.names())


def of_single_examples() -> list[dict[str, Array]]:
    """At each step, by parameter: the gradients of all examples (examples, entries), by plain torch."""
    model, x, y = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found = []
    for _ in range(STEPS):
        rows: dict[str, list[Array]] = {name: [] for name, _ in model.named_parameters()}
        for k in range(len(x)):
            loss = nn.functional.cross_entropy(model(x[k : k + 1]), y[k : k + 1])
            for name, g in zip(rows, torch.autograd.grad(loss, list(model.parameters())), strict=True):
                rows[name].append(g.flatten().numpy())
        found.append({name: np.array(of) for name, of in rows.items()})
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return found


def noise(rows: Array) -> tuple[float, float]:
    """Signal and noise, without bias."""
    spread = float(rows.var(axis=0, ddof=1).sum())
    return float(np.square(rows.mean(axis=0)).sum()) - spread / len(rows), spread


def check_examples(run: Run, world: int, ways: tuple[str, ...]) -> None:
    """Single examples, and the parts that are the processes', from the second step on."""
    records = {record.stream: record for record in run.records()}
    truth = of_single_examples()[1:]
    whole = [np.concatenate(list(step.values()), axis=1) for step in truth]
    for way in ways:
        record = records[f"single_{way}"]
        if way == "beside_wholes":  # some are not averaged before the step: of its own examples each tells
            own = [noise(step[: len(step) // world])[1] for step in whole]
            np.testing.assert_allclose(record.series("gradient_noise/noise")[1], own, rtol=1e-6)
            assert not len(record.series("gradient_parts/noise")[1])
            continue
        wheres = (
            {"": whole} if way == "flat" else {n: [step[n] for step in truth] for n in truth[0]} | {"": whole}
        )
        for where, rows in wheres.items():
            for name, wanted in zip(("signal", "noise"), zip(*map(noise, rows), strict=True), strict=True):
                steps, values = record.series(f"gradient_noise/{name}", where)
                assert steps.tolist() == [1, 2, 3], (way, where, record.events("example_gradients"))
                np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-8)
        parts = [step.reshape(world, -1, step.shape[1]).mean(axis=1) for step in whole]
        for name, wanted in zip(("signal", "noise"), zip(*map(noise, parts), strict=True), strict=True):
            scale = {"signal": 1, "noise": len(whole[0]) // world}[name]
            values = record.series(f"gradient_parts/{name}")[1]
            np.testing.assert_allclose(values, np.multiply(wanted, scale), rtol=1e-6, atol=1e-8)
        assert record.series("gradient_noise/seen_share")[1] == pytest.approx([1.0] * 3)
        norms = [np.linalg.norm(step, axis=1) for step in whole]
        even = [of.mean() ** 2 / np.square(of).mean() for of in norms]
        np.testing.assert_allclose(record.series("example_gradients/mean_norm")[1], np.mean(norms, axis=1))
        np.testing.assert_allclose(record.series("example_gradients/even")[1], even, rtol=1e-6)
        assert record.series("example_gradients/looked_at")[1].tolist() == [len(whole[0])] * 3
        for event in record.events("example_gradients"):
            assert not event.data["missed"] and event.data["understood"] == event.data["parameters"]


def check_lonely(run: Run, world: int, ways: tuple[str, ...]) -> None:
    """Where rank 0 alone was watched nothing waited for others, and no part was taken for the whole."""
    records = {record.stream: record for record in run.records()}
    for way in set(ways) - {"ddp"}:
        record = records[f"one_{way}"]
        assert record.step_count == STEPS and f"one_{way}@1" not in records
        assert not {*NORMS, *MOMENTS} & set(record.names()) and len(record.series("loss/train")[0]) == STEPS
        assert len(record.series("gradient/norm")[0]) == 0
    for rank in range(world):  # watched by all or by one: the same weights bit for bit
        weights = torch.load(run.path / f"weights{rank}.pt")
        for number in range(0, len(weights), 2 * len(ways)):
            watched, other = (weights[at : at + len(ways)] for at in (number, number + len(ways)))
            for of_all, of_one in zip(watched, other, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(of_all, of_one, strict=True))


def check_lost(run: Run, world: int) -> None:
    """The others end by the word of their own collective, and what all had written is whole."""
    for rank in range(world - 1):
        seconds, _, why = (run.path / f"lost{rank}.txt").read_text().partition(" ")
        assert float(seconds) < 90 and why  # the script itself would have waited for 100
    record = next(record for record in run.records() if record.stream == "lost_shards")
    one = of_one_process()
    for series in (*NORMS, *MOMENTS):
        steps, values = record.series(series)
        assert steps.tolist() == list(range(LOST_AT))
        np.testing.assert_allclose(values, one[series][""][:LOST_AT], rtol=1e-6, atol=1e-12)


def test_two_processes_say_together_what_one_says(tmp_path: Path) -> None:
    with shared(tmp_path, 2, "shards", "views") as run:
        check(run, 2, ("shards", "views"))
        check_examples(run, 2, ("shards", "views"))
        check_lonely(run, 2, ("shards", "views"))
        check_lost(run, 2)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_every_way_to_share_a_model(world: int, tmp_path: Path) -> None:
    ways = WAYS if world == 4 else tuple(way for way in WAYS if way != "hybrid")
    with shared(tmp_path, world, *ways) as run:
        check(run, world, ways)
        check_examples(run, world, ways)
        check_lonely(run, world, ways)
        check_lost(run, world)


@pytest.mark.parametrize("overhead", [0.0, 0.5])
def test_whatever_each_can_afford_all_read_at_the_same_steps(
    overhead: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vario.capture.shards.cuts", lambda params, model: [1] * len(params))
    model, x, y = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with vario.watch(model, optimizer, home=tmp_path, overhead=overhead) as watched:
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert watched.path is not None
    with open_run(watched.path) as run:
        steps = run.main.series("gradient/norm")[0].tolist()
    agreed = [*range(16), *range(16, 32, 2), *range(32, 64, 4), *range(64, 128, 8), 128, 144]
    assert [step for step in range(150) if read_by_all(step)] == agreed
    assert set(agreed) <= set(steps)


@pytest.mark.slow
def test_ranks_of_uneven_means_hear_single_examples_at_the_same_steps(tmp_path: Path) -> None:
    with run_together(tmp_path, "uneven_ranks.py", "400", "0.3", "0.003") as run:
        rich, poor = (
            run._source.points(stream, "example_gradients/looked_at", "")[0].tolist()
            for stream in ("net", "net@1")
        )
    assert min(len(rich), len(poor)) >= 4 and all(map(read_by_all, (*rich, *poor)))
    assert set(poor) & set(rich)  # what was heard at one step is joined


def test_what_no_part_can_tell_is_refused_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vario.capture.shards.cuts", lambda params, model: [1] * len(params))
    model, x, y = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with vario.watch(model, optimizer, home=tmp_path, overhead=1.0) as watched:
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert watched.path is not None
    with open_run(watched.path) as run:
        refused = [event.where for event in run.main.events("refused") if "shards" in event.data["reason"]]
        assert sorted(refused) == sorted(REFUSED)
        assert not {"gradient/cosine", "gradient/carried"} & set(run.main.names())


def test_parts_that_are_not_of_one_model_are_not_added() -> None:
    points = {f"model{at}": {("shard/gradient", ""): 2.0} for at in ("", "@1")}

    class Two:
        """Two processes, the second of which tells of other parameters (as the next stage of a pipeline)."""

        def __init__(self, other: str) -> None:
            self.names = {"model": "a", "model@1": other}

        def index(self, stream: str) -> Any:
            return {name: [where] for name, where in points[stream]}

        def points(self, stream: str, name: str, where: str) -> Any:
            return np.arange(2), np.full(2, points[stream].get((name, where), np.nan))

        def events(self) -> list[Event]:
            return [
                Event("parameters", 0, data={"ranks": 2, "parameters": [{"name": name}]}, stream=of)
                for of, name in self.names.items()
            ]

    alike: Any = Two("a")
    assert Record(alike, "model").series("gradient/norm")[1].tolist() == [2.0, 2.0]
    other: Any = Two("b")
    assert Record(other, "model").names() == ()
    assert len(Record(other, "model").series("gradient/norm")[0]) == 0
