"""What the record knows about the parameters of a model: order, shape, whether they are trained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from vario.record import Record
from vario.rules._evidence import Floats, Steps, finite
from vario.rules._model import rows

__all__ = [
    "Parameter",
    "early_norms",
    "is_climbed",
    "is_scaled",
    "of_usual_weights",
    "optimizer_name",
    "parameters",
    "running_max",
]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as the ``parameters`` event lists it."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    in_optimizer: bool
    elsewhere: bool = False  # another optimizer moves it
    has_gradient: bool = True  # after the first backward; taken as so where that is unknown

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def is_matrix(self) -> bool:
        return len(self.shape) >= 2


def parameters(record: Record) -> list[Parameter]:
    """All parameters in the order of the model; the newest event counts. Empty where none was recorded.

    Integers (counters, seeds, packed weights) cannot learn and are left out.
    """
    newest = {str(row["name"]): row for row in rows(record, "parameters")}
    elsewhere = {str(name) for event in record.events("held_elsewhere") for name in event.data["names"]}
    return [
        Parameter(
            name,
            tuple(row["shape"]),
            bool(row.get("trainable", True)),
            bool(row.get("in_optimizer", True)),
            name in elsewhere,
            row.get("has_gradient") is not False,
        )
        for name, row in newest.items()
        if not str(row.get("dtype", "")).startswith(("int", "uint", "bool"))
    ]


def optimizer_name(record: Record) -> str:
    """The class of the optimizer in lower case, "" where it is unknown (updates by hand)."""
    events = record.events("optimizer")
    return str(events[-1].data.get("class", "")).lower() if events else ""


def is_scaled(record: Record) -> bool:
    """Whether the steps of the optimizer are as long whatever its gradients are multiplied by."""
    words = ("adam", "rms", "lion", "ada", "lamb", "lars", "muon")
    return any(word in optimizer_name(record) for word in words)


def is_climbed(record: Record) -> bool:
    """Whether the optimizer was told to raise what it is given, not to lower it."""
    groups = [group for event in record.events("optimizer") for group in _listed(event.data.get("groups"))]
    return bool(groups) and all(group.get("maximize") for group in groups)


def _listed(groups: Any) -> list[dict[str, Any]]:
    return groups if isinstance(groups, list) else []  # where only their number is told


def early_norms(
    record: Record, *, readings: int = 10, only: Collection[str] | None = None
) -> dict[str, float]:
    """Median root mean square of the gradient's entries of each matrix, over its first readings."""
    found = {}
    for parameter in parameters(record):
        if not (parameter.is_matrix and parameter.trainable) or (only and parameter.name not in only):
            continue
        values = finite(*record.series("gradient/norm", parameter.name))[1][:readings]
        if len(values):
            found[parameter.name] = float(np.median(values)) / np.sqrt(parameter.size)
    return found


def running_max(steps: Steps, values: Floats, *, width: int = 3, until: float = 1.0) -> tuple[int, float]:
    """Where the running median of ``width`` readings is highest, within the first share ``until``."""
    count = max(int(len(values) * until), min(len(values), 10))
    width = min(width, count)
    windows = np.lib.stride_tricks.sliding_window_view(values[:count], width)
    medians = np.median(windows, axis=1)
    best = int(medians.argmax())
    return int(steps[best]), float(medians[best])


def of_usual_weights(record: Record, steps: Steps, *, small: float = 0.1) -> Floats:
    """Norms over the usual one, where the matrices began with less than ``small`` of it, else 1: what starts
    near zero doubles with its first steps, however short they are.
    """
    matrices = [parameter for parameter in parameters(record) if parameter.is_matrix]
    usual = float(np.sqrt(sum(matrix.shape[0] for matrix in matrices)))  # entries of 1 / sqrt(fan-in)
    first = [finite(*record.series("weight/norm", matrix.name))[1][:1] for matrix in matrices]
    at, norms = finite(*record.series("weight/norm"))
    began = np.linalg.norm(np.concatenate(first)) if all(map(len, first)) and first else norms[:1].sum()
    if not len(norms) or not began < small * usual:
        return np.ones(len(steps))
    return np.minimum(np.interp(steps, at, norms) / usual, 1.0)
