"""Plain changes against dead, saturated and broken numbers: activations, precision, scale, initialization."""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.remedies import changes_rate
from vario.remedies.changes import (
    Change,
    Maker,
    broken_batch,
    event_rows,
    evidence,
    exchange,
    hyper,
    loader,
    median,
    modules,
    place,
    within,
)
from vario.remedies.figures import number, percent, rounded, setting

__all__ = ["MAKERS"]

STABLE_SPAM, STABLEMAX, BATCH_NORM = "P005", "P064", "P321"
ADAM_EPSILON = 1e-8  # the default of torch


def dead(finding: Finding, record: Record) -> list[Change]:
    count = len(modules(record, "ReLU"))
    places = f" in {count} place{'s' if count > 1 else ''}" if count else ""
    leaky = Change(
        f"ReLU -> LeakyReLU(0.01) or GELU{places}: a unit below zero keeps a gradient and can come"
        f" back{_dead_count(finding, record)}",
        exchange(record, "LeakyReLU", "ReLU"),
    )
    fan_in = "initialize by fan-in: nn.init.kaiming_normal_(weight, nonlinearity='relu') and zero biases"
    read = [record.series("activation/dead_channels", where)[0] for where in finding.where]
    if any(len(steps) and steps[0] >= finding.steps[0] for steps in read):  # no step of training did it
        return [Change(f"{fan_in}: units were dead from the first step on", "start.usual=true"), leaky]
    return [leaky, changes_rate.too_high(finding, record)[0], Change(fan_in)]


def saturated(finding: Finding, record: Record) -> list[Change]:
    shares = {item.where: item.value for item in finding.evidence if item.name == "share saturated"}
    worst = next(iter(finding.where), "")  # the first is the worst
    seen = (
        f": {percent(shares[worst])} of the outputs of {worst} are at the flat ends"
        if worst in shares
        else ""
    )
    begun = record.series("activation/saturation_share", worst)[1][:1] if worst else np.empty(0)
    changes = [
        Change(
            f"sigmoid or tanh -> ReLU or GELU in {place(finding)}{seen}",
            exchange(record, "ReLU", "Sigmoid", "Tanh", "Softsign"),
        ),
        Change(
            f"normalize what goes into {place(finding)} (BatchNorm or LayerNorm before it)", paper=BATCH_NORM
        ),
    ]
    start = "initialize by nn.init.xavier_normal_(weight): outputs then start in the steep part"
    if len(begun) and begun[0] > 0.5:
        words = f"{start}; at the first step {percent(begun[0])} were at the flat ends"
        return [Change(words, "start.usual=true"), *changes]
    return [*changes, Change(start)]


def non_finite(finding: Finding, record: Record) -> list[Change]:
    evaluated = [where for where in finding.where if where in record.wheres("eval/loss")]
    if evaluated:
        return [
            Change(
                f"give the model a batch of {evaluated[0] or 'the evaluation'} in eval mode and look for the"
                " first layer whose output is not finite: a mask that hides all of a row, a log of 0, a"
                " mean of nothing; training, in train mode and on its own rows, was sound"
            )
        ]
    first = finding.steps[0]
    before = within(record, "gradient/norm", (0, first - 1))
    changes = [
        Change(
            f"run with torch.autograd.set_detect_anomaly(True) up to step {first}: it names the operation"
            " that made"
            f" the first NaN (log or sqrt of 0, 0/0, exp of a large number){broken_batch(record)}"
        )
    ]
    if len(before) and before[-1] > 10 * np.median(before):
        changes.insert(0, changes_rate.diverging(finding, record)[0])
    return changes


def non_finite_input(finding: Finding, record: Record) -> list[Change]:
    changes = []
    for kind, instead in (
        (
            "input",
            "if missing values are meant, replace them by the mean of the feature and add a 0/1 column"
            " that says so",
        ),
        ("target", "examples whose target is missing have nothing to teach: leave them out of the loss"),
    ):
        steps, counts = record.series(f"{kind}/non_finite")
        bad = steps[counts > 0] if counts.ndim == 1 else steps[:0]
        if not len(bad):
            continue
        changes += [
            Change(
                f"drop or mend the broken examples before training: check torch.isfinite of the {kind}s in"
                f" the dataset; {len(bad)} of {len(steps)} measured batches hold NaN or infinite values, the"
                f" first at step {bad[0]}{broken_batch(record)}",
                "loader.drop_broken=true" if loader(record) else "",
            ),
            Change(instead),
        ]
    return changes or [Change("drop or mend the broken examples before training: check torch.isfinite")]


def underflow(finding: Finding, record: Record) -> list[Change]:
    kind = next((str(data.get("dtype", "")) for data in event_rows(record, "autocast")), "")
    zero = median(record, "gradient/zero_share", finding.steps, next(iter(finding.where), ""))
    seen = f": {percent(zero)} of its gradient entries are exactly 0" if zero > 0 else ""
    changes = []
    if "bfloat16" not in kind:
        changes.append(
            Change(
                "float16 -> bfloat16 (same range as float32), or scale the loss with"
                f" torch.amp.GradScaler{seen}"
            )
        )
    changes.append(
        Change("keep weights and optimizer state in float32 and cast only inside autocast", paper=STABLE_SPAM)
    )
    return changes


def softmax_collapse(finding: Finding, record: Record) -> list[Change]:
    largest = median(record, "logits/largest", finding.steps)
    seen = (
        f": logits reach {number(largest)}, and float32 rounds the loss of a sure answer to 0"
        if np.isfinite(largest)
        else ""
    )
    return [
        Change(
            f"compute the loss in float64: cross_entropy(logits.double(), y){seen}",
            "loss.float64=true",
            STABLEMAX,
        ),
        Change(
            "add weight decay or logit clipping, so that logits stop growing along the direction that no"
            " longer learns",
            paper=STABLEMAX,
        ),
    ]


def unnormalized(finding: Finding, record: Record) -> list[Change]:
    mean, std = median(record, "input/mean"), median(record, "input/std")
    spread = median(record, "input/feature_spread")
    lowest, highest = (record.series(f"input/{name}")[1] for name in ("smallest", "largest"))
    pixels = len(lowest) and len(highest) and lowest.min() >= 0 and 100 < highest.max() <= 255
    if spread > 10 and not pixels:  # a pixel at the rim that is nearly always 0 needs no scale of its own
        return [
            Change(
                "standardize each feature by its own mean and standard deviation on the training set: their"
                f" spreads differ by a factor of up to {number(spread)}, so that no one number serves all",
                "input.standardized=true",
            )
        ]
    if std > 0:
        return [
            Change(
                f"x -> (x - {number(mean)}) / {number(std)}: mean and standard deviation of the inputs seen",
                f"input.mean={setting(mean)}+input.std={setting(std)}",
            )
        ]
    return [Change("subtract the mean and divide by the standard deviation of the training inputs")]


def double_softmax(finding: Finding, record: Record) -> list[Change]:
    # Rows of one output have no sum; they are answers of yes and no.
    single = not record.wheres("logits/sum_deviation")
    last, losses = (
        ("sigmoid", "binary_cross_entropy_with_logits and BCEWithLogitsLoss apply a sigmoid themselves (for"
         " probabilities use binary_cross_entropy)")
        if single
        else ("softmax", "cross_entropy and CrossEntropyLoss apply log-softmax themselves (for"
              " log-probabilities use nll_loss)")
    )  # fmt: skip
    named = [str(row.get("name")) for row in modules(record, last.capitalize())]
    which = f"remove {', '.join(named)}" if named else f"give the loss the logits, not {last}(logits)"
    return [Change(f"{which}: {losses}", "loss.probabilities=true")]


def symmetric(finding: Finding, record: Record) -> list[Change]:
    return [
        Change(
            f"initialize {place(finding)} at random (nn.init.kaiming_uniform_): its rows are equal, get"
            " equal gradients and stay equal",
            "start.usual=true",
        )
    ]


def initialization(finding: Finding, record: Record) -> list[Change]:
    changes = []
    steps, loss = record.series("loss/train")
    logits = record.series("logits/largest")[1]
    if len(loss) and len(logits) and np.isfinite(logits[0]) and logits[0] > 0:
        changes.append(
            Change(
                f"multiply the weight of the last layer by {setting(rounded(1 / float(logits[0])))}: at"
                " the first step logits"
                f" reach {number(float(logits[0]))} and the loss is {number(float(loss[0]))}; near 1 the"
                " first guess is no guess"
            )
        )
    changes.append(
        Change(
            f"initialize {place(finding)} by fan-in: standard deviation sqrt(2/fan_in) before ReLU"
            " (kaiming_normal_),"
            " sqrt(1/fan_in) before tanh (xavier_normal_)",
            "start.usual=true",
        )
    )
    return changes


def rank_collapse(finding: Finding, record: Record) -> list[Change]:
    if evidence(finding, "width that all goes through") is not None:
        return [Change(f"make {place(finding)} wider: what follows it can be told no more than it passes on")]
    return [
        Change(
            f"normalize and add skip connections around {place(finding)}: products of layers lose rank"
            " with depth",
            paper=BATCH_NORM,
        ),
        Change(
            "look at the learning rate of the first steps: one large step can leave all rows of a layer"
            " along one direction"
        ),
    ]


def mode(finding: Finding, record: Record) -> list[Change]:
    kinds = ", ".join(where for where in finding.where if where) or "Dropout or BatchNorm"
    in_train, in_eval = evidence(finding, "in train mode"), evidence(finding, "in eval mode")
    changes = []
    if in_eval and in_eval.value > 0:
        changes.append(
            Change(
                f"call model.train() at the start of each epoch: at {percent(in_eval.value)} of the steps"
                f" {kinds} trained in eval mode",
                "mode.training=true",
            )
        )
    if in_train and in_train.value > 0:
        changes.append(
            Change(
                f"call model.eval() before evaluation: at {percent(in_train.value)} of the evaluations"
                f" {kinds} was in train mode",
                "mode.evaluation=true",
            )
        )
    return changes or [
        Change("call model.train() before each training epoch and model.eval() before each evaluation")
    ]


def target_scale(finding: Finding, record: Record) -> list[Change]:
    mean, std = median(record, "target/mean"), median(record, "target/std")
    if not std > 0:
        return [Change("subtract the mean of the training targets and divide by their standard deviation")]
    return [
        Change(
            f"y -> (y - {number(mean)}) / {number(std)} for training, and undo it when predicting: mean"
            " and standard"
            " deviation of the targets seen",
            f"target.mean={setting(mean)}+target.std={setting(std)}" if np.isfinite(mean) else "",
        )
    ]


def epsilon(finding: Finding, record: Record) -> list[Change]:
    eps, rms = hyper(record, "eps"), _gradient_rms(record, finding)
    if not (eps > 0 and rms > 0):
        return [Change("make eps a hundred times smaller than the root mean square of a gradient entry")]
    usual = rms / 100 >= ADAM_EPSILON
    goal = ADAM_EPSILON if usual else min(rounded(rms / 100), rounded(eps / 10))
    return [
        Change(
            f"eps {setting(eps)} -> {setting(goal)}{', the default' if usual else ''}: the root mean square"
            f" of a gradient entry is {number(rms)}; eps should be lost beside it",
            f"optimizer.eps={setting(goal)}",
        )
    ]


def _gradient_rms(record: Record, finding: Finding) -> float:
    rms = [median(record, "gradient/std", finding.steps, where) for where in finding.where if where] or [
        median(record, "gradient/std", finding.steps)
    ]
    found = [value for value in rms if np.isfinite(value)]
    return min(found) if found else float("nan")


def _dead_count(finding: Finding, record: Record) -> str:
    seen = evidence(finding, "dead")
    for where in finding.where:
        dead_now, total = (
            record.last("activation/dead_channels", where),
            record.last("activation/channels", where),
        )
        if np.isfinite(dead_now) and total > 0:
            return f" ({number(dead_now)} of {number(total)} in {where} are dead at the end)"
    return f" ({seen.name}: {number(seen.value)})" if seen else ""


MAKERS: dict[str, Maker] = {
    "dead-units": dead,
    "saturated-activations": saturated,
    "non-finite": non_finite,
    "non-finite-input": non_finite_input,
    "low-precision-underflow": underflow,
    "softmax-collapse": softmax_collapse,
    "unnormalized-inputs": unnormalized,
    "double-softmax": double_softmax,
    "symmetric-initialization": symmetric,
    "poor-initialization": initialization,
    "rank-collapse": rank_collapse,
    "train-eval-mode": mode,
    "target-scale": target_scale,
    "adam-epsilon-dominates": epsilon,
}
