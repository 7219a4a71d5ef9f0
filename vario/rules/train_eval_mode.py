"""Dropout or BatchNorm is in the wrong mode.

What it means: without ``model.eval()`` an evaluation drops units at random, normalises by its own batch,
and writes test data into BatchNorm's averages; its figures are noisy and pessimistic. Without a
``model.train()`` afterwards, training goes on with dropout off and frozen averages.
How it is decided: ``mode/eval_share`` (modules in train mode at forwards that feed an evaluation loss)
is above 0 (those put back into it within a model in eval mode are meant, as Monte Carlo dropout is), or
``mode/train_share`` falls to 0 and stays there after having been above it. Dropout that was never on is
found too. BatchNorm that was never on is how trained backbones are frozen on purpose, and is
found only where its scales start as they are made, all at 1: its averages are then of no data at all.
A forward without gradient on a few batches' worth of examples, at every other training step or more often, is
part of the training (a choice of hard examples, a teacher's answers) and no evaluation.
Not applicable: the model has no such module, or no mode was read.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import exactly, finite
from vario.rules._examples import batch_size
from vario.rules._model import rows

ID = "train-eval-mode"
CARD = {
    "papers": (),
    "reads": ("mode/train_share", "mode/eval_share", "eval/loss", "eval/accuracy"),
    "checked": "closed form",
    "changed": "",
    "harm": True,
    "summary": "Modules whose work depends on the mode were in the wrong one: in train mode at "
    "{evaluations in train mode:%} "
    "of the evaluations, in eval mode at {steps in eval mode:%} of the training steps.",
}


def check(
    record: Record,
    *,
    wrong: float = 0.0,  # one forward in the wrong mode is a mistake
    lasting: int = 3,  # training steps, which make it the rule and not a probe
) -> Finding | None:
    """A finding where an evaluation ran in train mode, or training in eval mode."""
    kinds = sorted({*record.wheres("mode/train_share"), *record.wheres("mode/eval_share")})
    if not kinds:
        raise NotApplicable("no module of the model depends on train or eval mode, or none was read")
    evaluated = any(not _is_part_of_training(record, where) for where in record.wheres("eval/examples"))
    evidence: list[Evidence] = []
    spans: list[tuple[int, int]] = []
    where: list[str] = []
    for kind in kinds:
        if "Dropout" in kind and _never_drops(record, kind):
            continue
        for name, (steps, mask) in _mistakes(record, kind, evaluated, wrong, lasting).items():
            # Training is read more often at its start, so a reading stands for the steps until the next.
            stands = np.diff(steps, append=max(record.step_count, int(steps[-1]) + 1))
            part = float(np.average(mask, weights=stands if name.startswith("steps") else None))
            evidence.append(exactly(name, part, wrong, kind))
            spans.append((int(steps[mask][0]), int(steps[mask][-1])))
            where.append(kind)
    if not evidence:
        return None
    # What was not found is said as 0, so that the sentence can name both.
    for name in ("evaluations in train mode", "steps in eval mode"):
        if name not in {e.name for e in evidence}:
            evidence.append(exactly(name, 0.0, wrong))
    span = (min(s for s, _ in spans), max(e for _, e in spans))
    return Finding(ID, "warning", 0.95, tuple(dict.fromkeys(where)), span, tuple(evidence))


def _mistakes(
    record: Record, kind: str, evaluated: bool, wrong: float, lasting: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where modules of one class were in the wrong mode: the steps, and whether it was wrong at each."""
    found = {}
    steps, at_eval = finite(*record.series("mode/eval_share", kind))
    if evaluated and (at_eval > wrong).any():
        found["evaluations in train mode"] = (steps, at_eval > wrong)
    steps, at_train = finite(*record.series("mode/train_share", kind))
    off = at_train <= wrong
    meant = "Dropout" not in kind and off.all() and not _is_fresh(record, kind)
    if len(off) >= lasting and off[-lasting:].all() and not meant:
        found["steps in eval mode"] = (steps, off)
    return found


def _is_part_of_training(
    record: Record,
    where: str,
    *,
    often: float = 0.5,
    steps: int = 20,
    few: float = 4.0,  # batches: a teacher is asked about more examples than there are labels to learn from
) -> bool:
    """Whether the passes come as often as training steps do, and hold no more than a few batches each."""
    at, examples = finite(*record.series("eval/examples", where))
    epochs = {event.step for event in record.events("epoch")}
    # Where one step is an epoch, people do evaluate after each. Without a loader equal inputs tell it.
    inputs = finite(*record.series("input/mean"))[1]
    same = len(inputs) > 1 and bool((inputs == inputs[0]).all())
    whole = same or len(epochs) >= 0.9 * record.step_count
    drawn = [float(e.data.get("batch_size") or 0) for e in record.events("loader") if e.where == where]
    small = len(at) > 0 and float(np.median(examples)) <= few * max(batch_size(record), *drawn, 0.0)
    return small and not whole and record.step_count >= steps and len(at) > often * record.step_count


def _never_drops(record: Record, kind: str) -> bool:
    """Whether every dropout of this class has p = 0, so that its mode makes no difference."""
    rates = [float(m["p"]) for m in rows(record, "modules") if m.get("class") == kind and "p" in m]
    return bool(rates) and max(rates) == 0


def _is_fresh(record: Record, kind: str, *, off: float = 0.05) -> bool:
    """Whether the scales of all norms of this class start at 1, give or take the first steps."""
    names = [str(m.get("name", "")) for m in rows(record, "modules") if m.get("class") == kind]
    sizes = {str(p["name"]): float(np.prod(p["shape"])) for p in rows(record, "parameters")}
    scales = [f"{name}.weight" for name in names if f"{name}.weight" in sizes]
    first: list[bool] = []
    for scale in scales:
        norm = finite(*record.series("weight/norm", scale))[1]
        spread = finite(*record.series("weight/std", scale))[1]
        if len(norm) and len(spread):
            usual = float(norm[0]) / np.sqrt(sizes[scale])
            first.append(abs(usual - 1) < off and float(spread[0]) < off)
    return bool(first) and all(first)
