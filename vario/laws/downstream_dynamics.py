"""How skills grow during training, and what small models tell of the order in a large one.

Curves of one skill (a downstream score at the same numbers of tokens) rise alike in models of different
sizes, more alike than the curves of two skills in one model. ``alike`` measures both; ``order_kept`` says
how often a small model's order of skills is the larger model's; ``reached`` is when a skill has come how far.

Measured on characters (widths 32, 64 and 128, 1,000 steps, 12 checkpoints, one seed; the mean probability
of what is right): between sizes closing brackets agree by .94 to .99 and copying by .99, two skills by .82 to
.88, and the order of the skills was the smaller model's at every checkpoint. Where indentation ends agrees by
.52 to .85 only, because it stays at chance for two thirds of the run: ranks of noise. P122's row (above .9
for every skill) therefore holds for two skills of three.

When to use: scores of several skills at the same checkpoints of two sizes or more.
When not to: scores at chance, or fewer than five checkpoints: ranks of noise are noise. Curves that all
rise with the tokens have rank correlations near 1 whatever they measure: hold `alike`'s two numbers
against one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P122",),
    "inputs": ("tokens", "score"),
    "output": "order",
    "checked": "closed form: ranks and order by hand; result: two of three skills of character models",
    "changed": "ranks in place of plots",
}


def alike(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[dict[str, float], float]:
    """Rank correlation of each skill's changes between two sizes, and the mean over pairs of two skills."""
    skills = _shared(first, second)
    same = {name: _spearman(first[name], second[name]) for name in skills}
    other = [_spearman(first[a], second[b]) for a in skills for b in skills if a != b]
    return same, float(np.mean(other)) if other else float("nan")


def order_kept(small: Mapping[str, Array], large: Mapping[str, Array], *, apart: float = 0.0) -> float:
    """Share of (checkpoint, pair of skills) whose order in ``small`` is that in ``large``.

    Pairs nearer than ``apart`` in the large model have no order to speak of and are left out.
    """
    kept = []
    for a, b in combinations(_shared(small, large), 2):
        truth, said = (np.asarray(m[a], float) - np.asarray(m[b], float) for m in (large, small))
        clear = np.abs(truth) > apart
        kept += list(np.sign(truth[clear]) == np.sign(said[clear]))
    return float(np.mean(kept)) if kept else float("nan")


def reached(tokens: Array, score: Array, *, share: float = 0.5) -> float:
    """Tokens at which the score had come ``share`` of its way from the first checkpoint to its best."""
    best = np.maximum.accumulate(np.asarray(score, float))
    level = best[0] + share * (best[-1] - best[0])
    at = int(np.argmax(best >= level))
    if at == 0 or best[at] == best[at - 1]:
        return float(tokens[at])
    part = (level - best[at - 1]) / (best[at] - best[at - 1])
    return float(np.exp(np.log(tokens[at - 1]) + part * np.log(tokens[at] / tokens[at - 1])))


def _shared(first: Mapping[str, Array], second: Mapping[str, Array]) -> list[str]:
    skills = [name for name in first if name in second]
    for name in skills:
        if len(first[name]) != len(second[name]):
            raise ValueError(
                f"{name} has {len(first[name])} checkpoints in one model, not {len(second[name])}"
            )
    if not skills:
        raise ValueError(f"no skill in common: {', '.join(first)} against {', '.join(second)}")
    return skills


def _spearman(first: Array, second: Array) -> float:
    """Rank correlation; ties share their mean rank."""
    ranks = []
    for row in (first, second):
        _, place, count = np.unique(row, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - 0.5 * (count + 1))[place])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
