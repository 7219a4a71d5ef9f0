"""A healthy run as a Record, and a way to make it ill: tests change only what the illness changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from vario.nouns import Finding
from vario.record import Event, Record, record_of
from vario.report.words import UNMEASURED, card_of, summary

Change = Any  # None removes the series; an array replaces its values; a function makes them from the old ones
LAYERS = ("layers.0", "layers.2", "layers.4", "layers.6", "layers.8")
SHAPES = {name: (64, 64) for name in LAYERS[:-1]} | {LAYERS[-1]: (10, 64)}


class MakeRecord:
    """``make(steps, changes, ...)``: a classifier with five layers that learns, and what is changed of it."""

    def __call__(
        self,
        steps: int = 400,
        changes: Mapping[str | tuple[str, str], Change] | None = None,
        *,
        at: Sequence[int] | None = None,
        seed: int = 0,
        optimizer: str = "SGD",
        parameters: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda rows: rows,
        events: Sequence[Event] = (),
        stream: str = "model",
    ) -> Record:
        when = np.arange(steps) if at is None else np.asarray(at, np.int64)
        series = _healthy(when, np.random.default_rng(seed))
        for key, change in (changes or {}).items():
            name = (key, "") if isinstance(key, str) else key
            if change is None:
                series.pop(name, None)
            elif callable(change):
                series[name] = change(*series[name])
            elif isinstance(change, tuple):
                series[name] = change
            else:
                series[name] = (when, np.broadcast_to(np.asarray(change, float), (len(when),)).copy())
        return record_of(series, events=[*_events(optimizer, parameters), *events], stream=stream)


def _healthy(
    when: np.ndarray, draw: np.random.Generator
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Loss falls from ln 10 to 0.2 with the noise of a batch; gradients fall with it; updates are small."""
    n, part = len(when), when / max(float(when.max(initial=0)), 1.0)
    noise = lambda scale: np.exp(scale * draw.standard_normal(n))  # noqa: E731
    loss = 0.2 + 2.1 * np.exp(-6 * part)
    size = 0.5 + loss
    series = {
        ("loss/train", ""): (when, loss * noise(0.1)),
        ("loss/backwards", ""): (when, np.ones(n)),
        ("gradient/norm", ""): (when, size * noise(0.2)),
        ("gradient/cosine", ""): (when, 0.1 * draw.standard_normal(n)),
        ("gradient/carried", ""): (when, np.zeros(n)),
        ("weight/norm", ""): (when, 10 + part),
        ("update/ratio", ""): (when, 3e-3 * noise(0.2)),
        ("update/norm", ""): (when, 3e-2 * noise(0.2)),
        ("batch/size", ""): (when, np.full(n, 64.0)),
        ("batch/class_counts", ""): (when, draw.multinomial(64, np.full(10, 0.1), size=n).astype(float)),
        ("hyper/lr", "group 0"): (when, np.full(n, 0.1)),
        ("hyper/weight_decay", "group 0"): (when, np.zeros(n)),
    }
    for depth, layer in enumerate(LAYERS):
        series["gradient/norm", f"{layer}.weight"] = (when, size * (0.3 + 0.1 * depth) * noise(0.2))
        series["gradient/norm", f"{layer}.bias"] = (when, 0.1 * size * noise(0.2))
        series["update/norm", f"{layer}.weight"] = (when, 1e-2 * noise(0.2))
    return series


def _events(optimizer: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> list[Event]:
    rows: list[dict[str, Any]] = []
    for layer in LAYERS:
        for name, shape in (("weight", SHAPES[layer]), ("bias", SHAPES[layer][:1])):
            rows.append(
                {
                    "name": f"{layer}.{name}",
                    "shape": list(shape),
                    "dtype": "torch.float32",
                    "trainable": True,
                    "in_optimizer": True,
                }
            )
    return [
        Event("parameters", 0, "", {"parameters": change(rows)}),
        Event("optimizer", 0, "", {"class": optimizer, "groups": 1}),
    ]


@pytest.fixture(autouse=True)
def _told_in_whole_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a rule finds in these tests, its sentence has all its numbers."""
    made = Finding.__init__

    def told(self: Finding, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        sentence = summary(self, card_of(self.id))
        assert not self.evidence or UNMEASURED not in sentence, (sentence, self.evidence)

    monkeypatch.setattr(Finding, "__init__", told)


@pytest.fixture
def make() -> MakeRecord:
    return MakeRecord()
