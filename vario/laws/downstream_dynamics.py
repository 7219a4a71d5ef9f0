"""How skills grow during training, and what small models tell of the order in a large one.

P122 finds that the curve of one skill (a downstream score at the same numbers of tokens) has the same shape
in models of different sizes. ``alike`` says how far that holds, and how alike two different skills are;
``order_kept`` how often a small model's order of skills is the larger one's; ``reached`` when a skill has
come how far.

Measured on characters (widths 32, 64 and 128, 2,000 steps of 16 windows of 64, 15 checkpoints even in log
steps, averaged weights; the mean probability of what is right: of a closing bracket, of a word's letters when
it returns, of as many spaces as on the line before). The measure was chosen on seed 0 at widths 16, 32 and
64, then judged on seeds 10 and 11 against P122's row, which holds in part:

- Sizes agree above .9 in every skill: yes (.93 to 1.0).
- Two skills agree less: no. Nearly all curves rise, so two skills agree by .980 to .992, one skill by .976 to
  .995 on average: of six pairs of sizes less in two, as much in two, more in two. Log probabilities were no
  better (seed 0). Changes between checkpoints, which the row does not ask about, tell skills apart in all
  six: one skill .38 to .81 (mean .58), two skills .01 to .29 (mean .19).
- 80 % of the order at the largest width is foretold: 83 % of 180 cases, but 89 and 87 % (from widths 32 and
  64) with one seed, 76 and 80 % with the other.

On the Pythia suite's published evaluations (27 checkpoints of six sizes, 410M to 12B; the four of eight tasks
whose accuracy had moved by three standard errors at every size: sciq, lambada, arc_easy, piqa; twice, on data
as it is and deduplicated) the row's other two clauses hold and the first does in two thirds: one skill agrees
by .95 on average, above .9 in every skill for 19 of 30 pairs of sizes; two skills agree less in 25 of 30, but
by .94, so what tells them apart is little; .94 to .99 of the order at 12B is foretold. Changes between
checkpoints: one skill .51 and .53, two skills .41 and .47.

When to use: scores of several skills at the same checkpoints of two sizes or more.
When not to: scores at chance, or fewer than five checkpoints: ranks of noise are noise. Curves that all
rise with the tokens have rank correlations near 1 whatever they measure: hold `alike`'s two numbers
against one another, and give it the changes between checkpoints.
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
    "checked": "closed form: ranks and order by hand; result: three skills of character models, "
    "P122's row in part, and four tasks of the Pythia suite",
    "changed": "ranks in place of plots",
}


def alike(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[dict[str, float], float]:
    """Rank correlation of each skill between two sizes, and the mean over pairs of two skills."""
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
