"""What columns beside a law's own can tell: equal budgets, the output layer, what was counted, one exponent.

Laws of N and D alone. The columns are found by name (``BESIDE``) or given in ``--columns``; the budgets
need none, since 6 N D is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.laws import _table as table_of
from vario.laws._form import of_sizes
from vario.laws._newton import Array
from vario.laws._refusal import Caution, refusal
from vario.laws._uncertainty import Uncertainty, noise_of
from vario.laws.fit import Fit, fit
from vario.laws.head_compute import check_flops, check_head
from vario.laws.isoflop import Frontier, disagreement, frontier
from vario.laws.over_training import tied_is_enough
from vario.laws.two_term import TWO_TERM_TIED, TwoTerm
from vario.nouns import VarioError

# What a column beside the inputs is called, in lower case and without separators.
BESIDE = {
    "C": ("c", "flops", "flop", "compute", "trainflops", "trainingflops"),
    "width": ("width", "dmodel", "nembd", "hiddensize", "hiddendim", "embeddim"),
    "layers": ("layers", "nlayer", "nlayers", "numlayers", "numhiddenlayers", "depth"),
    "vocabulary": ("vocabulary", "vocab", "vocabsize", "nvocab"),
    "N_body": ("nbody", "paramsnoembed", "paramsnonembedding", "nonembeddingparams", "nonembedparams"),
}
SAME_BUDGET = 0.01  # log FLOPs: budgets are set on purpose, digitised ones differ by more
SIZES = 4  # distinct sizes that a budget must have to be looked at
FELT = 0.005  # of the loss: what is missed by less changes no decision
UNIT = 10.0  # C off 6 N D by this factor is in another unit


def beside(whole: table_of.Columns, given: Mapping[str, str], rows: NDArray[np.intp]) -> dict[str, Array]:
    """Columns of ``BESIDE`` at ``rows`` (numbers from 1): those given, else those found by name if usable."""
    found = {}
    for name, spellings in BESIDE.items():
        match = [column for column in whole if _plain(column) in spellings]
        if name not in given and not match:
            continue
        text = given.get(name, f"`{match[0]}`" if match else "")
        column = table_of.take(whole, {name: text}, where=None)[0][name][rows - 1]
        try:
            table_of.check({name: column}, rows, positive=(name,))
        except VarioError:
            if name in given:
                raise
            continue
        found[name] = np.asarray(column, float)
    return found


def second_looks(
    done: Fit, known: Uncertainty, extra: Mapping[str, Array]
) -> tuple[list[Caution], dict[str, Any]]:
    """Cautions, and what is recorded beside the parameters: ``frontier``, ``tied``, ``counted``."""
    if not of_sizes(done.law):
        return [], {}
    n, d = np.exp(done.x)
    said: list[Caution] = []
    noted: dict[str, Any] = {"frontier": None, "tied": None, "counted": counted(n, extra)}
    said += _flops(n, d, extra) + _head(n, extra)
    if isinstance(done.law, TwoTerm):
        enough, ratio = tied_is_enough(done) if "beta" not in done.law.names else _free(done)
        noted["tied"] = {"enough": enough, "objective_ratio": ratio}
        if not enough and "beta" not in done.law.names:
            text = (
                f"with two exponents the objective is {ratio:.3f} times lower, more than chance over "
                f"{len(done.y)} rows: fit `two-term`"
            )
            said.append(Caution("one-exponent-is-not-enough", text))
        more, noted["frontier"] = _frontier(done, known, extra.get("C", 6.0 * n * d))
        said += more
    return said, noted


def counted(n: Array, extra: Mapping[str, Array]) -> dict[str, Any]:
    """Whether N holds the embeddings and the output layer: True, False, or None where no column tells."""
    known: dict[str, Any] = {"embeddings": None, "head": None}
    if "N_body" in extra:
        off = np.log(n / extra["N_body"])
        known["embeddings"] = bool(np.median(off) > 1e-6)
    if {"width", "layers", "vocabulary"} <= set(extra):
        known["head"] = check_head(n, extra["width"], extra["layers"], extra["vocabulary"]).counted
    return known


def _head(n: Array, extra: Mapping[str, Array]) -> list[Caution]:
    if {"width", "layers", "vocabulary"} <= set(extra):
        found = check_head(n, extra["width"], extra["layers"], extra["vocabulary"])
        name = "sizes-unexplained" if found.counted is None else "head-not-counted"
        return [Caution(name, found.text)] if found.text else []
    if "N_body" in extra and not np.median(np.log(n / extra["N_body"])) > 1e-6:
        text = (
            "N leaves out the embeddings, and the output layer too where it shares their weight: the "
            "exponent of the best size will come out too large where that is much of the small models"
        )
        return [Caution("head-not-counted", text)]
    return []


def _flops(n: Array, d: Array, extra: Mapping[str, Array]) -> list[Caution]:
    if "C" not in extra:
        return []
    times = float(np.median(extra["C"] / (6.0 * n * d)))
    if not 1.0 / UNIT < times < UNIT:
        text = f"C is {times:.3g} times 6 N D in the median run: one of C, N and D is in another unit"
        return [Caution("unit-slip", text)]
    text = check_flops(extra["C"], n, d) or ""
    return [Caution("flops-and-sizes-differ", text)] if text else []


def _free(done: Fit) -> tuple[bool, float]:
    """The same comparison from the other side: the two exponents of ``done`` against one."""
    x = {name: np.exp(row) for name, row in zip(done.law.inputs, done.x, strict=True)}
    tied = fit(TWO_TERM_TIED, x, np.exp(done.y), delta=done.delta, weights=done.weights)
    ratio = tied.objective / max(done.objective, 1e-300)
    return ratio < float(np.exp(3.84 / len(done.y))), ratio


def _frontier(done: Fit, known: Uncertainty, compute: Array) -> tuple[list[Caution], dict[str, Any] | None]:
    """The exponent of N* read off the budgets themselves, held against the one that the law gives."""
    n, loss = np.exp(done.x[0]), np.exp(done.y)
    budget = _budgets(compute)
    sizes = {one: len(np.unique(n[budget == one])) for one in np.unique(budget)}
    rows = np.array([sizes[one] >= SIZES for one in budget])
    if len(np.unique(budget[rows])) < 2:
        return [], None
    ahead = _ahead(done, budget, budget == budget[rows].max())
    spread = _scatter(budget[rows], n[rows], loss[rows])
    try:
        found = frontier(budget[rows], n[rows], loss[rows], noise=lambda one: spread * one, draws=400)
    except ValueError as error:  # fewer than two budgets have their best size inside
        text = f"{error}: more sizes on the side where the loss still falls"
        return [*ahead, Caution("budgets-dropped", text)], None
    said = [*ahead]
    if found.dropped:
        named = ", ".join(f"{one:.3g}" for one in found.dropped)
        text = (
            f"the best size lies at an end, or is not sure, in {len(found.dropped)} of "
            f"{len(np.unique(budget[rows]))} budgets ({named} FLOPs): they say nothing about N*"
        )
        said.append(Caution("budgets-dropped", text))
    with np.errstate(over="ignore"):  # a draw may go anywhere; the exponent of none of them does
        exponents = done.law.derived(known.draws)["n_exponent"]
    text = disagreement(found, exponents) or ""
    if text:
        said.append(Caution("estimates-disagree", text))
    return said, _noted(found)


def _ahead(done: Fit, budget: Array, top: Array) -> list[Caution]:
    """What the law, fitted without the largest budget, would have said of it.

    The largest tenth of the rows mostly lies inside that budget, and foretelling it from the rest is easy.
    """
    smaller = budget < budget[top].min()
    if refusal(done.law, done.x[:, smaller]) is not None:
        return []
    x = {name: np.exp(row) for name, row in zip(done.law.inputs, done.x, strict=True)}
    part = {name: column[smaller] for name, column in x.items()}
    before = fit(
        done.law, part, np.exp(done.y[smaller]), delta=done.delta, weights=done.weights[smaller]
    ).predict({name: column[top] for name, column in x.items()})
    off, scatter = float((np.log(before) - done.y[top]).mean()), noise_of(done)
    if abs(off) <= max(scatter, FELT):
        return []
    text = (
        f"fitted without its largest budget ({budget[top][0]:.3g} FLOPs) the law is {100 * abs(off):.2g} % "
        f"too {'high' if off > 0 else 'low'} there, where one run scatters by {100 * scatter:.2g} %: a "
        f"larger budget may be as far off again, whatever the interval says"
    )
    return [Caution("largest-budget-missed", text)]


def _noted(found: Frontier) -> dict[str, Any]:
    low, high = found.interval()
    exponent = {"value": found.exponent, "low": low, "high": high}
    return {"n_exponent": exponent, "budgets": found.budgets.tolist(), "dropped": list(found.dropped)}


def _budgets(compute: Array) -> Array:
    """Each row's budget: the geometric mean of the rows that lie within ``SAME_BUDGET`` of a neighbour."""
    order = np.argsort(compute)
    logs = np.log(compute[order])
    group = np.concatenate([[0], np.cumsum(np.diff(logs) > SAME_BUDGET)])
    mean = np.bincount(group, logs) / np.bincount(group)
    found = np.empty(len(compute))
    found[order] = np.exp(mean[group])
    return found


def _scatter(budget: Array, n: Array, loss: Array) -> float:
    """Relative scatter of the losses around a parabola through four neighbouring sizes, the median of all.

    Third differences over log N, scaled so that noise of one standard deviation gives one.
    """
    found = []
    for one in np.unique(budget):
        rows = np.flatnonzero(budget == one)
        sizes, first = np.unique(n[rows], return_index=True)
        u, y = np.log(sizes), np.log(loss[rows[first]])
        for at in range(len(u) - 3):
            part = u[at : at + 4]
            apart = part[:, None] - part + np.eye(4)
            share = 1.0 / apart.prod(axis=1)
            found.append(float(share @ y[at : at + 4]) / float(np.sqrt(share @ share)))
    return 1.4826 * float(np.median(np.abs(found)))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
