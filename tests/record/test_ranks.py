"""Test ``vario.record.ranks``: what several ranks read of their own examples is one reading of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vario.record.reader import Event, Record

Array = np.ndarray[Any, Any]
QUANTILES = np.linspace(0, 1, 11)


class Ranks:
    """What each of some streams has written: steps and values by series."""

    def __init__(self, **streams: dict[str, tuple[list[int], Any]]) -> None:
        self.streams = {name.replace("_", "@"): series for name, series in streams.items()}
        self.parameters = {name: ["w"] for name in self.streams}

    def index(self, stream: str) -> dict[str, list[str]]:
        return {name: [""] for name in self.streams[stream]}

    def points(self, stream: str, name: str, where: str) -> tuple[Array, Array]:
        steps, values = self.streams[stream].get(name, ([], []))
        return np.array(steps, np.int64), np.array(values, float)

    def events(self) -> list[Event]:
        return [
            Event("parameters", 0, data={"parameters": [{"name": name} for name in names]}, stream=of)
            for of, names in self.parameters.items()
        ]


def read(source: Any, name: str, stream: str = "model") -> tuple[list[int], Array]:
    steps, values = Record(source, stream).series(name)
    return steps.tolist(), values


def of_norms(*steps: Array) -> dict[str, tuple[list[int], Any]]:
    """What a rank tells of the norms of its examples at these steps, and that two ranks average."""
    at = list(range(len(steps)))
    return {
        "gradient_parts/ranks": (at, [2.0] * len(at)),
        "example_gradients/norm_quantiles": (at, [np.quantile(norms, QUANTILES) for norms in steps]),
        "example_gradients/mean_norm": (at, [norms.mean() for norms in steps]),
        "example_gradients/even": (at, [norms.mean() ** 2 / (norms**2).mean() for norms in steps]),
        "example_gradients/looked_at": (at, [len(norms) for norms in steps]),
        "gradient_noise/noise": (at, [(norms**2).mean() for norms in steps]),
    }


def test_ranks_say_together_what_one_process_says() -> None:
    draw = np.random.default_rng(0)
    a, b = (draw.lognormal(mean, 1.0, (3, 40)) for mean in (0.0, 1.5))
    source = Ranks(model=of_norms(*a), model_1=of_norms(*b))
    both = np.concatenate([a, b], axis=1)
    for stream in ("model", "model@1"):
        steps, noise = read(source, "gradient_noise/noise", stream)
        assert steps == [0, 1, 2]
        np.testing.assert_allclose(noise, (both**2).mean(axis=1))
        np.testing.assert_allclose(
            read(source, "example_gradients/even", stream)[1],
            both.mean(axis=1) ** 2 / (both**2).mean(axis=1),
        )
        assert read(source, "example_gradients/looked_at", stream)[1].tolist() == [80] * 3
        quantiles = read(source, "example_gradients/norm_quantiles", stream)[1]
        assert quantiles[:, 0].tolist() == both.min(axis=1).tolist()
        assert quantiles[:, -1].tolist() == both.max(axis=1).tolist()
        for joint, norms in zip(quantiles, both, strict=True):
            below = [(norms <= level).mean() for level in joint]
            assert np.abs(below - QUANTILES).max() < 0.05  # half of what lies between two deciles


def test_quantiles_of_alike_ranks_are_theirs_and_equal_norms_are_no_trouble() -> None:
    norms = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    source = Ranks(model=of_norms(norms), model_1=of_norms(norms))
    np.testing.assert_allclose(
        read(source, "example_gradients/norm_quantiles")[1][0], np.quantile(norms, QUANTILES)
    )
    flat = Ranks(model=of_norms(np.ones(8)), model_1=of_norms(np.full(8, 3.0)))
    found = read(flat, "example_gradients/norm_quantiles")[1][0]
    assert found.tolist() == [1.0] * 5 + [found[5]] + [3.0] * 5 and 1 <= found[5] <= 3


def test_a_rank_without_a_reading_keeps_nobody_waiting() -> None:
    series = {"gradient_parts/ranks": ([0], [2.0])}
    source = Ranks(
        model=series | {"gradient_noise/signal": ([0, 2, 4], [1.0, 1.0, 1.0])},
        model_1=series | {"gradient_noise/signal": ([2, 3], [3.0, 5.0])},  # lost after 3
    )
    steps, values = read(source, "gradient_noise/signal")
    assert steps == [0, 2, 3, 4] and values.tolist() == [1.0, 2.0, 5.0, 1.0]
    assert Record(source, "model").last("gradient_noise/signal") == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("why", ["alone", "micro-batches", "another model"])
def test_what_is_not_averaged_over_ranks_is_not_joined(why: str) -> None:
    ranks = {} if why == "alone" else {"gradient_parts/ranks": ([0], [1.0 if "micro" in why else 2.0])}
    source = Ranks(
        model=ranks | {"gradient_noise/noise": ([0], [1.0])},
        model_1=ranks | {"gradient_noise/noise": ([0], [3.0])},
    )
    if why == "another model":
        source.parameters["model@1"] = ["v"]
    assert read(source, "gradient_noise/noise")[1].tolist() == [1.0]
    assert read(source, "gradient_noise/noise", "model@1")[1].tolist() == [3.0]
