"""Held-out figures in what the script prints, known by the words before each number.

A loss written by hand calls no function that could be heard, but its value is printed for the user to read.
What the script calls "val loss" is taken at its word, and recorded under those words.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vario.capture.metrics import listen_to_lines

__all__ = ["HELD_OUT", "LOSSES", "SCORES", "figures", "listen_to_figures"]

HELD_OUT = frozenset("val valid validation test testing eval evaluation dev holdout heldout".split())
TRAINING = frozenset({"train", "training", "trn"})
LOSSES = frozenset("loss losses mse rmse mae mape nll bce ce error err perplexity ppl elbo".split())
SCORES = frozenset(
    "acc accuracy auc auroc dice iou miou precision recall score ndcg hr map bleu psnr".split()
)
CHOSEN = frozenset("best min minimum lowest max maximum target patience".split())  # no course of their own
MOST_LABELS = 16

_NUMBER = re.compile(
    r"(?<![\w.])([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)(?=[%\s,;:|/)\]}'\"]|\.?$)"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PROMISING = re.compile("|".join(HELD_OUT), re.IGNORECASE)


def listen_to_figures(tell: Callable[[str, float, str], None]) -> None:
    """Call `tell(series, value, words)` for every held-out figure on stdout, and for training beside it."""
    known: set[tuple[str, str]] = set()

    def line_came(line: str) -> None:
        for series, value, words in figures(line) if _PROMISING.search(line) else ():
            if len(known) < MOST_LABELS or (series, words) in known:
                known.add((series, words))
                tell(series, value, words)

    listen_to_lines(line_came)


def figures(line: str) -> list[tuple[str, float, str]]:
    """Series, value and words of the losses and scores on a line that tells of held-out data.

    What a number is of stands before it, or further left ("Test: loss 0.3, accuracy 0.9"). Where neither a
    loss nor a score is named ("train 0.3 val 0.4"), who reads the record must tell which of the two it is.
    """
    found, of, end = [], "", 0
    for number in _NUMBER.finditer(line):
        words = [word.lower() for word in _WORD.findall(line[end : number.start()])]
        end = number.end()
        of = next((word for word in reversed(words) if word in HELD_OUT | TRAINING), of)
        kind = [word for word in words if word in LOSSES | SCORES]
        bare = words[-1:] == [of] and not kind
        if not of or not (bare or kind) or CHOSEN.intersection(words):
            continue
        series = "printed/figure" if bare else "printed/loss" if kind[-1] in LOSSES else "printed/score"
        found.append((series, float(number[1]), " ".join([of, *kind])))
    return found if any(words.split()[0] in HELD_OUT for _, _, words in found) else []
