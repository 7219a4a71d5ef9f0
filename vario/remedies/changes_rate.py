"""Plain changes of the learning rate and its schedule, with the numbers that the run gives for them."""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.remedies.changes import Change, Maker, event_rows, evidence, hyper, median, steps_per_epoch, within
from vario.remedies.figures import number, percent, rounded, setting

__all__ = ["MAKERS"]

# Update over weight per step of nets that train well: about a thousandth, a factor of three either way
# (Goodfellow et al., Deep Learning; Karpathy's course notes). Beyond these ends it is called unusual.
USUAL_LOW, USUAL_HIGH = 0.001, 0.01
LINEAR_WARMUP = "P248"  # gradual warm-up over the first five epochs
WARMUP_EPOCHS = 5  # of 90; of a short run a tenth is taken


def too_high(finding: Finding, record: Record) -> list[Change]:
    lr, seen = hyper(record, "lr"), evidence(finding, "learning rate")
    changes = [_scaled(lr, _ratio(finding, record), down=True, at=seen.value if seen else lr)]
    epoch = steps_per_epoch(record)
    steps = min(WARMUP_EPOCHS * epoch, record.step_count // 10)
    if steps > 0 and finding.steps[0] < epoch:
        why = f"{number(steps / epoch)} epochs of {epoch}"
        changes.append(
            Change(
                f"raise lr linearly to its value over the first {steps} steps ({why}): it was too high"
                " already in the first epoch",
                f"schedule.warmup_steps={steps}",
                LINEAR_WARMUP,
            )
        )
    return changes


def too_low(finding: Finding, record: Record) -> list[Change]:
    return [_scaled(hyper(record, "lr"), _ratio(finding, record), down=False)]


def diverging(finding: Finding, record: Record) -> list[Change]:
    start = finding.steps[0]
    changes = [_scaled(hyper(record, "lr"), _ratio(finding, record), down=True)]
    norm = median(record, "gradient/norm", (0, max(start - 1, 0)))
    if start > 0 and norm > 0:
        changes.append(
            Change(
                f"clip the gradient norm at {setting(rounded(norm))}: {number(norm)} is its median before"
                f" step {start},"
                " where the loss turned",
                f"gradient.clip_norm={setting(rounded(norm))}",
            )
        )
    return changes


def decayed_too_early(finding: Finding, record: Record) -> list[Change]:
    changes = []
    epoch = steps_per_epoch(record)
    for data in event_rows(record, "scheduler"):
        per_epoch = data.get("steps_per_epoch", data.get("stepped_per_epoch"))
        if isinstance(per_epoch, int | float) and per_epoch >= 1.5:  # once, or a pass begun at the end
            changes.append(
                Change(
                    f"call scheduler.step() of {data.get('class', 'the schedule')} once per epoch, or"
                    " count its length"
                    f" in steps: it was stepped {number(per_epoch)} times per epoch",
                    f"schedule.slower={round(per_epoch)}",
                )
            )
    fell = _first_below_a_tenth(record)
    if fell:
        step, peak = fell
        of = f" ({number(step / epoch)} epochs)" if epoch else ""
        slower = round(record.step_count / (step + 1))
        changes.append(
            Change(
                f"stretch the schedule to the {record.step_count} steps of the run: lr fell below a tenth of"
                f" its peak {number(peak)} at step {step}{of},"
                f" {percent((step + 1) / record.step_count)} of the way",
                f"schedule.slower={slower}" if slower > 1 else "",
            )
        )
    return list(dict.fromkeys(changes)) or [
        Change("look at the schedule: keep lr at its peak while the training loss still falls")
    ]


def plateau(finding: Finding, record: Record) -> list[Change]:
    ratio = _ratio(finding, record)
    lr = hyper(record, "lr")
    look = Change(
        "train on one fixed batch: if its loss does not fall to near zero, the model, the loss or the"
        " labels are"
        " wrong, not the learning rate"
    )
    if not lr > 0:
        return [look]
    if ratio < USUAL_LOW:
        return [_scaled(lr, ratio, down=False), look]
    if ratio > USUAL_HIGH:
        return [_scaled(lr, ratio, down=True), look]
    return [look]


def oscillating(finding: Finding, record: Record) -> list[Change]:
    lr = hyper(record, "lr")
    changes = [_scaled(lr, _ratio(finding, record), down=True)]
    momentum = hyper(record, "momentum")
    if momentum >= 0.95:
        changes.append(
            Change(
                f"momentum {setting(momentum)} -> 0.9: a step lives on for about"
                f" {number(1 / (1 - momentum))} steps,"
                " at 0.9 for 10, so it swings back sooner",
                "optimizer.momentum=0.9",
            )
        )
    return changes


def _first_below_a_tenth(record: Record) -> tuple[int, float] | None:
    """The step where lr first fell below a tenth of its highest value, and that value."""
    wheres = record.wheres("hyper/lr")
    if not wheres:
        return None
    steps, values = record.series("hyper/lr", sorted(wheres)[0])
    small = np.flatnonzero(values < 0.1 * values.max())
    return (int(steps[small[0]]), float(values.max())) if len(small) else None


def _ratio(finding: Finding, record: Record) -> float:
    """Update over weight per step: as the finding saw it, else the median where it holds, else of the run."""
    seen = evidence(finding, "update ratio before") or evidence(finding, "update ratio")
    if seen and np.isfinite(seen.value):
        return seen.value
    values = within(record, "update/ratio", finding.steps)
    return float(np.median(values)) if len(values) else median(record, "update/ratio")


def _scaled(lr: float, ratio: float, *, down: bool, at: float = np.inf) -> Change:
    """The rate brought to the near end of the usual range; by a third where the ratio is usual already.

    ``at`` is the rate of the steps with this ratio, where that is another: a warm-up was under way.
    """
    goal = USUAL_HIGH if down else USUAL_LOW
    usual = f"{percent(USUAL_LOW)} to {percent(USUAL_HIGH)} is usual"
    if not (lr > 0 and np.isfinite(lr)):
        verb = "lower" if down else "raise"
        if ratio > goal if down else 0 < ratio < goal:  # updates by hand: the rate is in the script only
            return Change(
                f"multiply the learning rate by {setting(rounded(goal / ratio))}: the update is"
                f" {percent(ratio)} of the weight per step; {usual}"
            )
        return Change(f"{verb} the learning rate; its value was not recorded, so no number is given")
    beyond = ratio > goal if down else 0 < ratio < goal
    at = min(at, lr)
    new = rounded(at * goal / ratio) if beyond else lr
    if beyond and (new < lr if down else new > lr):
        then = f"at {setting(rounded(at))} " if at < lr else ""
        why = f"{then}the update is {percent(ratio)} of the weight per step; {usual}"
    else:
        new = rounded(lr / 3 if down else lr * 3)
        seen = (
            f"is {percent(ratio)} of the weight per step, about what is usual"
            if ratio > 0
            else "was not measured"
        )
        why = f"one step of three, no estimate: the update {seen}"
    return Change(f"lr {setting(lr)} -> {setting(new)}: {why}", f"optimizer.lr={setting(new)}")


MAKERS: dict[str, Maker] = {
    "learning-rate-too-high": too_high,
    "learning-rate-too-low": too_low,
    "learning-rate-decayed-too-early": decayed_too_early,
    "diverging": diverging,
    "loss-plateau": plateau,
    "oscillating-loss": oscillating,
}
