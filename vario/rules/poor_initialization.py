"""The first weights are too large or too small for the depth of the model.

What it means: signals grow or shrink from layer to layer, so the first outputs are wildly confident or
carry nothing, and gradients explode or vanish on the way back. Initialisers that scale with the width of
a layer, or normalisation, keep the spread near 1.
How it is decided: (1) the loss of the first batch, median or mean, is above 3 times ln(k) for k classes, as
a model that knows nothing should say so, or most of that batch got another class with more than 0.5 and its
own with less than 0.1; where each example has several yes-or-no labels, the first logits reach beyond 20 in
both directions, which is e^20 to one; of a regression, the first outputs are more than 10 times as large as
targets, inputs and 1; where none of these is known (a loss by hand), the first weights of two layers or
more, without a norm or a bounded nonlinearity, let signals grow more than 10 times on their way, each by its
spread times the root of what flows into a unit, over the root of 2; (2) the standard deviation of the
outputs of the deepest layer is more than 1,000 times larger or smaller than that of the first (layers that
end in a tanh or sigmoid, and dead ones, are left to their own rules), as read before any step moved the
weights by half of their size; not across a normalisation, which sets the spread anew; (3) in a run that
fails, or whose loss stayed where it began for a fifth of the steps, the outputs of the deepest of four or
more layers have an effective rank nearer to one than to two before training, those of the first 4 or more.
Not applicable: neither per-example losses of classes, logits, outputs and targets of a regression or weights
of such layers, nor the activations of three layers without a norm between, were read in the first 10 steps.
"""

from __future__ import annotations

import numpy as np

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._course import course, is_failing
from vario.rules._evidence import Estimate, exactly, finite
from vario.rules._examples import class_totals, classes, graded, rate
from vario.rules._model import NORMS, is_normalized_between, layers, output_layer, rows
from vario.rules._parameters import parameters

ID = "poor-initialization"
LINEAR = ("Linear", "Conv1d", "Conv2d", "Conv3d")
BOUNDED = ("Tanh", "Sigmoid", "RNN", "LSTM", "GRU", "Attention", "Transformer")
CARD = {
    "papers": ("P316", "P257"),
    "reads": (
        "examples/loss_quantiles",
        "examples/confident_wrong",
        "logits/largest",
        "logits/smallest",
        "activation/mean",
        "activation/std",
        "input/mean",
        "input/std",
        "target/mean",
        "target/std",
        "update/ratio",
        "weight/std",
        "rank/effective",
        "batch/class_counts",
        "loss/train",
    ),
    "checked": "closed form",
    "changed": "the papers say how spread moves with depth; the limits are ours",
    "summary": "The model started badly: its first loss was {first loss over ln k} times that of "
    "a guess; {sure and wrong in the first batch:%} of the first batch got a sure and wrong answer; "
    "its first logits reached to {size of the first logits} on both sides; its first outputs were "
    "{first outputs over targets and inputs} times as large as targets and inputs; its first weights make "
    "signals {growth by the first weights} times as large; the spread of the signal changed "
    "{change of spread over depth} times from the first to the deepest layer; of directions that examples "
    "have in the first layer, one of {directions of the first layer to one of the deepest} was left there.",
}


def check(
    record: Record,
    *,
    times_chance: float = 3.0,  # default initialisers give 1.0 to 1.2, wrong and sure guesses ten and more
    times_spread: float = 1e3,  # ten layers that each gain or lose a factor of two; most runs survive that
    sure: float = 20.0,  # default initialisers give logits of about 1
    times_targets: float = 10.0,  # default initialisers give less than 1 for inputs of about 1
    within: int = 10,  # steps, so that the start is judged and not what training made of it
) -> Finding | None:
    """A finding where the first answers are wrong and sure, or the signal explodes or dies on its way."""
    loss = (
        _first_loss(record, times_chance, within)
        or _first_logits(record, sure, within)
        or _first_outputs(record, times_targets, within)
        or _first_weights(record, times_targets, within)
    )
    wrong = _first_errors(record, within)
    spread = _spread(record, times_spread, within)
    directions = _directions(record, within)
    if loss is None and spread is None and directions is None:
        raise NotApplicable(
            f"neither losses per example nor outputs and targets of a regression nor activations of three"
            f" layers without a norm between, in the first {within} steps"
        )
    evidence = [e for e in (loss, wrong, spread, directions) if e is not None]
    beyond = [e for e in evidence if e.low > e.limit]
    if not beyond:
        return None
    worst = max(e.low / e.limit for e in beyond)
    where = tuple(e.where for e in beyond if e.where)
    certain = graded(float(np.log(worst)), 0.0, 2.3)
    return Finding(ID, "warning", certain, where, (0, within), tuple(evidence))


def _first_loss(record: Record, limit: float, within: int) -> Evidence | None:
    """The loss per example of the first batch over ln(k): median (between the middle four deciles) or mean.

    Where most labels are of one class, as the pixels of a mask, half of all guesses are right by chance.
    """
    steps, quantiles = record.series("examples/loss_quantiles")
    count = classes(record)
    early = steps < within
    if count < 2 or not early.any() or quantiles.ndim != 2:
        return None
    first = quantiles[early][0]
    if not np.isfinite(first[3:8]).all():
        return None
    width = quantiles.shape[1]
    low, middle, high = (float(first[round(q * (width - 1))]) / np.log(count) for q in (0.3, 0.5, 0.7))
    found = Estimate(middle, low, high)
    at, losses = record.series("loss/train")
    begun = losses[at < within][:3]  # it falls from there, so that the lowest is careful
    # The mean of ten parts lies between those of their ends; a sum, or one of several terms, does not.
    if len(begun) and first[:-1].mean() <= begun[0] <= first[1:].mean() and np.isfinite(begun).all():
        mean = Estimate(*(float(e) / np.log(count) for e in (begun[0], begun.min(), begun.max())))
        found = max(found, mean, key=lambda estimate: estimate.low)
    return found.evidence("first loss over ln k", limit)


def _first_errors(record: Record, within: int, *, most: float = 0.5) -> Evidence | None:
    """The share of the first batch that gets another class with more than 0.5, its own with less than 0.1."""
    steps, wrong = finite(*record.series("examples/confident_wrong"))
    counted = class_totals(record)[1]
    if not len(steps) or steps[0] > 0 or not len(counted):
        return None
    found = rate(float(wrong[0]), float(counted[0].sum()))
    return found.evidence("sure and wrong in the first batch", most) if found.low > most else None


def _first_logits(record: Record, limit: float, within: int) -> Evidence | None:
    """How far the first logits reach to both sides, of losses without classes (one end may be a mask)."""
    ends = [record.series(f"logits/{end}") for end in ("largest", "smallest")]
    first = [float(values[0]) for steps, values in ends if len(steps) and steps[0] < within]
    if classes(record) or len(first) < 2 or not np.isfinite(first).all():
        return None
    return exactly("size of the first logits", max(min(first[0], -first[1]), 0.0), limit)


def _first_outputs(record: Record, limit: float, within: int) -> Evidence | None:
    """The size of the first outputs of a regression over that of targets and inputs, or over 1."""
    where = output_layer(record) or ""
    outputs, targets, inputs = (
        _first_size(record, f"{name}/", place, min(within, _overthrown(record)))
        for name, place in (("activation", where), ("target", ""), ("input", ""))
    )
    if classes(record) or outputs is None or targets is None:
        return None
    ratio = outputs / max(targets, inputs or 0.0, 1.0)
    return exactly("first outputs over targets and inputs", ratio, limit, where)


def _first_weights(record: Record, limit: float, within: int) -> Evidence | None:
    """How many times as large signals get on their way through linear layers and convolutions.

    A sum over n inputs of size 1 by weights of spread s has size s times the root of n, of which ReLU leaves
    half the square.
    """
    classes_of = {str(m.get("name")): str(m.get("class", "")) for m in rows(record, "modules")}
    if record.wheres("activation/saturation_share") or any(
        word in name for name in classes_of.values() for word in (*NORMS, *BOUNDED)
    ):
        return None
    gains: list[float] = []
    until = min(within, _overthrown(record) - 1)  # weights are read after their step
    for one in parameters(record):
        steps, spread = finite(*record.series("weight/std", one.name))
        layer = classes_of.get(one.name.rpartition(".")[0], "")
        if one.name.endswith("weight") and layer in LINEAR and (steps < until).any():
            gains.append(float(spread[0]) * float(np.sqrt(np.prod(one.shape[1:]))))
    if len(gains) < 2:
        return None
    growth = float(np.prod(gains)) / 2 ** ((len(gains) - 1) / 2)
    return exactly("growth by the first weights", growth, limit)


def _first_size(record: Record, name: str, where: str, within: int) -> float | None:
    ends = [finite(*record.series(name + part, where)) for part in ("mean", "std")]
    early = [values[steps < within][:1] for steps, values in ends]
    return float(np.hypot(*early)[0]) if all(len(values) for values in early) else None


def _spread(record: Record, limit: float, within: int) -> Evidence | None:
    """Factor (1 or more) between the spread of the first and of the deepest layer."""
    spreads = {}
    wheres = record.wheres("activation/std")
    bounded = record.wheres("activation/saturation_share")
    within = min(within, _overthrown(record))
    order = [name for name in layers(record) if name in wheres] or list(wheres)
    for where in order:
        steps, values = finite(*record.series("activation/std", where))
        early = values[steps < within]
        # Flat-ended nonlinearities bound the spread, and a dead layer has none: other rules judge these.
        if len(early) and early[0] > 0 and where not in bounded:
            spreads[where] = float(early[0])
    if len(spreads) < 3:
        return None
    names = list(spreads)
    if is_normalized_between(record, names[0], names[-1]):
        return None
    first, last = spreads[names[0]], spreads[names[-1]]
    change = max(first / last, last / first)
    return exactly("change of spread over depth", change, limit, names[-1])


def _directions(
    record: Record, within: int, *, told_apart: float = 1.5, enough: float = 4.0, least: int = 4
) -> Evidence | None:
    """How many directions the outputs of the first layer have for one of the deepest, in a run they held up.

    Below ``told_apart`` they are nearer to one than to two: where examples are all but one direction by then,
    what the last layer sees of them is a single number, as where small weights let through less of them than
    of the biases.
    """
    if not is_failing(record) and not _waited(record):
        return None
    ranks = []
    for where in [name for name in layers(record) if name in record.wheres("rank/effective")]:
        steps, found = finite(*record.series("rank/effective", where))
        early = found[steps < min(within, _overthrown(record) - 1)]
        ranks += [(where, float(early[0]))] if len(early) else []
    if len(ranks) < least or ranks[0][1] < enough:
        return None
    (_, first), (where, last) = ranks[0], ranks[-1]
    return exactly(
        "directions of the first layer to one of the deepest", first / last, first / told_apart, where
    )


def _waited(record: Record, *, clear: float = 0.05, part: float = 0.2, width: int = 5) -> bool:
    """Whether the loss stayed where it began for a ``part`` of the steps: in that time nothing was won."""
    try:
        run = course(record)
    except NotApplicable:
        return False
    levels = np.median(np.lib.stride_tricks.sliding_window_view(run.values, width), axis=1)
    fallen = levels < (1 - clear) * run.start.value
    return bool(fallen.any() and run.steps[fallen.argmax()] > part * run.steps[-1] and run.start.value > 0)


def _overthrown(record: Record, *, half: float = 0.5) -> int:
    """The first step whose activations are not those of the start: an update before it was that large."""
    steps, ratios = finite(*record.series("update/ratio"))
    return int(steps[ratios > half].min(initial=10**9)) + 1
