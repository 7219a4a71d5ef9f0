"""Fits that `vario plan fit -o` kept, found beside the records: the law with its band, and forecasts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vario.laws._answer import load, numbers
from vario.laws._forecast import Forecaster
from vario.nouns import VarioError
from vario.ui.shelf import Asked, Gone

__all__ = ["plan_paths", "plan_told", "plans_told"]

LARGEST = 20 << 20  # bytes of a file that is looked into
MOST = 200
POINTS = 80  # of the drawn law
BEYOND = math.log(30.0)  # how far the law is drawn past the largest run


def plan_paths(home: Path) -> dict[str, Path]:
    """Fits by id: in the home, in its folder `plans`, and beside a home that is called .vario."""
    places = [home, home / "plans", *([home.parent] if home.name == ".vario" else [])]
    found: dict[str, Path] = {}
    for path in (path for place in places for path in sorted(place.glob("*.json"))):
        if len(found) < MOST and _is_plan(path):
            name = path.stem if path.stem not in found else f"{path.parent.name}-{path.stem}"
            found.setdefault(name, path)
    return found


def plans_told(home: Path) -> list[dict[str, Any]]:
    """What the list says of each fit."""
    rows = []
    for name, path in plan_paths(home).items():
        told = _read(path)
        rows.append(
            {
                "id": name,
                "path": str(path),
                "made": path.stat().st_mtime,
                "law": told.get("law"),
                "runs": told.get("n"),
                "refused": told.get("refused"),
                "warnings": len(told.get("warnings") or ()),
            }
        )
    return rows


def plan_told(home: Path, id: str, at: str = "") -> dict[str, Any]:
    """The answer to /api/plan/ID; `at`, such as N=7e9,D=1.4e11, asks for a forecast as well.

    Raises Gone where there is no such fit, Asked where `at` makes no sense, VarioError for a damaged file.
    """
    path = plan_paths(home).get(id)
    if path is None:
        raise Gone(f"there is no fit {id[:80]!r} beside {home}. `vario plan fit TABLE -o {home}/fit.json`")
    kept = _read(path)
    told = {key: value for key, value in kept.items() if key != "plan"}
    told |= {"id": id, "path": str(path), "band": [], "prediction": None}
    if kept.get("plan") is None:
        return dict(_finite(told))
    try:
        plan = load(path)
        told |= {
            "inputs": list(plan.law.inputs),
            "output": plan.law.output,
            "ranges": {name: [math.exp(end) for end in ends] for name, ends in plan.ranges.items()},
            "noise": plan.known.noise,
            "band": list(_band(plan)),
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise VarioError(f"the fit {path} cannot be read: {error}. Fit it again.") from error
    if at:
        try:
            inputs = numbers(at, plan.law)
        except VarioError as error:
            raise Asked(f"at={at[:80]}: {error}") from error
        told["prediction"] = {"inputs": inputs, **plan.at(inputs), "outside": plan.outside(inputs)}
    return dict(_finite(told))


def _band(plan: Forecaster) -> Iterator[dict[str, Any]]:
    """The law from the smallest run to well beyond the largest, all inputs growing together."""
    ends = [plan.ranges[name] for name in plan.law.inputs]
    for share in np.linspace(0.0, 1.0, POINTS):
        inputs = {
            name: math.exp(low + share * (high + BEYOND / len(ends) - low))
            for name, (low, high) in zip(plan.law.inputs, ends, strict=True)
        }
        yield {"inputs": inputs, "size": math.prod(inputs.values()), **plan.at(inputs)}


def _is_plan(path: Path) -> bool:
    try:
        return path.stat().st_size <= LARGEST and "plan" in _read(path)
    except (OSError, VarioError):
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
        return _parsed(path, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError) as error:
        raise VarioError(f"{path} cannot be read: {error}.") from error


@lru_cache(maxsize=64)
def _parsed(path: Path, written: int, size: int) -> dict[str, Any]:
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept if isinstance(kept, dict) and "law" in kept else {}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
