"""Test ``vario.problems.least_squares``, and with it the noise scale that is measured."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from vario.capture.graph import bottom_up
from vario.capture.moment import Moment
from vario.capture.per_example.parts import GradientParts, PartListener
from vario.capture.per_example.probe import Probe
from vario.instruments.gradient_noise import GradientNoise
from vario.instruments.gradient_parts import GradientParts as PartsNoise
from vario.problems.least_squares import LeastSquares
from vario.record import record_of
from vario.rules._noise import noise_scale


def readings(problem: LeastSquares, batch: int, picked: int, seed: int) -> tuple[float, float]:
    """Signal and noise of one probe of a real backward."""
    model, draw = problem.model(), torch.Generator().manual_seed(seed)
    x, y = problem.batch(batch, draw)
    loss = problem.loss(model(x), y)
    probe = Probe(loss, {id(model.weight): "weight"}, examples=batch, picked=range(picked))
    loss.backward()
    return _of(GradientNoise(), example_gradients=probe.close())


def test_the_truth_is_that_of_drawn_gradients() -> None:
    problem = LeastSquares()
    x, y = problem.batch(500_000, torch.Generator().manual_seed(0))
    gradients = (x.sum(dim=1, keepdim=True) - y) * x
    noise = float(gradients.var(dim=0).sum())
    assert noise == pytest.approx(problem.truth["noise"], rel=0.01)
    assert noise / float(gradients.mean(dim=0).square().sum()) == pytest.approx(
        problem.truth["noise_scale"], rel=0.02
    )


@pytest.mark.parametrize("picked", [1000, 125])
def test_two_hundred_probes_are_within_three_percent(picked: int) -> None:
    problem = LeastSquares()
    seen = np.array([readings(problem, 1000, picked, seed) for seed in range(200)])
    signal, noise = seen.mean(axis=0)
    assert noise / signal == pytest.approx(problem.truth["noise_scale"], rel=0.03)


def test_intervals_cover_the_exact_value_as_often_as_they_say() -> None:
    """200 runs of 200 readings, batch 64: gradients are drawn in numpy, the interval is that of the rules."""
    problem, rng, batch, covered = LeastSquares(), np.random.default_rng(0), 64, 0
    lam = problem.eigenvalues
    for _ in range(200):
        x = rng.standard_normal((200, batch, problem.dimension), dtype=np.float32) * np.sqrt(lam)
        miss = x.sum(axis=2) - problem.noise**0.5 * rng.standard_normal((200, batch))
        small = (miss**2 * (x**2).sum(axis=2)).mean(axis=1)
        big = (np.einsum("rb,rbd->rd", miss, x) ** 2).sum(axis=1) / batch**2
        steps = np.arange(200)
        record = record_of(
            {
                "gradient_noise/signal": (steps, (batch * big - small) / (batch - 1)),
                "gradient_noise/noise": (steps, (small - big) * batch / (batch - 1)),
                "batch/size": (steps, np.full(200, batch)),
            }
        )
        scale = noise_scale(record).scale
        covered += scale.low <= problem.truth["noise_scale"] <= scale.high
    assert 0.90 <= covered / 200 <= 0.98


def test_four_routes_agree_within_their_intervals_on_one_run() -> None:
    """All examples, an eighth of them, four micro-batches, and two ranks before their mean."""
    problem, size, steps = LeastSquares(), 64, 100
    model, draw = problem.model(), torch.Generator().manual_seed(3)
    names = {id(model.weight): "weight"}
    seen: dict[str, list[tuple[float, float]]] = {route: [] for route in ("all", "eighth", "micro", "ranks")}

    def parts(pieces: int, *, averaged: int, heard: int) -> list[GradientParts]:
        """What is heard of a step of so many pieces; on each rank, where they are averaged."""
        model.zero_grad()
        squares = []
        for a, b in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
            loss = problem.loss(model(a), b) * averaged / pieces
            listener = PartListener(bottom_up([loss.grad_fn]), names)
            loss.backward()  # adds up
            squares.append(listener.close())
        assert model.weight.grad is not None
        whole = {"weight": (model.weight.grad / averaged).square().sum()}
        each = [squares[k : k + heard] for k in range(0, pieces, heard)]
        return [GradientParts(size // pieces, pieces, averaged, some, whole) for some in each]

    for _ in range(steps):
        x, y = problem.batch(size, draw)
        for route, count in (("all", size), ("eighth", size // 8)):
            loss = problem.loss(model(x), y)
            probe = Probe(loss, names, examples=size, picked=range(count))
            loss.backward()
            seen[route].append(_of(GradientNoise(), example_gradients=probe.close()))
        seen["micro"].append(_of(PartsNoise(), gradient_parts=parts(4, averaged=1, heard=4)[0]))
        ranks = [_of(PartsNoise(), gradient_parts=one) for one in parts(2, averaged=2, heard=1)]
        seen["ranks"].append(tuple(np.mean(ranks, axis=0)))
    at, intervals = np.arange(steps), {}
    for route, pairs in seen.items():
        signal, noise = np.array(pairs).T
        for values, name in ((signal, "signal"), (noise, "noise")):
            error = values.std(ddof=1) / steps**0.5
            assert abs(values.mean() - problem.truth[name]) < 4 * error, (route, name)
        told = {"gradient_noise/signal": (at, signal), "gradient_noise/noise": (at, noise)}
        record = record_of({**told, "batch/size": (at, np.full(steps, size))})
        intervals[route] = noise_scale(record).scale
    for one, other in itertools.combinations(intervals.values(), 2):
        assert one.low < other.high and other.low < one.high
    assert len({scale.value for scale in intervals.values()}) == 4  # they are four


def _of(instrument: Any, **offer: Any) -> tuple[float, float]:
    moment = Moment("model", 0, offer)
    found = {r.series: r.value for r in instrument.read(moment.declared(instrument.needs)) if not r.where}
    kind = "gradient_noise" if "gradient_noise/signal" in found else "gradient_parts"
    return float(found[f"{kind}/signal"]), float(found[f"{kind}/noise"])
