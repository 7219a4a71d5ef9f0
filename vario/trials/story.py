"""Makes of a finished table what a report shows: times, curves, findings, notes of caution."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vario.nouns import VarioError, Verdict
from vario.record.reader import open_run
from vario.remedies.figures import number
from vario.trials.asked import Asked
from vario.trials.comparison import Table, all_budgets
from vario.trials.measure import Course, Metric
from vario.trials.paired import Paired
from vario.trials.pairs import BASELINE, Arm
from vario.trials.result import Arms, Failure, Trial
from vario.trials.tuning import Tuned

__all__ = ["told"]

POINTS = 150  # of a curve that is kept
DEPTH = 3  # folders below the working directory that are looked at for files that runs share
MOST_LOOKED_AT = 200
EXAMINED = 3  # runs of an arm whose findings are looked for


def told(
    table: Table,
    asked: Asked,
    path: Path,
    metric: Metric | None,
    *,
    tuned: Tuned,
    finished: bool,
    seconds: float,
    examine: bool,
) -> Trial:
    """The trial as it stands."""
    controls = [arm.name for arm in table.plan.treatments if arm.role == "control"]
    judged = _all_arms(table, table.verdicts()) if table.rows else _all_arms(table, [])
    versus: list[Verdict] = []
    if controls and controls[0] not in table.broken and table.rows:
        versus = table.verdicts(versus=controls[0])
    return Trial(
        id=path.name, path=path, command=table.plan.command,
        metric=metric.name if metric else asked.metric_name or "unknown",
        metric_source=metric.source if metric else "no run gave one",
        higher_is_better=table.higher_is_better, budget=table.budget, seeds=table.plan.seeds,
        pairs=len(table.rows), peeking=table.plan.peeking, margin=table.margin, verdicts=tuple(judged),
        budgets={name: tuple(rows) for name, rows in all_budgets(table).items()} if table.rows else {},
        against_control=tuple(versus),
        arms=tuple(_arm(table, arm, examine) for arm in table.plan.arms),
        failures=tuple(_failures(table, path)), optimism=table.optimism(),
        tuning={
            "settings": list(tuned.settings), "seeds": tuned.seeds, "kept": dict(tuned.kept),
            "scores": {name: dict(row) for name, row in tuned.scores.items()},
        } if tuned.settings else {},
        notes=(
            *_moved_yardstick(table, metric),
            *(_replaced_optimizers(table, asked) if examine else ()),
            *_notes(table, time.time() - seconds if examine else 0.0),
        ), seconds=seconds,
        finished=finished,
    )  # fmt: skip


def _all_arms(table: Table, judged: Iterable[Verdict]) -> list[Verdict]:
    """Also the arms that could not be tried: undecided, without a pair."""
    known = {verdict.treatment: verdict for verdict in judged}
    inf = math.inf
    return [
        known.get(arm.name) or Verdict(arm.name, "undecided", (math.nan, -inf, inf), 1.0, 0.5, 0, 0, math.nan)
        for arm in table.plan.treatments
    ]


def _arm(table: Table, arm: Arm, examine: bool) -> Arms:
    courses = {
        seed: table.courses[arm.name, seed] for seed in table.rows if (arm.name, seed) in table.courses
    }
    values = {str(seed): c.at(table.budget, c.total[table.budget]) for seed, c in courses.items()}
    examine = examine and arm.name not in table.broken
    findings, examined = _findings(table, arm.name) if examine else ({}, 0)
    judged = not arm.is_baseline and arm.name not in table.broken and bool(table.rows)
    if judged:
        values = dict(
            zip(map(str, table.rows), table.values(arm.name, table.budget)[1].tolist(), strict=True)
        )
    return Arms(
        arm.name, arm.role, arm.note, table.reason(arm.name) if not arm.is_baseline else _lost(table),
        table.paired(arm.name).variance_removed if judged else math.nan,
        _median(c.start_seconds for c in courses.values()),
        _median(c.warmup_seconds for c in courses.values()),
        _median(c.step_seconds for c in courses.values()),
        max((c.memory_bytes for c in courses.values() if math.isfinite(c.memory_bytes)), default=math.nan),
        findings, examined, values,
        {str(seed): _thinned(course) for seed, course in courses.items()},
        table.over_training(arm.name) if judged else (),
        _statistics(table.paired(arm.name)) if judged else {},
    )  # fmt: skip


def _statistics(paired: Paired) -> dict[str, float]:
    """What other tests say of the same pairs, each as if looked at once."""
    t, bootstrap = paired.interval(), paired.bootstrap_interval()
    removed = paired.variance_removed_interval
    return {
        "t_low": t[0], "t_high": t[1], "bootstrap_low": bootstrap[0], "bootstrap_high": bootstrap[1],
        "p_t": paired.p_t, "p_permutation": paired.p_sign_flip, "p_sign": paired.p_sign,
        "variance_removed_low": removed[0], "variance_removed_high": removed[1],
    }  # fmt: skip


def _lost(table: Table) -> str:
    reasons = [table.reasons[BASELINE, seed] for seed in table.rows if (BASELINE, seed) in table.reasons]
    return f"failed in {len(reasons)} of {len(table.rows)} pairs ({reasons[0]})" if reasons else ""


def _failures(table: Table, path: Path) -> Iterable[Failure]:
    for (arm, seed), outcome in sorted(table.outcomes.items(), key=lambda item: item[0][1]):
        reason = table.reasons.get((arm, seed), "") or outcome.reason
        if reason or arm in table.broken:
            where = "" if outcome.path is None else os.path.relpath(outcome.path, path)
            yield Failure(arm, seed, reason or table.broken[arm], where)


def _findings(table: Table, arm: str) -> tuple[dict[str, int], int]:
    """How often each finding was made in the first runs of an arm."""
    from vario.rules._diagnose import diagnose

    counts: Counter[str] = Counter()
    examined = 0
    for seed in table.rows[:EXAMINED]:
        outcome = table.outcomes.get((arm, seed))
        if outcome is None or outcome.path is None:
            continue
        try:
            with open_run(outcome.path) as run:
                counts.update({finding.id for finding in diagnose(run).findings})
        except VarioError:  # it holds no training step: the reason of its failure is shown
            continue
        examined += 1
    return dict(counts.most_common()), examined


def _notes(table: Table, began: float) -> Iterable[str]:
    plan = table.plan
    if table.rows and not plan.peeking:
        yield (
            f"{len(table.rows)} pairs were judged once, after the last of them. If more seeds are run "
            "because of this verdict, the chance of a wrong one adds up: at most 5 % for each such look."
        )
    stopped = sum(outcome.stopped for outcome in table.outcomes.values())
    if stopped:
        yield f"{stopped} runs were ended at the limit of minutes and are judged by what they had reached."
    if table.budget == "examples" and any(math.isnan(c.total["examples"]) for c in table.courses.values()):
        yield "the number of examples was not recorded in every run, so equal examples cannot be compared."
    shared = _written_by_all(began) if began else []
    if shared:
        listed = ", ".join(shared[:4]) + (f" and {len(shared) - 4} more" if len(shared) > 4 else "")
        yield (
            f"while the runs went on, {listed} changed. If the script writes there and reads it again, such "
            "as a checkpoint that it goes on from, its runs are not independent of each other."
        )
    if table.budget == "time":
        yield "seconds depend on what else the machine did; the two runs of a pair ran one beside the other."


def _moved_yardstick(table: Table, metric: Metric | None) -> Iterable[str]:
    """Treatments that change what the training loss is a loss of."""
    if metric is None or metric.series != "loss/train":
        return
    for arm in table.plan.treatments:
        moved = sorted({"loss", "sampler", "loader"} & set(arm.change.slots()))
        if moved and arm.name not in table.broken:
            what = {"loss": "the loss function itself"}.get(
                moved[0], "which examples a step sees, and how many"
            )
            yield (
                f"{arm.name}: it changes {what}, so the training loss is no fair measure of it; name an "
                "evaluation or a printed number with --metric."
            )


def _replaced_optimizers(table: Table, asked: Asked) -> Iterable[str]:
    """Which settings a replaced optimizer took over; the learning rate was chosen for the other one."""
    tuned = any(text.startswith(("lr=", "optimizer.lr=")) for text in asked.tune)
    for arm in table.plan.treatments:
        outcome = next((table.outcomes[arm.name, seed] for seed in table.rows), None)
        if arm.name in table.broken or outcome is None or outcome.path is None:
            continue
        with open_run(outcome.path) as run:
            events = [event.data for event in run.events("treatment") if "carried" in event.data]
        for data in {(data["from"], data["to"]): data for data in events}.values():
            yield f"{arm.name}: {_replacement(data, tuned='lr' in data['options'] or tuned)}"


def _replacement(data: Mapping[str, Any], *, tuned: bool) -> str:
    words = [f"{data['to']} in place of {data['from']}"]
    if not tuned and data.get("lr") is not None:
        words.append(
            f"it runs at the script's learning rate, {number(data['lr'])}, which was chosen for "
            f"{data['from']}: --tune lr=x0.3,x1,x3 lets every arm choose its own"
        )
    for kind, said in (("carried", "taken over from the script"), ("not_carried", "not known to it")):
        if data[kind]:
            words.append(f"{said}: " + ", ".join(f"{key}={value}" for key, value in data[kind].items()))
    return "; ".join([*words, "all else is as it has it by default"])


def _written_by_all(since: float) -> list[str]:
    """Files below the working directory that were changed while the runs went on.

    Records are not meant, nor what the trial itself is printed into.
    """
    found: list[str] = []
    here, own = Path.cwd(), []
    for output in (1, 2):
        with contextlib.suppress(OSError):  # closed
            own.append(os.fstat(output))
    for folder, folders, names in os.walk(here):
        place = Path(folder)
        if {"record.sqlite", "ledger.jsonl", "trials"} & {*names, *folders}:
            folders.clear()
            continue
        deep = len(place.relative_to(here).parts) >= DEPTH
        folders[:] = [] if deep else [f for f in folders if not f.startswith((".", "__"))][:MOST_LOOKED_AT]
        for name in names[:MOST_LOOKED_AT]:
            try:
                known = (place / name).stat()
                if known.st_mtime >= since and not any(os.path.samestat(known, out) for out in own):
                    found.append((place / name).relative_to(here).as_posix())
            except OSError:
                continue
    return sorted(found)


def _thinned(course: Course) -> list[tuple[float, float]]:
    """The curve, in stretches of equal length where it has many points."""
    steps, values = course.steps, course.values
    if len(steps) > POINTS:
        edges = np.linspace(0, len(steps), POINTS + 1).astype(int)[:-1]
        width = np.diff(np.append(edges, len(steps)))
        values = np.add.reduceat(values, edges) / width
        steps = steps[np.append(edges[1:], len(steps)) - 1]
    return [(float(a), float(b)) for a, b in zip(steps, values, strict=True)]


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
