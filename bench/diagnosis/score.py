"""How right the findings of many labelled runs are: recall, false alarms, confusion, calibration."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.diagnosis.cases import BY_FLAGS, SPINE, Case
from vario.nouns import Diagnosis, Finding
from vario.record import Run, open_run
from vario.rules import diagnose
from vario.rules._causes import consequences


@dataclass(frozen=True)
class Outcome:
    """What was found in one run of one case."""

    case: Case
    diagnosis: Diagnosis
    loss: float = np.nan  # the last held-out loss, that of training where nothing was evaluated

    @property
    def places(self) -> list[int | None]:
        """For each fault the place (from 1) of the first finding that names it; None where it is missing."""
        ids = [f.id for f in self.diagnosis.findings]
        found = [[ids.index(label) + 1 for label in labels if label in ids] for labels in self.case.wanted]
        return [min(places, default=None) for places in found]

    @property
    def place(self) -> int | None:
        """Place of the fault that stands lowest; None where one is missing or the run is healthy."""
        known = [place for place in self.places if place is not None]
        return max(known) if known and len(known) == len(self.places) else None

    @property
    def right(self) -> bool:
        """A single fault first or second, both of a pair in the top four, no alarm on a healthy run."""
        if not self.case.fault:
            return not self.alarms
        return self.place is not None and self.place <= (4 if self.case.pair else 2)

    @property
    def alarms(self) -> list[Finding]:
        return [f for f in self.diagnosis.findings if f.severity != "advice"]


def diagnosed(case: Case, path: Path) -> Outcome:
    with open_run(path) as run:
        return Outcome(case, diagnose(run), _last_loss(run))


def _last_loss(run: Run) -> float:
    record = run.records()[0] if run.records() else None
    if record is None:
        return np.nan
    where = next(iter(record.wheres("eval/loss")), None)
    values = (
        record.series("loss/train")[1][-5:] if where is None else record.series("eval/loss", where)[1][-1:]
    )
    return float(np.median(values)) if len(values) else np.nan


def without_harmless(outcomes: list[Outcome], *, harm: float = 1.05) -> tuple[list[Outcome], list[str]]:
    """Without mild faults of settings that end no worse than the plain healthy run; and their names.

    A setting that does no harm is no illness, whatever the case calls it.
    """
    healthy = {
        (o.case.program, o.case.seed): o.loss for o in outcomes if o.case.number == 0 and not o.case.fault
    }

    def harmless(o: Outcome) -> bool:
        plain = healthy.get((o.case.program, o.case.seed), np.nan)
        return o.case.mild and o.case.fault in BY_FLAGS and o.loss < harm * plain

    return [o for o in outcomes if not harmless(o)], [o.case.name for o in outcomes if harmless(o)]


def report(outcomes: list[Outcome], *, show_all: bool = False) -> str:
    """The tables, first over all programs, then (what counts) over those not used for tuning."""
    outcomes, harmless = without_harmless(outcomes)
    parts = [_cases(outcomes, show_all)]
    for title, chosen in (
        ("programs used for tuning", [o for o in outcomes if not o.case.held_out]),
        ("programs held out", [o for o in outcomes if o.case.held_out]),
    ):
        if chosen:
            tables = (_recall(chosen), _pairs(chosen), _false_alarms(chosen), _calibration(chosen))
            parts.append("\n".join([f"== {title} ({len(chosen)} runs)", *filter(None, tables)]))
    if harmless:
        parts.append(f"left out, since they end no worse than the healthy run: {', '.join(harmless)}")
    parts.append(_failures(outcomes))
    return "\n\n".join(part for part in parts if part)


def _cases(outcomes: list[Outcome], show_all: bool) -> str:
    lines = []
    for o in outcomes:
        if o.right and not show_all:
            continue
        found = ", ".join(
            f"{f.id}[{f.severity[0]} {f.confidence:.2f}]" + (f"<{f.explained_by}" if f.explained_by else "")
            for f in o.diagnosis.findings
        )
        wanted = " + ".join("|".join(labels) for labels in o.case.wanted) or f"nothing ({o.case.flags})"
        reason = "; ".join(o.diagnosis.not_applicable.get(label, "") for label in o.case.labels)
        mark = "ok  " if o.right else "MISS"
        lines.append(f"{mark} {o.case.name}: wants {wanted}; found {found or 'nothing'} {reason}")
    return "\n".join(lines)


def _recall(outcomes: list[Outcome]) -> str:
    places: dict[tuple[bool, str], list[int | None]] = defaultdict(list)
    for o in outcomes:
        if o.case.fault and not o.case.pair:
            places[o.case.mild, o.case.fault].append(o.place)
            places[o.case.mild, "~ all"].append(o.place)
            if o.case.fault in SPINE and not o.case.mild:
                places[False, "~ all of the spine"].append(o.place)
    rows = [f"{'fault':30} {'runs':>4} {'top 1':>6} {'top 2':>6} {'top 3':>6} {'found':>6}"]
    for (mild, fault), found in sorted(places.items()):
        tops = [np.mean([p is not None and p <= k for p in found]) for k in (1, 2, 3, 99)]
        name = fault.removeprefix("~ ") + (", second strength" if mild else "")
        rows.append(f"{name:30} {len(found):4d} " + " ".join(f"{t:6.2f}" for t in tops))
    return "\n".join(rows) if len(rows) > 1 else ""


def _pairs(outcomes: list[Outcome]) -> str:
    pairs = [o for o in outcomes if o.case.pair]
    if not pairs:
        return ""
    k, n = sum(o.right for o in pairs), len(pairs)
    low, high = wilson(k, n)
    return f"pairs with both causes in the top four: {k} of {n} ({k / n:.1%}, 95 % {low:.1%} to {high:.1%})"


def _false_alarms(outcomes: list[Outcome]) -> str:
    healthy = [o for o in outcomes if not o.case.fault]
    if not healthy:
        return ""
    wrong = Counter(f.id for o in healthy for f in o.alarms)
    n, k = len(healthy), sum(bool(o.alarms) for o in healthy)
    low, high = wilson(k, n)
    advice = Counter(f.id for o in healthy for f in o.diagnosis.findings if f.severity == "advice")
    share = f"{k} of {n} ({k / n:.1%}, 95 % {low:.1%} to {high:.1%})"
    return f"healthy runs with an error or warning: {share} {dict(wrong)}\nadvice on them: {dict(advice)}"


def alarms_and_truth(outcomes: list[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of each error or warning, and 1 where it is a label or a consequence of one, else 0."""
    pairs = [(f.confidence, float(f.id in _truly(o))) for o in outcomes for f in o.alarms]
    sure, right = np.array(pairs, float).reshape(-1, 2).T
    return sure, right


def _truly(outcome: Outcome) -> set[str]:
    return set(outcome.case.labels).union(*(consequences(label) for label in outcome.case.labels))


def _calibration(outcomes: list[Outcome]) -> str:
    sure, right = alarms_and_truth(outcomes)
    wrong = Counter(f.id for o in outcomes if o.case.fault for f in o.alarms if f.id not in _truly(o))
    if not len(sure):
        return ""
    brier = float(np.mean((sure - right) ** 2))
    rows = [f"Brier {brier:.3f} over {len(sure)} errors and warnings; confidence -> share right:"]
    for low, high in ((0.0, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        inside = (sure >= low) & (sure < high)
        if inside.any():
            rows.append(f"  {low:.1f}-{min(high, 1):.1f}: {right[inside].mean():.2f} of {inside.sum()}")
    rows.append(f"  beside the point in sick runs: {dict(wrong.most_common())}")
    return "\n".join(rows)


def _failures(outcomes: list[Outcome]) -> str:
    broken = Counter(
        f"{name}: {why}"
        for o in outcomes
        for name, why in o.diagnosis.not_applicable.items()
        if why.startswith("failed")
    )
    return "\n".join(f"RULE FAILED {count}x {text}" for text, count in broken.items())


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    p = k / n
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    return max(0.0, float(middle - half)), float(middle + half)
