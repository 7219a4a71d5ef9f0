"""The model relies on one simple feature and ignores the rest.

What it means: where one feature alone predicts the label (a background, a watermark, a single column), nets
take it and leave the others unlearned. Held-out data of the same kind show nothing; new data, where the
feature is gone or misleading, do.
How it is decided: held-out accuracy after shuffling one feature among the examples; where the high end of
its interval is within a tenth of the way from a guess to the plain accuracy, that feature alone carries the
answer. A warning, since nothing says whether the feature is a shortcut or the matter itself.
Not applicable: no accuracy with a feature shuffled (``shortcut/shuffled_accuracy``, one place per feature)
was recorded; the loss and accuracy of one run cannot show what an answer rests on.
"""

from __future__ import annotations

from vario.nouns import Evidence, Finding, NotApplicable
from vario.record import Record
from vario.rules._evidence import finite
from vario.rules._examples import class_totals, rate
from vario.rules._held_out import accuracy_at, held_out

ID = "shortcut-features"
CARD = {
    "papers": ("P071", "P026"),
    "reads": ("shortcut/shuffled_accuracy", "eval/accuracy", "eval/examples", "batch/class_counts"),
    "checked": "closed form",
    "changed": "P071 shuffles the known simple coordinate of its slabs; the rule takes whichever "
    "features were shuffled",
    "harm": True,
    "summary": "Without {where} the model is right on {accuracy without it} of the held-out "
    "examples; with it on {held-out accuracy}.",
}


def check(
    record: Record,
    *,
    left: float = 0.1,  # of what was learned, without the feature
    learned: float = 0.2,  # above a guess: where little was learned, little can rest on a feature
) -> Finding | None:
    """A finding where shuffling one feature takes nearly all that was learned."""
    places = record.wheres("shortcut/shuffled_accuracy")
    if not places:
        raise NotApplicable(
            "0 readings of shortcut/shuffled_accuracy (held-out accuracy with one feature shuffled); "
            "1 is needed"
        )
    where = held_out(record, "eval/accuracy")
    totals = class_totals(record)[1].sum(axis=0)
    if totals.size < 2:
        raise NotApplicable("the targets are no classes, so the accuracy of a guess is unknown")
    guess = float(totals.max() / totals.sum())
    plain = accuracy_at(record, where, float("inf"))
    if plain.low < guess + learned:
        return None
    limit = guess + left * (plain.value - guess)
    count = record.last("eval/examples", where)
    found: list[tuple[Evidence, int]] = []
    for place in places:
        steps, values = finite(*record.series("shortcut/shuffled_accuracy", place))
        if len(values):
            without = rate(float(values[-1]), count if count >= 1 else 1)
            if without.high < limit:
                found.append((without.evidence("accuracy without it", limit, place), int(steps[-1])))
    if not found:
        return None
    worst, step = min(found, key=lambda item: (item[0].high, item[0].where))
    evidence = (worst, plain.evidence("held-out accuracy", guess, where))
    return Finding(ID, "warning", 0.7, (worst.where,), (step, step), evidence)
