"""The same tuning for every arm: the same values, the same number of tries, on seeds that are not judged.

A value is what `--set` takes (`optimizer.lr=0.1`; `lr` alone stands for that), or a multiple of what the
script itself uses (`lr=x0.3,x1,x3`). Each arm keeps the value with the best mean over the tuning seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vario.nouns import VarioError
from vario.record.reader import Run, open_run
from vario.remedies.treatment import Treatment
from vario.remedies.treatment_words import SHORT
from vario.trials.pairs import Arm

__all__ = ["Tuned", "grid", "needs_the_scripts_own", "settings", "settled", "variants"]


@dataclass(frozen=True)
class Tuned:
    """What was tried for every arm, and what each one kept."""

    settings: tuple[str, ...] = ()
    seeds: int = 0
    kept: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # arm -> setting -> mean


def grid(texts: Sequence[str]) -> list[tuple[tuple[str, str], ...]]:
    """Every combination of the values of all names, as pairs of name and value."""
    names = []
    for text in texts:
        name, equals, values = text.partition("=")
        found = [value.strip() for value in values.split(",") if value.strip()]
        if not (equals and name.strip() and found):
            raise VarioError(
                f"--tune {text}: write NAME=VALUE,VALUE,..., such as lr=0.03,0.1 or lr=x0.3,x1,x3."
            )
        key = SHORT.get(name.strip(), name.strip())
        names.append([(key, value) for value in found])
    combined = list(itertools.product(*names))
    for pairs in combined:
        absolute = [f"{key}={value.lstrip('x')}" for key, value in pairs]
        if absolute:
            Treatment.parse_set("+".join(absolute))
    return combined


def needs_the_scripts_own(texts: Sequence[str]) -> bool:
    """Whether a value is a multiple of what the script uses."""
    return any(value.startswith("x") for pairs in grid(texts) for _, value in pairs)


def settings(texts: Sequence[str], own: Path | None) -> list[str]:
    """What `--set` takes, for every combination; multiples are of what the run in `own` recorded."""
    made = []
    run = None if own is None else open_run(own)
    for pairs in grid(texts):
        parts = []
        for key, value in pairs:
            if value.startswith("x"):
                value = f"{float(value[1:]) * _own(key, run):.6g}"
            parts.append(f"{key}={value}")
        made.append("+".join(parts))
    if run is not None:
        run.close()
    return list(dict.fromkeys(made))


def variants(arm: Arm, made: Sequence[str]) -> dict[str, Arm]:
    """The arm under every setting; its own settings stand before those."""
    found = {}
    for setting in made:
        text = setting if arm.is_baseline else f"{arm.name}+{setting}"
        change = replace(
            Treatment.parse(text), methods=arm.change.methods
        )  # with the options that were filled in
        found[setting] = Arm(f"{arm.name} [{setting}]", change, arm.role, arm.note)
    return found


def settled(arms: Sequence[Arm], tuned: Tuned) -> tuple[Arm, ...]:
    """Every arm with the setting that it kept, under its old name."""
    return tuple(
        Arm(arm.name, variants(arm, [tuned.kept[arm.name]])[tuned.kept[arm.name]].change, arm.role, arm.note)
        if tuned.kept.get(arm.name)
        else arm
        for arm in arms
    )


def _own(key: str, run: Run | None) -> float:
    name = key.partition(".")[2]
    value = math.nan
    if run is not None:
        record = run.main
        for event in record.events("optimizer"):
            groups = event.data.get("groups") or []
            if groups:
                value = float(
                    groups[0].get("initial_lr" if name == "lr" else name, groups[0].get(name, math.nan))
                )
        if math.isnan(value) and record.wheres(f"hyper/{name}"):
            value = float(record.series(f"hyper/{name}", sorted(record.wheres(f"hyper/{name}"))[0])[1].max())
    if not math.isfinite(value):
        raise VarioError(
            f"--tune {key}=x...: the script's own {key} was not recorded; give the values themselves."
        )
    return value
