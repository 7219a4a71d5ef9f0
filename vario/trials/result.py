"""A trial that has been made: verdicts, and all that a report shows of it; kept as one JSON file."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vario.nouns import VarioError, Verdict

__all__ = ["FILE", "Arms", "Failure", "Trial", "find_trial", "open_trial"]

FILE = "trial.json"

Point = tuple[float, float]
Band = tuple[float, float, float, float]  # steps, mean difference, low, high


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that gave no value, and why."""

    arm: str
    seed: int
    reason: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Arms:
    """What is known of one arm over all its runs; times are medians in seconds, memory is the largest."""

    name: str
    role: str
    note: str = ""
    reason: str = ""  # why there is no verdict, or pairs were lost
    variance_removed: float = math.nan
    start_seconds: float = math.nan
    warmup_seconds: float = math.nan
    step_seconds: float = math.nan
    memory_bytes: float = math.nan
    findings: Mapping[str, int] = field(default_factory=dict)  # id -> in how many of `examined` runs
    examined: int = 0
    values: Mapping[str, float] = field(default_factory=dict)  # seed -> metric at the budget
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)  # seed -> metric after steps
    difference: Sequence[Band] = ()  # over training
    statistics: Mapping[str, float] = field(default_factory=dict)  # for a number of pairs fixed in advance


@dataclass(frozen=True)
class Trial:
    """Verdicts in the order of the treatments, as a sequence; and where they come from."""

    id: str
    path: Path
    command: tuple[str, ...]
    metric: str
    metric_source: str
    higher_is_better: bool
    budget: str
    seeds: int  # at most so many pairs were asked for
    pairs: int  # so many were judged
    peeking: bool
    margin: float | None
    verdicts: tuple[Verdict, ...]
    budgets: Mapping[str, tuple[Verdict, ...]]  # at equal steps, examples and time
    against_control: tuple[Verdict, ...]
    arms: tuple[Arms, ...]  # baseline first
    failures: tuple[Failure, ...]
    optimism: float = math.nan
    tuning: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = math.nan
    finished: bool = True

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def __getitem__(self, place: int) -> Verdict:
        return self.verdicts[place]

    def arm(self, name: str) -> Arms:
        """The arm of that name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise VarioError(
            f"the trial {self.id} has no arm {name!r}; it has {', '.join(a.name for a in self.arms)}."
        )

    def notes_on(self, name: str) -> list[str]:
        """What is to be borne in mind with the verdict on that arm."""
        return [note.removeprefix(f"{name}: ") for note in self.notes if note.startswith(f"{name}: ")]

    def save(self) -> None:
        """Write it into its directory, whole or not at all; where that fails it is said, no more."""
        target = self.path / FILE
        temporary = target.with_name(f".{FILE}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(_plain(asdict(self))), encoding="utf-8")
            temporary.replace(target)
        except OSError as error:
            text = f"vario: the trial cannot be kept in {target}: {error.strerror}; it cannot be reopened\n"
            os.write(2, text.encode())
            with contextlib.suppress(OSError):
                temporary.unlink()


def open_trial(path: Path) -> Trial:
    """The trial in a directory."""
    try:
        raw = json.loads((path / FILE).read_text(encoding="utf-8"))
        known = {item.name for item in fields(Trial)}
        raw = {key: value for key, value in raw.items() if key in known}
        made = {
            "path": path,
            "command": tuple(raw["command"]),
            "verdicts": _verdicts(raw["verdicts"]),
            "budgets": {name: _verdicts(rows) for name, rows in raw["budgets"].items()},
            "against_control": _verdicts(raw["against_control"]),
            "arms": tuple(Arms(**_numbers(row, Arms)) for row in raw["arms"]),
            "failures": tuple(Failure(**row) for row in raw["failures"]),
            "notes": tuple(raw["notes"]),
        }
        return replace(
            Trial(**{**raw, **made}), optimism=_number(raw["optimism"]), seconds=_number(raw["seconds"])
        )
    except FileNotFoundError:
        raise VarioError(f"{path} holds no finished trial: {FILE} is missing.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise VarioError(f"the trial {path / FILE} cannot be read: {error}.") from None


def find_trial(reference: str, home: Path) -> Path:
    """The directory of a trial: a path, an id, a unique prefix of one, or `last`."""
    by_path = Path(reference).expanduser()
    if (by_path / FILE).exists():
        return by_path
    place = home / "trials"
    known = sorted(path.parent for path in place.glob(f"*/{FILE}"))
    if not known:
        raise VarioError(f"there are no trials in {place}. `vario trial train.py --with METHOD` makes one.")
    if reference == "last":
        return max(known, key=lambda path: (path / FILE).stat().st_mtime)
    found = [path for path in known if path.name.startswith(reference)]
    if len(found) == 1:
        return found[0]
    said = "is the start of several trials" if found else "is no trial"
    listed = ", ".join(path.name for path in (found or known)[-8:])
    raise VarioError(f"{reference!r} {said} in {place}; it has {listed}.")


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(
            row["treatment"], row["verdict"],
            _ends(row["difference"]), _number(row["p"]), _number(row["probability"]), row["pairs"],
            row["more_seeds"], *_cost(row),
        )
        for row in rows
    )  # fmt: skip


def _numbers(row: Mapping[str, Any], of: type) -> dict[str, Any]:
    floats = {item.name for item in fields(of) if item.type == "float"}
    made = {key: _number(value) if key in floats else value for key, value in row.items()}
    made["values"] = {seed: _number(value) for seed, value in row["values"].items()}
    made["curves"] = {
        seed: [(_number(a), _number(b)) for a, b in line] for seed, line in row["curves"].items()
    }
    made["statistics"] = {name: _number(value) for name, value in row.get("statistics", {}).items()}
    made["difference"] = [(_number(band[0]), *_ends(band[1:])) for band in row["difference"]]
    return made


def _ends(row: Sequence[float | None]) -> tuple[float, float, float]:
    """A difference; an end that is null is open."""
    value, low, high = row
    return _number(value), _number(low, -math.inf), _number(high, math.inf)


def _cost(row: Mapping[str, Any]) -> tuple[float, tuple[float, float]]:
    """With its interval, which records of before 2026-11-27 have not."""
    low, high = row.get("cost_interval", (None, None))
    return _number(row["cost"]), (_number(low, 0.0), _number(high, math.inf))


def _number(value: float | None, otherwise: float = math.nan) -> float:
    return otherwise if value is None else float(value)


def _plain(value: Any) -> Any:
    """The same for strict JSON: what is not finite is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
