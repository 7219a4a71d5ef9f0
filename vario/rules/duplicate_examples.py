"""The same examples come several times in one epoch.

What it means: equal rows count double in the loss, fill memory with nothing new, and, when data are split
after they were doubled, put training rows into the test set.
How it is decided: the share of rows of a batch that had been seen earlier in the same epoch, mean over the
run, by hash; the low end of its interval must pass 0.02. Advice: no loss fails to fall because rows come
again, and the harm that copies do (leaks, memory, overfitting) is told by itself. Not raised where the
loader draws with replacement, or more rows in one epoch than there are: both repeat rows on purpose.
Without a loader: the share of the rows of the script's own table that are copies of earlier ones, where
batches held some row twice (batches drawn with replacement do as well, but from a table without copies).
Not applicable: rows could not be hashed, or too few steps were read for 200 rows; without a loader, no
variable of the script holds the rows as the model is given them.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import Estimate, Steps, finite
from vario.rules._examples import batch_size, graded, rate
from vario.rules._model import training_loaders

ID = "duplicate-examples"
CARD = {
    "papers": (),
    "reads": (
        "data/duplicate_share",
        "data/repeat_share",
        "data/twice_share",
        "batch/size",
        "loss/backwards",
    ),
    "checked": "closed form",
    "changed": "",
    "summary": "{share of repeated rows} of the training rows had been seen before in the same epoch.",
}
REPEATS_ON_PURPOSE = ("WeightedRandomSampler",)


def check(
    record: Record,
    *,
    least: float = 0.02,  # real tables and corpora hold a per cent or so of equal rows
    clear: float = 0.2,
    rows: int = 200,
) -> Finding | None:
    """A finding where more rows repeat within an epoch than data usually hold."""
    loaders = training_loaders(record)
    samplers = {str(loader.get("sampler", "")) for loader in loaders}
    if any(name.endswith(REPEATS_ON_PURPOSE) for name in samplers) or any(
        loader.get("replacement") for loader in loaders
    ):
        return None
    if _goes_round(record):
        return None
    found, steps = _of_table(record) if record.events("table") else _of_epochs(record, rows)
    if found.low <= least:
        return None
    sure = graded(found.low, least, clear, least=0.7)
    evidence = (found.evidence("share of repeated rows", least),)
    return Finding(ID, "advice", sure, (), (int(steps[0]), int(steps[-1])), evidence)


def _of_epochs(record: Record, rows: int) -> tuple[Estimate, Steps]:
    """Share of rows that had been seen before in the epoch, as the loader gave them."""
    steps, values = finite(*record.need("data/duplicate_share"))
    size = batch_size(record)
    count = len(values) * (size if size >= 1 else 1)
    if count < rows:
        raise NotApplicable(f"{count:.0f} rows were hashed; {rows} are needed")
    # Rows of later epochs are the same again, so they are no new witnesses.
    repeats = finite(*record.series("data/repeat_share"))[1]
    fresh = max(float((1 - repeats).mean()), 1 / len(values)) if len(repeats) else 1.0
    return rate(float(values.mean()), max(count * fresh, 1)), steps


def _of_table(record: Record) -> tuple[Estimate, Steps]:
    """Share of copies in the table that the script takes its batches from; 0 where batches show none.

    Of several variables that hold the rows it is the one with most copies: batches have shown some.
    """
    steps, twice = finite(*record.need("data/twice_share"))
    tables = [(float(e.data["copies"]), float(e.data["rows"])) for e in record.events("table")]
    copies, rows = max(tables, key=lambda table: table[0] / table[1])
    return rate(copies / rows if twice.any() else 0.0, rows), steps


def _goes_round(record: Record) -> bool:
    """Whether a loader gave more rows in one epoch than its data have (the last batch may be small)."""
    for event in record.events("loader"):
        epochs = [e for e in record.events("epoch") if e.where == event.where and e.step is not None]
        starts = [e.step for e in epochs if e.step is not None]
        batches = [float(e.data["batches_before"]) for e in epochs if e.data.get("batches_before")]
        # Epochs may be told late, so what was counted is asked before the steps between them.
        steps = float(np.diff(sorted({*starts, record.step_count})).max(initial=0)) if starts else 0.0
        longest = max(batches) if batches else steps * _passes(record)
        # What the loader gives; the model may be given it twice at once, as of two views.
        each = float(event.data.get("batch_size") or np.nan_to_num(batch_size(record)))
        if (longest - 1) * each >= float(event.data.get("length") or np.inf):
            return True
    return False


def _passes(record: Record) -> float:
    backwards = finite(*record.series("loss/backwards"))[1]
    return max(float(np.median(backwards)), 1.0) if len(backwards) else 1.0
