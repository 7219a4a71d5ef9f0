"""Which charts a page shows: those that prove a finding, and those that show the course of the run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vario.nouns import Evidence, Finding
from vario.record import Record
from vario.report.words import amount, clean

__all__ = ["Chart", "Line", "course", "finding_charts", "rest"]

# What the numbers of some evidence are measured in, where its name does not repeat that of the series.
SERIES_OF = {
    "loss at the": "loss/train",
    "loss in evaluation": "eval/loss",
    "lowest reachable loss": "loss/train",
    "loss of guessing": "loss/train",
    "update ratio": "update/ratio",
    "learning rate": "hyper/lr",
    "weight decay": "hyper/weight_decay",
    "cosine of successive gradients": "gradient/cosine",
    "gradient norm before clipping": "clipping/norm_before",
    "gradient norm": "gradient/norm",
    "carried gradient": "gradient/carried",
    "share saturated": "activation/saturation_share",
    "share with zero loss": "examples/zero_loss_share",
    "held-out accuracy": "eval/accuracy",
    "accuracy in evaluation": "eval/accuracy",
    "training accuracy": "accuracy/train",
    "deviation of row sums": "logits/sum_deviation",
}
AGGREGATES = (
    "largest",
    "smallest",
    "median",
    "mean",
    "usual",
    "typical",
    "highest",
    "lowest",
    "last",
    "first",
)
DULL = ("activation/channels", "batch/size", "rank/width", "eval/examples")  # constant: no chart says more
MOST_INKS = 8  # a chart has no more colours
MOST_LINES = 4

# The course of a run, in the order in which a person asks for it: section, title, series.
COURSE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("loss", "Loss", ("loss/train", "eval/loss")),
    ("loss", "Accuracy", ("accuracy/train", "eval/accuracy")),
    ("loss", "Learning rate", ("hyper/lr",)),
    ("loss", "Update over weight, per step", ("update/ratio",)),
    ("loss", "Gradient norm", ("gradient/norm", "clipping/norm_before")),
    ("loss", "Weight norm", ("weight/norm",)),
    ("noise", "Gradient signal and noise", ("gradient_noise/signal", "gradient_noise/noise")),
    ("examples", "Loss of single examples", ("examples/loss_quantiles",)),
    ("examples", "Error norm (EL2N)", ("examples/error_norm",)),
    ("examples", "Margin of the label", ("examples/margin",)),
    ("examples", "Entropy of the prediction", ("examples/entropy",)),
    ("examples", "Confidently wrong", ("examples/confident_wrong",)),
    ("examples", "Share with a loss of exactly 0", ("examples/zero_loss_share",)),
    ("data", "Inputs: mean and standard deviation", ("input/mean", "input/std")),
    ("data", "Targets: mean and standard deviation", ("target/mean", "target/std")),
    ("data", "Rows seen before", ("data/duplicate_share", "data/repeat_share")),
    ("settings", "Momentum", ("hyper/momentum",)),
    ("settings", "Weight decay", ("hyper/weight_decay",)),
    ("cost", "Time per step, in seconds", ("time/step", "time/data_wait", "time/own")),
    ("cost", "Memory", ("memory/resident", "memory/device")),
)
SPOKEN = {
    "loss/train": "training",
    "accuracy/train": "training",
    "eval/loss": "evaluation",
    "eval/accuracy": "evaluation",
    "gradient/norm": "gradient norm",
    "weight/norm": "weight norm",
    "update/ratio": "update over weight",
    "clipping/norm_before": "before clipping",
    "hyper/lr": "learning rate",
}
TITLES = {
    "loss/train": "Training loss",
    "eval/loss": "Evaluation loss",
    "accuracy/train": "Training accuracy",
    "eval/accuracy": "Evaluation accuracy",
    "input/mean": "Mean of the inputs",
    "target/mean": "Mean of the targets",
    "gradient_noise/signal": "Gradient signal",
    "gradient_noise/noise": "Gradient noise",
}
QUANTILE_COLUMNS = ((0, "smallest"), (5, "median"), (9, "90 %"), (10, "largest"))


@dataclass(frozen=True, slots=True)
class Line:
    """One curve of a chart: a series of a stream at a place; ``column`` of a vector series."""

    record: Record
    name: str
    where: str
    label: str
    column: int = -1


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that share an axis, with the limits they were held against and the steps in question."""

    title: str
    lines: tuple[Line, ...]
    section: str = ""
    limits: tuple[tuple[float, str], ...] = ()
    span: tuple[int, int] | None = None

    @property
    def unit(self) -> str:
        """The unit that a page counts in thousands of; "" where numbers are shown as they are."""
        return "bytes" if all(line.name.startswith("memory/") for line in self.lines) else ""


def finding_charts(
    finding: Finding, record: Record, card: Mapping[str, Any], *, most: int = 2
) -> list[Chart]:
    """The charts that show a finding: first what its evidence measured, then what its rule read."""
    measured = [name for item in finding.evidence if (name := series_of(item, record.names()))]
    reads = [name for name in card.get("reads", ()) if name not in DULL]
    seen = [item.name for item in finding.evidence if item.name in record.names()]
    charts = []
    for name in dict.fromkeys([*seen, *(name for name in reads if name in measured), *measured, *reads]):
        lines = _lines(record, name, _places_of(finding, record, name))
        if lines:
            limits = tuple(_limits(finding.evidence, name, record.names()))
            charts.append(Chart(_title(name), lines, limits=limits, span=finding.steps))
        if len(charts) == most:
            break
    return charts


def series_of(item: Evidence, names: Sequence[str]) -> str:
    """The series in whose unit an evidence is measured, "" where its name does not say."""
    if item.name in names:
        return item.name
    said = " ".join(word for word in item.name.split() if word not in AGGREGATES)
    for start, name in SERIES_OF.items():
        if said.startswith(start) and name in names:
            return name
    spoken = {re.sub(r"[/_]", " ", name): name for name in names}
    return spoken.get(said, "")


def course(records: Sequence[Record]) -> Iterator[Chart]:
    """The charts of the course of a run: every whole-model series that COURSE names, streams together."""
    for section, title, names in COURSE:
        lines = [line for name in names for record in records for line in _whole(record, name, records)]
        if lines:
            yield _as_many_as_fit(title, lines, section)


def rest(records: Sequence[Record]) -> Iterator[Chart]:
    """Whole-model series that no other chart shows, so that a new instrument is seen at once."""
    known = {name for _, _, names in COURSE for name in names} | set(DULL)
    for name in dict.fromkeys(name for record in records for name in record.names()):
        if name in known or name.startswith(
            ("activation/", "input/", "target/", "eval/", "hyper/", "logits/")
        ):
            continue
        lines = [
            line for record in records if "" in record.wheres(name) for line in _lines(record, name, ("",))
        ]
        if lines:
            yield _as_many_as_fit(name, lines, "more")


def _as_many_as_fit(title: str, lines: Sequence[Line], section: str) -> Chart:
    """A chart of as many lines as there are colours; its title says where there are more."""
    more = f" ({MOST_INKS} of {len(lines)} curves)" if len(lines) > MOST_INKS else ""
    return Chart(title + more, tuple(lines[:MOST_INKS]), section)


def _whole(record: Record, name: str, records: Sequence[Record]) -> Iterator[Line]:
    """The lines of a series for the whole model, or for each loader or group."""
    wheres = record.wheres(name)
    several = f"{clean(record.stream, longest=30)}: " if len(records) > 1 else ""
    for where in ("",) if "" in wheres else wheres[:MOST_LINES]:
        for line in _lines(record, name, (where,)):
            label = line.label if line.column >= 0 or where else _spoken(name)
            place = f"{_spoken(name)}, {label}" if where else label
            yield Line(record, name, where, several + place, line.column)


def _lines(record: Record, name: str, wheres: Iterable[str]) -> tuple[Line, ...]:
    found: list[Line] = []
    for where in wheres:
        label = clean(where, longest=60) if where else _spoken(name)
        width = record.width(name, where)
        if not width:
            steps, *_ = record.overview(name, where, bins=1)  # long ones need not be opened for it
            found += [Line(record, name, where, label)] if len(steps) else []
        elif name == "examples/loss_quantiles" and width == 11:
            found += [Line(record, name, where, text, column) for column, text in QUANTILE_COLUMNS]
    return tuple(found[: max(MOST_LINES, len(QUANTILE_COLUMNS))])


def _places_of(finding: Finding, record: Record, name: str) -> list[str]:
    """Where to look at a series for a finding: its own places, else the whole model, else the first few."""
    wheres = record.wheres(name)
    wanted = [place for place in finding.where if place] + [
        item.where for item in finding.evidence if item.where
    ]
    hits = [w for w in wheres if w in wanted]
    hits = hits or [
        w for w in wheres if any(w.startswith(f"{p}.") or p.startswith(f"{w}.") for p in wanted if w)
    ]
    return (hits or ([""] if "" in wheres else list(wheres)))[:MOST_LINES]


def _limits(evidence: Iterable[Evidence], name: str, names: Sequence[str]) -> Iterator[tuple[float, str]]:
    drawn = set()
    for item in evidence:
        if series_of(item, names) == name and math.isfinite(item.limit) and item.limit not in drawn:
            drawn.add(item.limit)
            yield item.limit, f"limit {amount(item.name, item.limit)}"


def _title(name: str) -> str:
    """The title of a chart of one series: how COURSE calls it, else its label."""
    titles = {names[0]: title for _, title, names in COURSE}
    spoken = TITLES.get(name) or titles.get(name) or name.replace("/", ": ").replace("_", " ")
    return spoken[:1].upper() + spoken[1:]


def _spoken(name: str) -> str:
    """The name of a series as the label of a line."""
    return SPOKEN.get(name) or name.partition("/")[2].replace("_", " ")
