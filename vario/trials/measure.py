"""What a run gives to a comparison: its metric over steps, examples and seconds.

A metric that is read now and then (an evaluation, a printed number) is taken at the budget, in a straight
line between the readings around it. One that is read at every step (the training loss) is the mean over the
last tenth of the budget, over the steps that both runs of a pair recorded: the same batches in both.

Seconds are those of the steps, without what vario itself took, without the start of the process, and
without what the first steps took longer than later ones (compiling, filling caches): those are apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vario.nouns import NotApplicable, VarioError
from vario.record import Record, Run
from vario.record.reader import open_run
from vario.rules._held_out import held_out

__all__ = ["BUDGETS", "Course", "Metric", "choose", "course", "examples_seen"]

BUDGETS = ("steps", "examples", "time")
WARM = 5  # steps that may warm something up
TAIL = 0.1
# Words of a name that say that more of it is better.
MORE = {
    "accuracy", "acc", "acc1", "acc5", "top1", "top5", "auc", "auroc", "f1", "bleu", "rouge", "r2", "reward",
    "return", "precision", "recall", "map", "iou", "miou", "dice", "score", "psnr", "ssim",
}  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """The number that arms are compared by."""

    name: str
    series: str
    where: str = ""
    higher_is_better: bool = False
    source: str = ""  # where it comes from, for the user
    every_step: bool = False
    pattern: str = ""  # for what the script printed where the record did not hear it


@dataclass(frozen=True, eq=False)
class Course:
    """The metric of one run; entry i was read after `steps[i]` steps, that is `examples[i]` examples."""

    steps: Array
    values: Array
    examples: Array
    seconds: Array
    total: dict[str, float]  # by budget: how far the run came
    start_seconds: float = float("nan")  # of the process outside its steps: imports, data, the end
    warmup_seconds: float = float("nan")  # what the first steps took longer than the others
    step_seconds: float = float("nan")  # of a usual step
    memory_bytes: float = float("nan")
    every_step: bool = False

    def axis(self, budget: str) -> Array:
        """Steps, examples or seconds at each reading."""
        return {"steps": self.steps, "examples": self.examples, "time": self.seconds}[budget]

    def at(self, budget: str, amount: float) -> float:
        """The metric when so much of the budget is spent; NaN where it was not read by then."""
        axis = self.axis(budget)
        if not len(axis) or not np.isfinite(amount) or not np.isfinite(axis).all():
            return float("nan")
        if not self.every_step:
            return float(np.interp(amount, axis, self.values))
        inside = (axis <= amount * (1 + 1e-9)) & (axis > (1 - TAIL) * amount)
        if not inside.any():
            inside = axis <= max(amount, axis[0])
            inside &= np.cumsum(inside[::-1])[::-1] <= 1  # the last one before it
        return float(self.values[inside].mean())

    def of_steps(self, steps: Array) -> Course:
        """Only the readings after these numbers of steps."""
        keep = np.isin(self.steps, steps)
        return Course(
            self.steps[keep], self.values[keep], self.examples[keep], self.seconds[keep], self.total,
            self.start_seconds, self.warmup_seconds, self.step_seconds, self.memory_bytes, self.every_step,
        )  # fmt: skip


def pair_values(one: Course, other: Course, budget: str) -> tuple[float, float]:
    """The metric of both runs when both have spent what the one that came less far has spent in all."""
    amount = min(one.total[budget], other.total[budget])
    if one.every_step and other.every_step:
        both = np.intersect1d(one.steps, other.steps)
        if len(both):
            one, other = one.of_steps(both), other.of_steps(both)
    return one.at(budget, amount), other.at(budget, amount)


def choose(
    run: Run,
    wanted: str | None,
    *,
    patterns: Sequence[tuple[str, str]] = (),
    higher_is_better: bool | None = None,
) -> Metric:
    """The metric that `wanted` means in this run: a series or a pattern's name; None: the best known."""
    record = run.main
    pattern = dict(patterns).get(wanted or "", "")
    if pattern:
        found = Metric(wanted or "", f"printed/{wanted}", source="printed by the script", pattern=pattern)
    elif wanted:
        found = _named(record, wanted)
    else:
        found = _best(record)
    if higher_is_better is None:
        words = set(re.split(r"[^a-z0-9]+", found.name.lower().partition("@")[0]))
        higher_is_better = bool(words & MORE) and "loss" not in words
    every_step = found.series.endswith("/train")
    source = found.source + (", mean over the last tenth of the steps" if every_step else "")
    return Metric(found.name, found.series, found.where, higher_is_better, source, every_step, found.pattern)


def course(run: Run, metric: Metric, *, seconds: float = float("nan")) -> Course:
    """The metric of a run; raises NotApplicable where it was not recorded."""
    record = run.main
    at, values = _readings(run, record, metric)
    total = record.step_count
    clock, start, warm, usual = _clock(record, total)
    rows = examples_seen(record, total)
    after = np.clip(at + 1, 0, total).astype(int)
    return Course(
        after.astype(float), values, rows[after], clock[after],
        {"steps": float(total), "examples": float(rows[-1]), "time": float(clock[-1])},
        start if np.isfinite(start) else max(0.0, seconds - float(clock[-1])), warm, usual,
        _memory(record), metric.every_step,
    )  # fmt: skip


def read(path: Path, metric: Metric, *, seconds: float = float("nan")) -> Course:
    """The same of the run in a directory."""
    with open_run(path) as run:
        return course(run, metric, seconds=seconds)


def _best(record: Record) -> Metric:
    try:
        where = held_out(record, "eval/loss")
        return Metric(
            "eval/loss", "eval/loss", where, source=f"recorded evaluation loss ({where or 'no loader'})"
        )
    except NotApplicable:
        wheres = record.wheres("eval/loss")
    if len(record.series("loss/train")[0]):
        why = "evaluated only on rows of training" if wheres else "no evaluation was seen"
        return Metric("loss/train", "loss/train", source=f"recorded training loss ({why})")
    raise VarioError(
        "the script recorded neither an evaluation loss nor a training loss to compare by. Name a number "
        r"that it prints: --metric 'accuracy=accuracy: ([0-9.]+)'."
    )


def _named(record: Record, wanted: str) -> Metric:
    name, _, place = wanted.partition("@")
    known = [series for series in record.names() if record.width(series) == 0]
    matches = [series for series in known if series == name] or [
        series for kind in ("eval/", "printed/", "") for series in known if series == kind + name
    ]
    matches = matches or [series for series in known if series.endswith(f"/{name}")]
    matches = matches or [series for series in known if series.startswith(f"{name}/")]
    if not matches:
        short = [series for series in known if record.wheres(series)[0] in ("",) or "eval/" in series]
        raise VarioError(
            f"--metric {wanted}: no series of that name was recorded; there are {', '.join(short[:20])}. "
            r"A number that the script prints is taken by --metric 'NAME=REGEX'."
        )
    series = matches[0]
    wheres = record.wheres(series)
    if place and place not in wheres:
        raise VarioError(f"--metric {wanted}: {series} was read at {', '.join(wheres)}, not at {place!r}.")
    where = place or ("" if "" in wheres else _place(record, series))
    return Metric(
        wanted, series, where, source=f"recorded series {series}" + (f" at {where}" if where else "")
    )


def _place(record: Record, series: str) -> str:
    if series.startswith("eval/"):
        try:
            return held_out(record, series)
        except NotApplicable:
            return record.wheres(series)[-1]
    return record.wheres(series)[0]


def _readings(run: Run, record: Record, metric: Metric) -> tuple[Array, Array]:
    for one in [record, *run.records()]:
        at, values = one.series(metric.series, metric.where)
        if len(at):
            return at.astype(float), values
    if not metric.pattern:
        raise NotApplicable(f"the run recorded no {metric.name}")
    found = re.findall(metric.pattern, _printed(run.path))
    if not found:
        raise NotApplicable(f"the run printed nothing that the expression {metric.pattern} finds")
    last = found[-1][0] if isinstance(found[-1], tuple) else found[-1]
    try:  # when each was printed is not known: the last one is the run's
        return np.array([record.step_count - 1.0]), np.array([float(last)])
    except ValueError:
        raise NotApplicable(f"the expression {metric.pattern} found {last!r}, which is no number") from None


def _printed(path: Path) -> str:
    texts = []
    for name in ("stdout.txt", "stderr.txt"):
        if (path / name).exists():
            texts.append((path / name).read_text(errors="replace"))
    return "\n".join(texts)


def _clock(record: Record, total: int) -> tuple[Array, float, float, float]:
    """Seconds after each number of steps from 0 to `total`; seconds of start, of warm-up, and of a step."""
    at, took = record.series("time/step")
    own_at, own = record.series("time/own")
    each = np.full(total + 1, np.nan)
    each[np.clip(at, 0, total)] = took
    spent = np.zeros(total + 1)
    spent[np.clip(own_at, 0, total)] = own
    each = np.maximum(each - spent, 0)[:total]
    known = each[np.isfinite(each)]
    if not len(known):
        return np.full(total + 1, np.nan), float("nan"), float("nan"), float("nan")
    settled = each[WARM:][np.isfinite(each[WARM:])]
    usual = float(np.median(settled if len(settled) else known))
    early = each[: min(WARM, total)]
    warm = float(np.nansum(np.maximum(early - usual, 0)))
    each[: len(early)] = np.minimum(np.where(np.isfinite(early), early, usual), usual)
    each = np.where(np.isfinite(each), each, usual)
    return np.concatenate([[0.0], np.cumsum(each)]), float("nan"), warm, usual


def examples_seen(record: Record, total: int) -> Array:
    """Examples seen after each number of steps: batches are as large as the measured ones around them.

    The median of five, because not every step is measured: a short last batch of an epoch that one run
    measured and the other did not must not set the two apart.
    """
    at, size = record.series("batch/size")
    if not len(at) or not total:
        return np.full(total + 1, np.nan)
    micro_at, micro = record.series("loss/backwards")
    steps = np.arange(total)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(size, 2, mode="edge"), 5)
    usual = np.median(around, axis=1)
    sizes = usual[np.clip(np.searchsorted(at, steps, side="right") - 1, 0, len(at) - 1)]
    times: Array = np.ones(total)
    if len(micro_at):
        times = micro[np.clip(np.searchsorted(micro_at, steps, side="right") - 1, 0, len(micro_at) - 1)]
    return np.concatenate([[0.0], np.cumsum(sizes * times)])


def _memory(record: Record) -> float:
    for name in ("memory/device", "memory/resident"):
        values = record.series(name)[1]
        if len(values):
            return float(values.max())
    return float("nan")
