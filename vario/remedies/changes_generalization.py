"""Plain changes of regularization and capacity: what to hold back, what to let go, when to stop."""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.remedies import changes_rate
from vario.remedies.changes import Change, Maker, evidence, hyper, median, modules, optimizer, within
from vario.remedies.figures import number, percent, rounded, setting
from vario.rules._model import dropouts

__all__ = ["MAKERS"]

ONE_EPOCH, STABLEMAX, TEMPERATURE, HOLDOUT, TILT = "P078", "P064", "P074", "P032", "P069"


def weight_decay(finding: Finding, record: Record) -> list[Change]:
    decay, lr = hyper(record, "weight_decay"), hyper(record, "lr")
    weight, update = (
        median(record, "weight/norm", finding.steps),
        median(record, "update/norm", finding.steps),
    )
    if not decay > 0:
        return [Change("lower weight_decay tenfold; its value was not recorded, so no number is given")]
    seen = evidence(finding, "pull of the decay")
    if seen and seen.value > 0 and np.isfinite(seen.limit):
        goal = min(rounded(0.1 * seen.limit * decay / seen.value), rounded(decay / 3))
        beside = "gradient" if seen.limit >= 0.5 else "whole update"  # of the decay in it, and apart from it
        why = (
            f"its pull is {number(seen.value)} times the {beside} while the weights shrink; then it is about"
            f" {number(0.1 * seen.limit)}"
        )
        return [_decay(decay, goal, why)]
    pull = lr * decay * weight / update if update > 0 else float("nan")
    if pull > 0.1:
        goal = min(rounded(0.1 * decay / pull), rounded(decay / 3))
        why = (
            f"decay alone pulls {percent(pull)} of a whole update (lr x decay x weight norm over update"
            " norm); then about a tenth"
        )
    else:
        goal, why = rounded(decay / 10), "one step of ten, no estimate"
    return [_decay(decay, goal, why)]


def excessive(finding: Finding, record: Record) -> list[Change]:
    changes = []
    dropout = {name: p for name, p in dropouts(record).items() if p > 0.1}
    if dropout:
        name, p = max(dropout.items(), key=lambda item: item[1])
        more = f" and {len(dropout) - 1} more" if len(dropout) > 1 else ""
        goal = max(round(p / 2, 1), 0.1)
        changes.append(
            Change(
                f"dropout {setting(p)} -> {setting(goal)} ({name or 'the model'}{more}):"
                " the model cannot fit its training data",
                _weaker_dropout(record, goal),
            )
        )
    decay = hyper(record, "weight_decay")
    if decay > 0:
        changes.append(
            _decay(
                decay, rounded(decay / 10), "one step of ten, no estimate: training accuracy is what it costs"
            )
        )
    return changes or [
        Change("look for noise put into inputs or labels (augmentation, label smoothing, mixup) and lower it")
    ]


def underfitting(finding: Finding, record: Record) -> list[Change]:
    if any(item.name == "targets beside each output" for item in finding.evidence):
        return [
            Change(
                "give the loss outputs and targets of one shape: `output.squeeze(-1)`, or"
                " `target.unsqueeze(-1)`"
            )
        ]
    steps, loss = record.series("loss/train")
    loss, steps = loss[np.isfinite(loss)], steps[np.isfinite(loss)]
    changes = []
    if len(loss) >= 20:
        late = loss[-len(loss) // 5 :]
        half = len(late) // 2
        fall = float(late[:half].mean() - late[half:].mean())
        error = float(np.sqrt(late[:half].var() / half + late[half:].var() / (len(late) - half)))
        if fall > 2 * error:
            changes.append(
                Change(
                    f"train longer: the loss still fell by {number(fall)} (standard error"
                    f" {number(error)}) between the two"
                    " halves of the last fifth of the run"
                )
            )
    changes.append(
        Change("a wider or deeper model; first see that it can fit one fixed batch to a loss near zero")
    )
    return changes + [change for change in changes_rate.plateau(finding, record) if change.setting]


def overfitting(finding: Finding, record: Record) -> list[Change]:
    changes = []
    best = _best_evaluation(record)
    if best:
        step, loss, last = best
        if last > loss:
            changes.append(
                Change(
                    f"keep the weights of step {step}: the evaluation loss was {number(loss)} there and"
                    f" is {number(last)} at the end",
                    f"schedule.stop_after={step + 1}",  # steps are counted from 0
                )
            )
    decay = hyper(record, "weight_decay")
    if not dropouts(record):
        changes.append(
            Change(
                "add dropout (0.1 to 0.3 are the usual first tries) or augment the inputs: the model has"
                " no dropout"
            )
        )
    if decay >= 0:
        changes.append(_more_decay(record, decay))
    return changes


def _more_decay(record: Record, decay: float) -> Change:
    """Decay that forgets within the run where it acts apart from the gradient's size; else a first try.

    Weights shrink by the factor 1 - lr x decay each step, so a decay of 1 / (lr x steps) forgets the start
    within the run; a much smaller one does nothing in it (Wang and Aitchison, 2024).
    """
    rates = within(record, "hyper/lr", (-1, 2**62), next(iter(sorted(record.wheres("hyper/lr"))), ""))
    forgets = 1 / (float(rates.mean()) * record.step_count) if len(rates) and rates.mean() > 0 else 0.0
    direct = optimizer(record) in ("SGD", "AdamW")
    if direct and forgets > 2 * decay and record.step_count:
        why = (
            f"over {record.step_count} steps at this lr, decay shrinks weights by half only from about there"
        )
        return _decay(decay, rounded(forgets), why)
    if decay > 0:
        return _decay(decay, rounded(3 * decay), "one step of three, no estimate")
    return _decay(0.0, 0.01, "a usual first value, no estimate")


def memorization(finding: Finding, record: Record) -> list[Change]:
    changes = overfitting(finding, record)
    repeat = median(record, "data/repeat_share", finding.steps)
    if repeat > 0:
        changes.append(
            Change(
                f"see each example less often: {percent(repeat)} of a batch had been seen in an earlier"
                " epoch",
                paper=ONE_EPOCH,
            )
        )
    return changes


def overconfidence(finding: Finding, record: Record) -> list[Change]:
    return [
        Change(
            "divide the logits by one temperature fitted on held-out data: changes no prediction, only"
            " how sure it is",
            paper=TEMPERATURE,
        ),
        Change(
            "cross_entropy(..., label_smoothing=0.1): a usual first value, no estimate",
            "loss.label_smoothing=0.1",
        ),
        *[change for change in overfitting(finding, record) if change.text.startswith("keep the weights")],
    ]


def catastrophic(finding: Finding, record: Record) -> list[Change]:
    return [
        Change(
            f"stop before step {finding.steps[0]} and keep those weights: robustness was lost within a"
            " few steps there",
            f"schedule.stop_after={finding.steps[0]}" if finding.steps[0] > 0 else "",
            TILT,
        ),
        Change(
            "attack with more than one step, or start the one step at a random point of the ball", paper=TILT
        ),
    ]


def delayed(finding: Finding, record: Record) -> list[Change]:
    decay = hyper(record, "weight_decay")
    changes = []
    if decay >= 0:
        goal = rounded(3 * decay) if decay > 0 else 0.1
        changes.append(
            _decay(
                decay,
                goal,
                "one step of three, no estimate: smaller weights end the memorizing solution sooner",
            )
        )
    changes.append(
        Change(
            "compute the loss in float64 or with StableMax: rounding in softmax can stop the late learning",
            "loss.float64=true",
            STABLEMAX,
        )
    )
    return changes


def holdout(finding: Finding, record: Record) -> list[Change]:
    looks = max(
        (len(record.series("eval/loss", where)[0]) for where in record.wheres("eval/loss")), default=0
    )
    seen = f": it was looked at {looks} times in this run" if looks else ""
    return [
        Change(f"keep one test set that is looked at once, at the very end{seen}"),
        Change(
            "or answer questions to the held-out set with noise (Thresholdout), which keeps it valid for"
            " many looks",
            paper=HOLDOUT,
        ),
    ]


def shortcut(finding: Finding, record: Record) -> list[Change]:
    return [
        Change(
            "look at the worst group: split the evaluation by the feature that is suspected (background,"
            " length, source)"
        ),
        Change(
            "break the link between that feature and the label: crop, mask or balance it, and see"
            " whether accuracy holds"
        ),
    ]


def not_identified(finding: Finding, record: Record) -> list[Change]:
    open_ones = [item for item in finding.evidence if item.low < item.value < item.high]
    named = "; ".join(
        f"{item.name} lies between {number(item.low)} and {number(item.high)}" for item in open_ones[:3]
    )
    return [
        Change(
            "measure longer, on more examples or more often (vario run --overhead 10% gives the instruments"
            f" more time){': ' + named if named else ''}"
        )
    ]


def _weaker_dropout(record: Record, goal: float) -> str:
    """The setting that brings the dropout modules of the one class there is to ``goal``; "" else."""
    kinds = {str(row["class"]): float(row["p"]) for row in modules(record, "Dropout") if "p" in row}
    weaker = [float(row["p"]) for row in modules(record, "Dropout") if float(row.get("p", 1.0)) < goal]
    return f"layer.{next(iter(kinds))}.p={setting(goal)}" if len(kinds) == 1 and not weaker else ""


def _decay(old: float, new: float, why: str) -> Change:
    return Change(
        f"weight_decay {setting(old)} -> {setting(new)}: {why}", f"optimizer.weight_decay={setting(new)}"
    )


def _best_evaluation(record: Record) -> tuple[int, float, float] | None:
    """Step and loss of the best evaluation, and the last loss, of the loader that was asked most often."""
    wheres = record.wheres("eval/loss")
    if not wheres:
        return None
    where = max(wheres, key=lambda w: len(record.series("eval/loss", w)[0]))
    steps, loss = record.series("eval/loss", where)
    keep = np.isfinite(loss)
    if keep.sum() < 2:
        return None
    steps, loss = steps[keep], loss[keep]
    best = int(loss.argmin())
    return int(steps[best]), float(loss[best]), float(loss[-1])


MAKERS: dict[str, Maker] = {
    "weight-decay-dominates": weight_decay,
    "excessive-regularization": excessive,
    "underfitting": underfitting,
    "overfitting": overfitting,
    "memorization": memorization,
    "overconfidence": overconfidence,
    "catastrophic-overfitting": catastrophic,
    "delayed-generalization": delayed,
    "holdout-overuse": holdout,
    "shortcut-features": shortcut,
    "not-identified": not_identified,
}
