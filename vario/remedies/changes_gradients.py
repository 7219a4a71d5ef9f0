"""Plain changes against gradients that explode, vanish, spike, pile up or never reach a parameter."""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.remedies import changes_rate
from vario.remedies.changes import (
    Change,
    Maker,
    event_rows,
    exchange,
    hyper,
    in_common,
    listed,
    median,
    modules,
    place,
    sized,
    steps_alike,
    within,
)
from vario.remedies.figures import number, percent, rounded, setting
from vario.rules._examples import batch_size
from vario.rules._mixing import drawn_anew
from vario.rules._parameters import is_scaled
from vario.rules.gradient_spikes import spike_steps
from vario.rules.loss_spikes import spike_steps as loss_jumps

__all__ = ["MAKERS", "clip"]

BATCH_NORM, LAYER_NORM = "P321", "P202"
SATURATING = ("Sigmoid", "Tanh", "Softsign")
NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm")


def exploding(finding: Finding, record: Record) -> list[Change]:
    before = median(record, "gradient/norm", (0, max(finding.steps[0] - 1, 0)))
    changes = []
    if finding.steps[0] > 0 and before > 0:
        changes.append(clip(before, f"the median of the gradient norm before step {finding.steps[0]}"))
    if not modules(record, *NORMS):
        changes.append(
            Change(
                f"put LayerNorm or BatchNorm after {place(finding)}: the model has no normalization",
                paper=LAYER_NORM,
            )
        )
    return [*changes, *changes_rate.diverging(finding, record)[:1]]


def vanishing(finding: Finding, record: Record) -> list[Change]:
    changes = []
    saturating = modules(record, *SATURATING)
    if saturating:
        kinds = " and ".join(sorted({str(row["class"]) for row in saturating}))
        swap = exchange(record, "GELU", *SATURATING)
        places = f"{len(saturating)} place{'s' if len(saturating) > 1 else ''}"
        changes.append(
            Change(
                f"{kinds} -> GELU or ReLU in {places}, and first weights to match"
                " (nn.init.kaiming_normal_): the slope of a sigmoid is at most 0.25, that of a saturated tanh"
                " near 0, and slopes multiply from layer to layer",
                f"{swap}+start.fan_in=true" if swap else "",
            )
        )
    spread = _first_to_last(record)
    if spread:
        first, last, ratio = spread
        changes.append(
            Change(
                "initialize by fan-in (nn.init.kaiming_normal_ for ReLU, xavier_normal_ for tanh) and"
                " add skip"
                f" connections: the gradient of {first} is {number(ratio)} times that of {last}",
                "" if saturating else "start.fan_in=true",
            )
        )
    if not modules(record, *NORMS):
        changes.append(
            Change("put a normalization layer between the layers: the model has none", paper=BATCH_NORM)
        )
    return changes or [
        Change(f"look at the layers between the loss and {place(finding)}: where the gradient norm drops")
    ]


def gradient_spikes(finding: Finding, record: Record) -> list[Change]:
    return _spikes(finding, record, steps_alike(spike_steps(record)))


def _spikes(finding: Finding, record: Record, steps: str) -> list[Change]:
    norms = within(record, "gradient/norm", (0, 2**62))
    changes = []
    if len(norms) >= 20:
        usual = float(np.quantile(norms, 0.9))
        if usual > 0:
            changes.append(clip(usual, "what the gradient norm stays below on nine of ten steps"))
    if drawn_anew(record, batch_size(record)) is False:
        alike = (
            "all steps were about the same rows, so no batch is to blame: either something is drawn at random"
        )
        return [
            *changes,
            Change(f"{alike} in them (weights, noise, dropout), or a lower rate is due by then"),
        ]
    first, last = finding.steps
    steps = steps or (f"{first} to {last}" if last > first else str(first))
    batches = f"batch of step {steps}" if steps.isdigit() else f"batches of steps {steps}"
    changes.append(
        Change(f"look at the {batches}: a spike that comes back with the data is the data{in_common(record)}")
    )
    return changes


def loss_spikes(finding: Finding, record: Record) -> list[Change]:
    beta2 = hyper(record, "beta2")
    changes = _spikes(finding, record, steps_alike(loss_jumps(record)))
    if beta2 > 0.95:
        changes.insert(
            len(changes) - 1,
            Change(
                f"beta2 {setting(beta2)} -> 0.95: Adam's second moment looks back about"
                f" {number(1 / (1 - beta2))} steps,"
                " too slow to notice a gradient that grows within a few",
                "optimizer.betas=(0.9,0.95)",
            ),
        )
    return changes


def clipping(finding: Finding, record: Record) -> list[Change]:
    norms = within(record, "clipping/norm_before", finding.steps)
    factor = median(record, "clipping/factor", finding.steps)
    lr = hyper(record, "lr")
    changes = []
    if len(norms):
        usual = float(np.quantile(norms, 0.9))
        now = factor * float(np.median(norms))
        changes.append(
            Change(
                f"max_norm {number(now)} -> {setting(rounded(1.4 * usual))}: the norm before clipping is"
                f" {number(float(np.median(norms)))}"
                f" at the median and below {number(usual)} on nine of ten steps, so that clipping catches"
                " only outliers",
                f"gradient.clip_norm={setting(rounded(1.4 * usual))}" if usual > 0 else "",
            )
        )
    if lr > 0 and 0 < factor < 1:
        kept = (
            "or keep it: this optimizer's steps are as long whatever the gradient is multiplied by, so that"
            " clipping takes only what sets steps apart from each other"
            if is_scaled(record)
            else f"or keep it and know that lr means lr x {number(factor)} at the median: only the"
            " direction of the gradient counts"
        )
        changes.append(Change(kept))
    return changes or [
        Change(
            "look at the norm before clipping (clipping/norm_before) and set max_norm above its usual value"
        )
    ]


def accumulate(finding: Finding, record: Record) -> list[Change]:
    carried = median(record, "gradient/carried", finding.steps)
    how = (
        f": what earlier steps left there is {percent(carried)} of the gradient that a step uses"
        if carried > 0
        else ""
    )
    return [Change(f"call optimizer.zero_grad() before each backward(){how}", "gradient.cleared=true")]


def not_updated(finding: Finding, record: Record) -> list[Change]:
    if record.events("never_stepped"):
        return [Change("call optimizer.step() after backward(): the gradients are computed and never used")]
    rows = [
        row
        for row in event_rows(record, "parameters")
        if not finding.where or row.get("name") in finding.where
    ]
    frozen = [str(row.get("name")) for row in rows if row.get("trainable") is False]
    outside = [
        str(row.get("name")) for row in rows if row.get("trainable") and row.get("in_optimizer") is False
    ]
    changes = []
    lists = [str(row["name"]).partition("[")[0] for row in rows if row.get("unregistered")]
    if lists:
        outside = [name for name in outside if name.partition("[")[0] not in lists]
        held = _some(list(dict.fromkeys(lists)))
        changes.append(
            Change(
                f"hold {held} in an nn.ModuleList (ModuleDict, ParameterList): what is in a plain list no"
                " model knows, so model.parameters() leaves it out"
            )
        )
    if outside:
        changes.append(
            Change(
                f"give {_some(outside)} to the optimizer: trainable, but in none of its groups",
                "parameters.learn=true",
            )
        )
    if frozen:
        changes.append(
            Change(
                f"set requires_grad on {_some(frozen)}, if they are meant to learn", "parameters.learn=true"
            )
        )
    if not changes:
        changes.append(
            Change(f"look at the group of {place(finding)}: its lr, and whether its gradient is exactly 0")
        )
    return changes


def no_gradient(finding: Finding, record: Record) -> list[Change]:
    matrices = {str(row["name"]) for row in event_rows(record, "parameters") if len(row["shape"]) > 1}
    sizes = {w: record.series("weight/norm", w)[1] for w in finding.where if w in matrices}
    zero = [where for where, size in sizes.items() if len(size) and not size.any()]
    if zero:
        return [
            Change(
                f"initialize {_some(zero)} at random: they are exactly 0, and so is every product with them",
                "start.usual=true",
            )
        ]
    if len(record.series("update/norm")[0]) and not len(record.series("gradient/norm")[0]):
        return [
            Change(
                "build the optimizer from the parameters of the model that is trained, and after it: none of"
                " those that it holds ever got a gradient (a second copy of the model, or one made anew?)"
            )
        ]
    if finding.where and all("hh_l" in where and where.endswith("_reverse") for where in finding.where):
        return [
            Change(
                "take what a layer that reads backwards gives at the first place, or its last hidden state:"
                " at the last place it has read one element, and its recurrent weights have done nothing yet"
            )
        ]
    return [
        Change(
            f"look between {place(finding)} and the loss for .detach(), .item(), .data, argmax,"
            " torch.no_grad() or a"
            " branch that the forward never takes: no gradient comes through"
        )
    ]


def conflict(finding: Finding, record: Record) -> list[Change]:
    size = median(record, "batch/size")
    first = (
        Change(
            f"batch {number(size)} -> {number(4 * size)}: the noise of the mean halves; if the conflict"
            " stays, it is in the"
            " data or between losses, not noise",
            sized(record, 4 * size),
        )
        if size > 0
        else Change(
            "raise the batch size fourfold: the noise of the mean halves; what stays is a real conflict"
        )
    )
    return [
        first,
        Change("where the loss is a sum, log the terms apart and look which two pull against each other"),
    ]


def clip(norm: float, what: str) -> Change:
    """The norm of the gradient kept below that, which is ``what`` in this run."""
    limit = setting(rounded(norm))
    return Change(
        f"torch.nn.utils.clip_grad_norm_(model.parameters(), {limit}) before the step: {number(norm)} is"
        f" {what}",
        f"gradient.clip_norm={limit}",
    )


def _first_to_last(record: Record) -> tuple[str, str, float] | None:
    """The first and the last weight with a gradient, in the order of the model, and the ratio of their"
    " norms."""
    order = [str(row.get("name")) for row in event_rows(record, "parameters")] or list(
        record.wheres("gradient/norm")
    )
    weights = [
        name for name in order if name.endswith("weight") and name in set(record.wheres("gradient/norm"))
    ]
    if len(weights) < 2:
        return None
    first, last = (median(record, "gradient/norm", where=name) for name in (weights[0], weights[-1]))
    return (weights[0], weights[-1], first / last) if last > 0 and first >= 0 else None


def _some(names: list[str]) -> str:
    return listed(names, 3)


MAKERS: dict[str, Maker] = {
    "exploding-gradients": exploding,
    "vanishing-gradients": vanishing,
    "gradient-spikes": gradient_spikes,
    "loss-spikes": loss_spikes,
    "gradient-clipping-dominates": clipping,
    "gradients-accumulate": accumulate,
    "parameters-not-updated": not_updated,
    "no-gradient": no_gradient,
    "gradient-conflict": conflict,
}
