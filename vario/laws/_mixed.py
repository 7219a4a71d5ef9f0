"""What a table may mix: runs of several families, sweeps of something else at one size, checkpoints.

One law over two data sets, or over good and bad learning rates, has an answer that is right for neither.
Neither is refused, since replicates by seed look alike: what differs, by how much, and the option that takes
one part are told. So it is with rows that may be checkpoints of a few runs: they look like a grid of runs,
but what one run is off by, all of its checkpoints are.

On fifteen tables of checkpoints of four to seven sizes (eight had no part in anything) intervals of the next
size cover .87 at a median width of 7 %, with --block N .98 at 19 %. Where rows are runs it only costs width
(38 known tables are covered alike either way, at a fifth more width), so it is not done unasked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.laws import _table as table_of
from vario.laws._newton import Array
from vario.laws._refusal import Caution
from vario.laws.fit import Fit

FEW, MANY = 3, 12  # rows that each of the parts must have, and parts beyond which a column names runs
APART = 10.0  # F statistic of the residuals between the parts
FELT = 0.005  # of the loss: what differs by less changes no decision
SWEPT = 0.02  # of the loss: seeds of one run differ by less
SETS = 1.1  # evaluations of one held-out set, in batches of several sizes, differ by less
COURSE = 8  # lengths of training at one size: as many are rarely begun anew, and soon saved


def labels(whole: table_of.Columns, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """The columns of text that sort ``rows`` (numbers from 1) into a few parts of several rows."""
    found = {}
    for name, column in whole.items():
        if column.dtype.kind in "UO":
            part = column[rows - 1].astype(str)
            counts = np.unique(part, return_counts=True)[1]
            if 2 <= len(counts) <= MANY and counts.min() >= FEW:
                found[name] = part
    return found


def unlike(whole: table_of.Columns, rows: NDArray[np.intp], output: str) -> list[Caution]:
    """Cautions where losses of ``rows`` are no measure of one thing: two vocabularies, two held-out sets.

    By the columns ``classes`` and ``eval_examples`` of records (`vario plan table`), where there are such;
    the second tells of their column ``loss`` alone, where ``output`` is that.
    """
    kept = {name: np.asarray(whole[name][rows - 1], float) for name in ("classes", "eval_examples")
            if name in whole and whole[name].dtype.kind in "fiu"}  # fmt: skip
    texts = []
    known = kept.get("classes", np.empty(0))
    classes, count = np.unique(known[np.isfinite(known)], return_counts=True)
    if len(classes) > 1:
        texts.append(
            f"the losses are over {', '.join(f'{one:g}' for one in classes)} classes (another tokenizer, or "
            f"other labels): fit one at a time, --where 'classes == {classes[count.argmax()]:g}'"
        )
    seen = kept.get("eval_examples", np.empty(0)) if output == "loss" else np.empty(0)
    held = np.isfinite(seen)
    if held.any() and not held.all():
        texts.append(
            f"{held.sum()} of {len(seen)} losses are of an evaluation, the others of training: fit one kind, "
            f"--where 'isfinite(eval_examples)', or --columns loss=loss_train"
        )
    if held.any() and seen[held].max() > SETS * seen[held].min():
        texts.append(
            f"evaluations are of {seen[held].min():g} to {seen[held].max():g} examples: losses of several "
            f"held-out sets do not compare"
        )
    return [Caution("losses-differ", text) for text in texts]


def families(done: Fit, parts: Mapping[str, NDArray[Any]]) -> list[Caution]:
    """A caution where one law lies above one part of the rows and below another; the clearest column."""
    worst: tuple[float, str, float] | None = None
    for name, part in parts.items():
        group = np.unique(part, return_inverse=True)[1]
        count = np.bincount(group)
        mean = np.bincount(group, done.residuals) / count
        within = float(((done.residuals - mean[group]) ** 2).sum()) / max(len(group) - len(count), 1)
        between = float((count * (mean - done.residuals.mean()) ** 2).sum()) / (len(count) - 1)
        ratio, apart = between / max(within, 1e-300), float(np.ptp(mean))
        if ratio > APART and apart > FELT and (worst is None or ratio > worst[0]):
            worst = (ratio, name, apart)
    if worst is None:
        return []
    _, name, apart = worst
    values = np.unique(parts[name])
    column = name if name.isidentifier() else f"`{name}`"
    text = (
        f"the rows of {', '.join(values)} (column {name}) lie {100 * apart:.2g} % apart from one another "
        f"around one law: fit them one at a time, --where '{column} == \"{values[0]}\"'"
    )
    return [Caution("several-families", text)]


def sweeps(done: Fit) -> list[Caution]:
    """A caution where most sizes were run several times with losses further apart than seeds leave them."""
    cells, group = np.unique(np.round(done.x, 9), axis=1, return_inverse=True)
    group = group.reshape(-1)
    count = np.bincount(group)
    if done.law.link != "log" or 2 * (count[group] >= FEW).sum() < len(group):
        return []
    wide = np.array([np.ptp(done.y[group == one]) for one in np.flatnonzero(count >= FEW)])
    if np.median(wide) < SWEPT:
        return []
    text = (
        f"{len(wide)} of {cells.shape[1]} sizes have {FEW} rows or more whose {done.law.output} differs by "
        f"{100 * np.median(wide):.2g} %: a sweep of something else. --best keeps the lowest of each size"
    )
    return [Caution("swept", text)]


def courses(done: Fit) -> list[Caution]:
    """A caution where most rows share their size with so many others that they may be one run's course."""
    if done.law.inputs[:2] != ("N", "D"):
        return []
    pairs = np.unique(np.round(done.x[:2], 9), axis=1)
    count = np.unique(pairs[0], return_counts=True)[1]
    if 2 * count[count >= COURSE].sum() < pairs.shape[1]:
        return []
    text = (
        f"{pairs.shape[1]} rows have {len(count)} values of N: checkpoints of a few runs are no separate "
        f"evidence. If they are, --block COLUMN (what names the run, or N's own) counts the runs in place of "
        f"the rows"
    )
    return [Caution("may-be-checkpoints", text)]


def lowest(inputs: list[Array], output: Array) -> NDArray[np.intp]:
    """Places of the row with the lowest output for each combination of inputs, in order."""
    group = np.unique(np.stack(inputs), axis=1, return_inverse=True)[1].reshape(-1)
    order = np.lexsort((output, group))
    first = np.concatenate([[True], np.diff(group[order]) > 0])
    return np.sort(order[first])
