"""What the events say about the model: its parameters, modules and layers, in the order of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from vario.record import Record
from vario.rules._examples import classes

__all__ = [
    "bottleneck",
    "dropouts",
    "is_normalized_between",
    "is_too_narrow",
    "layers",
    "normalized_first",
    "output_layer",
    "rows",
    "training_loaders",
]

NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")


def rows(record: Record, kind: str) -> list[Mapping[str, Any]]:
    """The entries of all events of a kind that carry a list of them (``parameters``, ``modules``)."""
    found: list[Mapping[str, Any]] = []
    for event in record.events(kind):
        data: Any = event.data
        if isinstance(data, Mapping):
            data = data.get(kind, [data])
        found += [entry for entry in data if isinstance(entry, Mapping)]
    return found


def dropouts(record: Record) -> dict[str, float]:
    """The strength of each dropout: of modules by name, of calls as a function (the strongest of each)."""
    found = {
        str(m["name"]): float(m["p"])
        for m in rows(record, "modules")
        if "dropout" in str(m.get("class")).lower() and "p" in m
    }
    for event in record.events("dropout"):
        name, p = f"F.{event.data['function']}", float(event.data["p"])
        found[name] = max(p, found.get(name, 0.0))
    return found


def layers(record: Record) -> list[str]:
    """Modules that own a weight of two or more dimensions, in the order of the model.

    Where there are no modules, and parameters are tensors of the script, each of these by its name.
    """
    names = [str(p["name"]) for p in rows(record, "parameters") if len(p.get("shape", ())) >= 2]
    if record.events("modules") and not rows(record, "modules"):
        return names
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def output_layer(record: Record) -> str | None:
    """The last layer of the model, as far as the order of its parameters tells."""
    found = layers(record)
    return found[-1] if found else None


def is_too_narrow(record: Record) -> bool:
    """Whether the last layer chooses among k classes by fewer than log2 k numbers.

    So does one before it where each layer is given what the one before gives and nothing else: a chain of
    matrices. Of a regression: whether one layer gives a single number and the next is given no other.
    """
    name, count = output_layer(record), classes(record)
    weights = [tuple(p["shape"]) for p in rows(record, "parameters") if len(p.get("shape", ())) >= 2]
    matrices = [shape for shape in weights if len(shape) == 2]
    if not count:
        return any(before[0] == 1 == after[1] for before, after in pairwise(matrices))
    least = math.log2(max(count, 1))
    if matrices == weights and all(before[0] == after[1] for before, after in pairwise(matrices)):
        return any(inner[0] < least for inner in matrices[:-1]) and matrices[-1][0] == count
    shapes = [tuple(p["shape"]) for p in rows(record, "parameters") if p["name"] == f"{name}.weight"]
    return bool(shapes) and shapes[-1][0] == count and math.prod(shapes[-1][1:]) < least


def bottleneck(record: Record) -> tuple[str, int, int] | None:
    """The linear layer that passes on the fewest numbers, and how many come out in the end: more, as go in.

    Of two in one ``Sequential`` the second is given what the first gives and nothing else; norms and
    functions between them change no width.
    """
    listed = rows(record, "modules")
    kinds = {str(m.get("name")): str(m.get("class", "")) for m in listed}
    owners = {str(p["name"]).rpartition(".")[0] for p in rows(record, "parameters")}
    chains: dict[str, list[list[Mapping[str, Any]]]] = {}  # of each Sequential: what hands on to what
    for module in listed:
        name = str(module.get("name") or "")
        parent = name.rpartition(".")[0]
        if not name or kinds.get(parent) != "Sequential":
            continue
        runs = chains.setdefault(parent, [[]])
        if "out_features" in module:
            runs[-1].append(module)
        elif any(other.startswith(f"{name}.") for other in kinds) or (
            name in owners and not any(word in kinds[name] for word in NORMS)
        ):
            runs.append([])
    found = [
        (int(before["out_features"]), str(before["name"]), int(run[-1]["out_features"]))
        for run in (run for runs in chains.values() for run in runs)
        for before, after in pairwise(run)
        if before["out_features"] == after["in_features"]
        and before["out_features"] < min(before["in_features"], run[-1]["out_features"])
    ]
    width, name, given = min(found, default=(0, "", 0))
    return (name, width, given) if found else None


def is_normalized_between(record: Record, first: str, last: str) -> bool:
    """Whether a normalisation is listed between two modules, as far as their order tells."""
    listed = rows(record, "modules")
    place = {str(m.get("name")): at for at, m in enumerate(listed)}
    inside = listed[place.get(first, 0) : place.get(last, len(listed))]
    return any(word in str(m.get("class", "")) for m in inside for word in NORMS)


def normalized_first(record: Record) -> bool:
    """Whether a normalisation stands first among the modules with a name and parameters of their own.

    Containers, and what merely hands on, are listed before the modules within.
    """
    owners = {str(p["name"]).rpartition(".")[0] for p in rows(record, "parameters")}
    for module in rows(record, "modules"):
        name = str(module.get("name") or "")
        if name and any(word in str(module.get("class", "")) for word in NORMS):
            return True
        if name and (name in owners or not owners):
            return False
    return False


def training_loaders(record: Record) -> list[Mapping[str, Any]]:
    """The settings of the loaders that training draws from: those with epochs of training."""
    trained = {event.where for event in record.events("epoch")}
    return [event.data for event in record.events("loader") if event.where in trained]
