"""Runs as rows of a table, for fitting laws to them: what each was, how long it learned, what it reached."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import VarioError
from vario.record.reader import open_run
from vario.record.runs import list_runs
from vario.record.schema import FILE_NAME
from vario.record.stream import Record

__all__ = ["COLUMNS", "runs_table"]

COLUMNS = {
    "run": "id of the record",
    "script": "the command without its numbers: what it shares with the other sizes of one sweep",
    "params": "parameters of the model",
    "trained": "parameters that the optimizer moves",
    "embedding": "parameters in tables of embeddings, of which params counts each once",
    "steps": "optimizer steps",
    "batch": "targets of a step (examples, or tokens that count), the median over the steps that were read",
    "tokens": "steps x batch",
    "lr": "largest learning rate of any group",
    "loss": "last evaluation loss where the run had evaluations, else loss_train",
    "loss_train": "mean training loss over the last twentieth of the steps",
    "classes": "what the loss chooses among: classes, or the rows of the largest table of embeddings",
    "eval_examples": "examples (or tokens) of the last evaluation; none where loss is loss_train",
    "seconds": "steps x the median time of one: what probes and evaluations took is not in it",
}
WHY = {"running": "it is still running", "failed": "it failed", "killed": "it was killed"}
LAST = 20  # one part in so many of the steps is the end of the run


def runs_table(places: Sequence[Path]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The columns of ``COLUMNS``, a row per run, and the runs left out with the reason.

    A place is a record, a directory of records, or one with a directory ``.vario`` of records. Left out is
    what crashed, still runs, or has no loss.
    """
    found, left_out = [], {}
    for path in _records(places):
        try:
            found.append(_row(path))
        except VarioError as error:
            left_out[path.resolve().name] = str(error).rstrip(".")
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        where = ", ".join(map(str, places))
        raise VarioError(
            f"{where} holds no finished run with a loss" + (f" ({reasons})." if reasons else ".")
        )
    return {name: np.array([row[name] for row in found]) for name in COLUMNS}, left_out


def _records(places: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        kept = place / ".vario" if (place / ".vario").is_dir() else place
        inside = [] if (place / FILE_NAME).exists() else [run.path for run in list_runs(kept)]
        found += sorted(inside) or [place]
    return found


def _row(path: Path) -> dict[str, Any]:
    with open_run(path) as run:
        if run.status != "finished":
            raise VarioError(WHY.get(run.status, f"it is {run.status}"))
        record = run.main
        sizes = [p for event in record.events("parameters")[-1:] for p in event.data.get("parameters", ())]
        steps, losses = record.series("loss/train")
        if not len(losses):
            raise VarioError("no training loss was recorded")
        count = record.step_count
        end = losses[steps >= count - max(1, count // LAST)]
        trained = float(np.mean(end)) if len(end) else float(losses[-1])
        batch = _median(record, "batch/targets") or _median(record, "batch/size")
        evaluated, examples = _evaluation(record)
        rates = [record.series("hyper/lr", where)[1] for where in record.wheres("hyper/lr")]
        return {
            "run": path.name,
            "script": _script(run.meta.get("command", ())),
            "params": float(sum(prod(p["shape"]) for p in sizes)),
            "trained": float(sum(prod(p["shape"]) for p in sizes if p.get("in_optimizer"))),
            "embedding": float(_embedding(record, {p["name"]: p["shape"] for p in sizes})),
            "steps": float(count),
            "batch": batch,
            "tokens": count * batch,
            "lr": max((float(np.max(rate)) for rate in rates if len(rate)), default=np.nan),
            "loss": trained if np.isnan(evaluated) else evaluated,
            "loss_train": trained,
            "classes": _classes(record),
            "eval_examples": examples,
            "seconds": _seconds(record, count),
        }


def _embedding(record: Record, shapes: dict[str, list[int]]) -> int:
    """Numbers in the tables of embeddings; one that shares its weight goes by another parameter's name."""
    modules = [m for event in record.events("modules")[-1:] for m in event.data.get("modules", ())]
    tables = set()
    for module in modules:
        if "num_embeddings" in module:
            own, shape = f"{module['name']}.weight", [module["num_embeddings"], module["embedding_dim"]]
            tables |= {own} if own in shapes else {name for name in shapes if shapes[name] == shape}
    return sum(prod(shapes[name]) for name in tables)


def _median(record: Record, name: str) -> float:
    _, values = record.series(name)
    return float(np.median(values)) if len(values) else np.nan


def _evaluation(record: Record) -> tuple[float, float]:
    """Loss and examples of the last evaluation of the split that was evaluated most often."""
    wheres = [where for where in record.wheres("eval/loss") if len(record.series("eval/loss", where)[1])]
    if not wheres:
        return np.nan, np.nan
    longest = max(wheres, key=lambda where: len(record.series("eval/loss", where)[1]))
    return record.last("eval/loss", longest), record.last("eval/examples", longest)


def _classes(record: Record) -> float:
    _, counts = record.series("batch/class_counts")
    if counts.ndim == 2 and len(counts):
        return float(counts.shape[1])
    modules = [m for event in record.events("modules")[-1:] for m in event.data.get("modules", ())]
    return float(max((m["num_embeddings"] for m in modules if "num_embeddings" in m), default=np.nan))


def _script(command: Sequence[str]) -> str:
    """``train.py --data web`` of ``train.py --width 64 --data web --lr=0.1``."""
    kept: list[str] = []
    for word in map(str, command):
        if _is_number(word):
            if kept and kept[-1].startswith("-"):
                kept.pop()
        elif not _is_number(word.rpartition("=")[2]):
            kept.append(word)
    return " ".join(kept)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _seconds(record: Record, steps: int) -> float:
    """The median time of a step, times their number: a probe's own time is not the run's."""
    return _median(record, "time/step") * steps
