"""``vario measure``: a script started under watch with more to measure, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vario.nouns import VarioError
from vario.running import overhead_share, run

__all__ = ["data_dimension", "in_run", "objective_dimension"]

MOST_ROWS = 10_000  # all pairs of them are compared
FAMILIES = ("curvature/", "tangent/", "spectrum/", "rank/", "example_conflict/")


def in_run(
    command: Sequence[str],
    what: Sequence[str],
    *,
    steps: Sequence[int] = (),
    share: str = "",
    home: Path | None = None,
) -> dict[str, Any]:
    """Run the command to its end, measuring ``what`` at these steps (or for a share of its time)."""
    from vario.on_demand import ASK, FIRST_STEPS, Asked

    part = overhead_share(share) if share else 0.0
    asked = Asked(tuple(what), tuple(steps) or (() if part else FIRST_STEPS), part)
    asked.instruments()  # a name that is not known is said before anything is started
    before = os.environ.get(ASK)
    os.environ[ASK] = asked.as_text()
    try:
        code, directory = _watched(command, home)
    finally:
        os.environ.pop(ASK)
        if before is not None:
            os.environ[ASK] = before
    found = _what_was_measured(directory)
    found["code"] = code
    if not found["rows"] and not found["refused"]:
        found["notes"] = [f"nothing was measured: the run took no optimizer step of {list(asked.steps)[:6]}."]
    return found


def objective_dimension(
    command: Sequence[str], *, home: Path | None = None, score: str = "", share: float = 0.9
) -> dict[str, Any]:
    """Run the command as it is, then in random subspaces, until the smallest that nearly does as well.

    ``score`` is a series whose last value says how good a run is. Without one it is the accuracy of the last
    evaluation; else how far the training loss fell.
    """
    from vario.on_demand import SUBSPACE
    from vario.scores.objective_dimension import smallest_dimension

    def goodness(dimension: int) -> _Good:
        if dimension:
            os.environ[SUBSPACE] = f"{dimension},0"
        try:
            code, directory = _watched(command, home)
        finally:
            os.environ.pop(SUBSPACE, None)
        if code:
            raise VarioError(
                f"the script ended with code {code} (run {directory.name}); nothing was measured."
            )
        return _goodness(directory, score)

    full = goodness(0)
    size, series = _size_of(full.directory), full.series
    if not np.isfinite(full.value) or not full.value > 0:
        raise VarioError(
            f"{series} of the untouched run is {full.value:g}: there is nothing to come near to."
        )
    found = smallest_dimension(lambda d: goodness(d).value, target=share * full.value, most=size)
    rows = [
        {"series": f"{series} in {d} directions", "where": "", "value": value} for d, value in found.tried
    ]
    rows.insert(0, {"series": f"{series} in all {size}", "where": "", "value": full.value})
    if found.high is None:
        return {
            "title": "intrinsic dimension of the objective",
            "rows": rows,
            "notes": ["not even all were enough"],
        }
    answer = {
        "series": f"directions for {share:.0%} of it",
        "where": "",
        "value": float(found.high),
        "low": float(found.low + 1),
        "high": float(found.high),
    }
    return {
        "title": "intrinsic dimension of the objective",
        "rows": [*rows, answer],
        "notes": [f"  {size / found.high:.3g} times fewer than weights; one seed of each run"],
    }


class _Good(NamedTuple):
    value: float
    series: str
    directory: Path


def _goodness(directory: Path, score: str) -> _Good:
    from vario.record.reader import open_run

    with open_run(directory) as opened:
        record = opened.main
        for name in [score] if score else ["eval/accuracy"]:
            for where in record.wheres(name):
                steps, values = record.series(name, where)
                if len(steps):
                    return _Good(float(values[-1]), name, directory)
        if score:
            raise VarioError(
                f"run {directory.name} has no series {score!r}; it has {', '.join(record.names())}."
            )
        steps, losses = record.series("loss/train")
        if len(steps) < 10:
            raise VarioError(
                f"run {directory.name} has {len(steps)} losses; 10 are needed, or --score SERIES."
            )
        tail = losses[-max(1, len(losses) // 10) :]
        return _Good(float(losses[0] - np.mean(tail)), "fall of loss/train", directory)


def _size_of(directory: Path) -> int:
    from vario.record.reader import open_run

    with open_run(directory) as opened:
        listed = opened.main.events("parameters")[0].data["parameters"]
    return sum(int(np.prod(p["shape"])) for p in listed if p["in_optimizer"] and p["trainable"])


def data_dimension(path: Path) -> dict[str, Any]:
    """Dimension of the rows of a table, by two estimates."""
    import torch

    from vario.scores.data_dimension import data_dimension as estimate
    from vario.scores.data_dimension import two_nn

    points = _table(path)
    notes = []
    if len(points) > MOST_ROWS:
        chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:MOST_ROWS]
        notes.append(f"  {MOST_ROWS} of {len(points)} rows, drawn at random")
        points = points[chosen]
    rows = []
    try:
        for name, found in (
            ("maximum likelihood, 20 neighbours", estimate(points)),
            ("two neighbours", two_nn(points)),
        ):
            rows.append(
                {"series": name, "where": "", "value": found.value, "low": found.low, "high": found.high}
            )
            if found.examples < len(points):
                notes.append(f"  {len(points) - found.examples} copies were left out ({name})")
    except ValueError as error:
        raise VarioError(f"{path}: {error}") from None
    return {
        "title": f"intrinsic dimension of {tuple(points.shape)} in {path.name}",
        "rows": rows,
        "notes": notes,
    }


def _table(path: Path) -> Any:
    import torch

    try:
        if path.suffix == ".csv":
            found: Any = np.genfromtxt(path, delimiter=",", dtype=float)
            found = found[1:] if found.ndim == 2 and len(found) and np.isnan(found[0]).all() else found
        elif path.suffix == ".pt":
            found = torch.load(path, weights_only=True)
        elif path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = np.load(path, allow_pickle=False)
    except Exception as error:
        raise VarioError(f"{path} cannot be read ({type(error).__name__}: {error}).") from None
    if not isinstance(found, (np.ndarray, torch.Tensor)):  # a file of several: the largest
        several = [torch.as_tensor(found[key]) for key in found]
        if not several:
            raise VarioError(f"{path} holds no array.")
        found = max(several, key=lambda array: array.numel())
    points = torch.as_tensor(found)
    if points.ndim < 2 or points.is_complex():
        raise VarioError(
            f"{path} holds {tuple(points.shape)} {points.dtype}; rows of numbers (n, ...) are needed."
        )
    return points


def _watched(command: Sequence[str], home: Path | None) -> tuple[int, Path]:
    """Exit code and directory of one run under watch."""
    from vario.record.runs import home as default_home
    from vario.record.runs import list_runs

    place = home or default_home()
    before = {found.path for found in list_runs(place)}
    code = run(command, home=place, quiet=True)
    new = [found.path for found in list_runs(place) if found.path not in before]
    if not new:
        raise VarioError(f"no record of the run was made in {place}; can it be written?")
    return code, Path(new[-1])


def _what_was_measured(directory: Path) -> dict[str, Any]:
    from vario.record.reader import open_run

    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    with open_run(directory) as opened:
        for record in opened.records():
            for name in sorted(record.names()):
                if not name.startswith(FAMILIES) or name.endswith(("_low", "_high")):
                    continue
                for where in record.wheres(name):
                    rows += _rows(record, name, where)
            for event in record.events("refused"):
                refused.append({"need": event.where, "reason": event.data["reason"], "step": event.step})
    rows.sort(key=lambda row: (row["step"], row["where"] != ""))
    return {"run": directory.name, "title": f"measured in {directory.name}", "rows": rows, "refused": refused}


def _rows(record: Any, name: str, where: str) -> list[dict[str, Any]]:
    steps, values = record.series(name, where)
    ends = {}
    for end in ("low", "high"):
        at, found = record.series(f"{name}_{end}", where)
        ends[end] = dict(zip(at.tolist(), found.tolist(), strict=True))
    return [
        {
            "series": name,
            "where": where,
            "step": int(step),
            "value": value,
            "low": ends["low"].get(step, value if step in ends["high"] else None),
            "high": ends["high"].get(step, value if step in ends["low"] else None),
        }
        for step, value in zip(steps.tolist(), np.asarray(values).tolist(), strict=True)
    ]
