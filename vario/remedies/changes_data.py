"""Plain changes of the data itself: wrong labels, doubled, leaked and strange examples."""

from __future__ import annotations

import numpy as np

from vario.nouns import Finding
from vario.record import Record
from vario.remedies.changes import Change, Maker, evidence, in_common, median, spiking
from vario.remedies.changes_generalization import overfitting
from vario.remedies.changes_gradients import clip
from vario.remedies.figures import number, percent, rounded, setting
from vario.rules._examples import classes
from vario.rules._worst_examples import worst_examples

__all__ = ["MAKERS"]

DATA_DIET, NOISY_FEATURES = "P024", "P060"
NEARLY_ALL = 0.9
FEW = 8  # examples that are named


def label_noise(finding: Finding, record: Record) -> list[Change]:
    rate = evidence(finding, "noise") or evidence(finding, "wrong") or evidence(finding, "share")
    seen = (
        f": about {percent(rate.value)} are in doubt ({percent(rate.low)} to {percent(rate.high)})"
        if rate
        else ""
    )
    noisy = rate is not None and 0 < rate.value and rate.high < 1 - 1 / max(classes(record), 1)
    stop = [change for change in overfitting(finding, record) if change.text.startswith("keep the weights")]
    return [
        Change(
            "look at the examples with the largest loss after the first epochs, and mend or drop their"
            f" labels{seen}{_first(record, wrong=True)}",
            paper=DATA_DIET,
        ),
        *([_expected(rate.value)] if rate and noisy else []),
        *stop,
        Change(
            "stop early: a net learns the clean labels first and the wrong ones later", paper=NOISY_FEATURES
        ),
    ]


def _expected(rate: float) -> Change:
    return Change(
        f"or tell the loss: -log((1 - r) p + r (1 - p) / (k - 1)) for a label of probability p, with r ="
        f" {setting(round(rate, 2))}: the model then learns the right labels from the wrong ones",
        f"loss.wrong_labels={setting(round(rate, 2))}",
    )


def duplicates(finding: Finding, record: Record) -> list[Change]:
    share = median(record, "data/duplicate_share", finding.steps)
    seen = f": {percent(share)} of a batch had been seen in the same epoch already" if share > 0 else ""
    return [
        Change(
            "drop equal examples before splitting and training (hash each row with its target: rows that are"
            f" alike under different targets are examples of their own){seen}"
        )
    ]


def leakage(finding: Finding, record: Record) -> list[Change]:
    del record  # the shares are those that the finding tells
    known = {e.where: e.value for e in finding.evidence if e.name == "share of rows seen in training"}
    worst = max(known, key=lambda where: known[where], default="")
    seen = (
        f": {percent(known[worst])} of the rows of {worst or 'the evaluation'} were trained on"
        if known
        else ""
    )
    # Where nearly all rows were trained on, nothing would be left of the set.
    whole = bool(known) and known[worst] > NEARLY_ALL
    first = (
        f"evaluate on examples that training never sees: hold out a tenth of the data before training{seen}"
        if whole
        else f"take the shared examples out of the evaluation set{seen}; until then its score says little"
    )
    return [
        Change(first),
        Change(
            "split by what belongs together (person, document, day), not row by row, and drop duplicates"
            " before splitting"
        ),
    ]


def outliers(finding: Finding, record: Record) -> list[Change]:
    steps, deciles = record.series("examples/loss_quantiles")
    seen, middle = "", 0.0
    if len(steps) and deciles.ndim == 2:
        inside = deciles[(steps >= finding.steps[0]) & (steps <= finding.steps[1])]
        rows = inside if len(inside) else deciles
        middle, top = float(np.nanmedian(rows[:, 5])), float(np.nanmedian(rows[:, -1]))
        seen = f": the largest loss of a batch is {number(top)}, the median {number(middle)}"
    batches = spiking(record)
    return [
        *(
            [Change(f"look at the batches of steps {batches}: their loss stands out{in_common(record)}")]
            if batches
            else []
        ),
        Change(
            f"look at the examples with the largest loss first{seen}{_first(record, wrong=False)}",
            paper=DATA_DIET,
        ),
        _bent(record, middle),
    ]


def _bent(record: Record, middle: float) -> Change:
    """What keeps a strange example from pulling with all its weight; ``middle`` is the median loss of one."""
    if classes(record):
        usual = median(record, "gradient/norm")
        if usual > 0:
            return clip(2 * usual, "twice the usual norm")
        return Change("clip the norm of the gradient: a strange example then pulls no harder than others")
    if not middle > 0:
        return Change("for regression use nn.HuberLoss: an error beyond delta pulls with constant force")
    delta = setting(rounded(2 * middle**0.5))  # of normal errors 82 % lie within
    return Change(
        f"for a squared error use nn.HuberLoss(delta={delta}): twice the median error; one beyond"
        " delta pulls with constant force",
        f"loss.huber={delta}",
    )


def _first(record: Record, *, wrong: bool) -> str:
    """Which examples to begin with, by their numbers in the data set of one loader."""
    worst = worst_examples(record, most=FEW, wrong=wrong)
    if not worst:
        return ""
    loader = worst[0].loader
    these = ", ".join(str(one.example) for one in worst if one.loader == loader)
    return f"; of the data set of {loader} begin with {these}"


MAKERS: dict[str, Maker] = {
    "label-noise": label_noise,
    "duplicate-examples": duplicates,
    "train-test-leakage": leakage,
    "outlier-examples": outliers,
}
