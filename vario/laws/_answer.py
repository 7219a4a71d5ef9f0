"""From a table of runs to the answer that `vario plan` prints: read, check, refuse or fit, caution."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario import laws
from vario.laws import _table as table_of
from vario.laws._beside import BESIDE, beside, second_looks
from vario.laws._compare import AUTO, Candidate, Choice, choose, compare, insist
from vario.laws._file import read
from vario.laws._forecast import Forecaster
from vario.laws._form import STEEP
from vario.laws._mixed import courses, families, labels, lowest, sweeps, unlike
from vario.laws._newton import Array
from vario.laws._refusal import Caution, cautions
from vario.laws._uncertainty import Uncertainty, uncertainty
from vario.laws.fit import Fit, Law, neighbours
from vario.nouns import VarioError

STEEPEST = 2.0  # a lean beyond it leaves one run


@dataclass(frozen=True)
class Answer:
    """What is shown (the contract of `vario plan fit --json`), what is kept, and the columns used."""

    shown: dict[str, Any]
    kept: dict[str, Any] | None
    plan: Forecaster | None
    columns: dict[str, Array]


def answer(
    table: Path | table_of.Columns,
    columns: str,
    *,
    law: str = "two-term",
    delta: str = "1e-3",
    where: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    block: str | None = None,
    keep_duplicates: bool = False,
    lean: float = 0.0,
    best_only: bool = False,
) -> Answer:
    """Fit, or say why not. Mistakes in the table raise VarioError with row and column."""
    width = delta_of(delta)
    _options(bootstrap, seed, lean)
    family = law_of(AUTO[0] if law == "auto" else law)
    given = runs(
        table, columns, family, where=where, block=block,
        keep_duplicates=keep_duplicates, best_only=best_only,
    )  # fmt: skip
    got, blocks = given.columns, given.blocks
    x, y = {name: got[name] for name in family.inputs}, got[family.output]
    choice = choose(x, y) if law == "auto" else insist(family, x, y, delta=width, lean=lean)
    best, keep, done = choice.best, choice.keep, choice.done
    family = laws.law(best.law)
    if done is None:
        width = best.delta
        shown = _shown(family.id, len(y), width if width != "auto" else None, refused=best.refused)
        return Answer(shown, None, None, got)
    own = None if blocks is None else blocks[keep]
    known = uncertainty(done, draws=bootstrap, seed=seed, blocks=own, rivals=choice.rivals)
    plan = Forecaster.of(done, known)
    said, noted = _cautions(choice, done, known, given)
    shown = _shown(family.id, len(done.y), done.delta, refused=None)
    shown |= {
        "objective": done.objective,
        "lean": best.lean,
        "parameters": plan.parameters(),
        "derived": plan.derived(),
        "warnings": [{"id": one.id, "text": one.text} for one in said],
        "starts": {"agreeing": done.agreeing, "tried": done.tried},
        "neighbours": [
            {
                "delta": near,
                "objective": total,
                "parameters": dict(zip(family.names, theta.tolist(), strict=True)),
            }
            for near, (total, theta) in neighbours(done).items()
        ],
        "uncertainty": {"bootstrap": known.kind, "draws": bootstrap, "noise": known.noise,
                        "factor": known.factor,
                        "past_forecasts": len(known.errors)},
        **noted,
    }  # fmt: skip
    return Answer(shown, plan.as_dict(), plan, {name: column[keep] for name, column in got.items()})


def _options(bootstrap: int, seed: int, lean: float) -> None:
    if bootstrap < 20:
        raise VarioError(f"--bootstrap {bootstrap}: 20 refits are the least that give an interval")
    if seed < 0:
        raise VarioError(f"--seed {seed}: a seed is 0 or more")
    if not 0 <= lean <= STEEPEST:
        raise VarioError(f"--lean {lean:g} must lie between 0 (all rows alike) and {STEEPEST:g}")


def ranked(
    table: Path | table_of.Columns,
    columns: str,
    names: Sequence[str],
    *,
    where: str | None = None,
    keep_duplicates: bool = False,
) -> list[Candidate]:
    """Families ranked by their earlier forecasts on the runs of ``table``."""
    families = [law_of(name.strip()) for name in names]
    if len({(family.inputs, family.output) for family in families}) > 1:
        raise VarioError(f"{', '.join(names)} do not take the same inputs; compare families that do")
    got = runs(table, columns, families[0], where=where, keep_duplicates=keep_duplicates).columns
    x = {name: got[name] for name in families[0].inputs}
    return compare([family.id for family in families], x, got[families[0].output], deltas=(1e-3, "auto"))


@dataclass(frozen=True)
class Runs:
    """The checked columns that a family needs, their rows in the file (from 1), and what else was there."""

    columns: dict[str, Array]
    rows: NDArray[np.intp]
    blocks: Array | None  # the block of each row where one was named
    beside: dict[str, Array]  # columns that later checks can use
    labels: dict[str, NDArray[Any]]  # columns of text that sort the rows into a few parts
    unlike: list[Caution]  # what makes the outputs of the rows measures of several things


def runs(
    table: Path | table_of.Columns,
    columns: str,
    family: Law,
    *,
    where: str | None = None,
    block: str | None = None,
    keep_duplicates: bool = False,
    best_only: bool = False,
) -> Runs:
    """The rows that ``family`` is to be fitted to; mistakes raise VarioError with row and column.

    ``best_only`` keeps the row with the lowest output of each combination of inputs.
    """
    whole = read(table) if isinstance(table, Path) else table
    needed = (*family.inputs, family.output)
    given = table_of.pairs(columns, option="--columns") if columns else {}
    unknown = set(given) - set(needed) - set(BESIDE)
    if unknown:
        one = (
            ". Of one input there are --law power-floor, power, broken-power; `plan compare` ranks them"
            if "x" in unknown
            else ""
        )
        raise VarioError(
            f"--columns names {', '.join(sorted(unknown))}; {family.id} takes {', '.join(needed)}, and its "
            f"checks {', '.join(name for name in BESIDE if name not in needed)}{one}"
        )
    wanted = {name: given.get(name, name) for name in needed}
    _ask_for([name for name in needed if name not in given and name not in whole], whole)
    got, rows = table_of.take(whole, wanted, where=where)
    positive = needed if family.link == "log" else family.inputs
    table_of.check(got, rows, positive=tuple(positive), called=wanted)
    if len(rows) < 2:
        place = str(table) if isinstance(table, Path) else "the directory"
        left = f"{len(rows)} row" + "s" * (len(rows) != 1)
        raise VarioError(f"{place} leaves {left}; a law needs several runs of different sizes")
    if np.ptp(np.asarray(got[family.output], float)) == 0:
        level = float(got[family.output][0])
        raise VarioError(f"column {family.output} is {level:g} in every row: there is nothing to fit")
    if not keep_duplicates:
        table_of.check_duplicates(whole, rows)
    if best_only:
        numbers = [np.asarray(got[name], float) for name in needed]
        kept = lowest(numbers[:-1], numbers[-1])
        got, rows = {name: column[kept] for name, column in got.items()}, rows[kept]
    blocks = None if block is None else table_of.named(block, whole)[rows - 1]
    extra = beside(
        whole, {name: given[name] for name in BESIDE if name in given and name not in needed}, rows
    )
    # In one order, so that the draws of the bootstrap do not hang on the order of the file.
    order = np.lexsort([np.asarray(got[name], float) for name in reversed(needed)])
    return Runs(
        {name: np.asarray(got[name], float)[order] for name in needed},
        rows[order],
        None if blocks is None else blocks[order],
        {name: column[order] for name, column in extra.items()},
        {name: part[order] for name, part in labels(whole, rows).items()},
        unlike(whole, rows, wanted[family.output]),
    )


def _ask_for(missing: Sequence[str], whole: table_of.Columns) -> None:
    """Raise where the file has no column for an input and none was named, with a guess from the header."""
    if not missing:
        return
    guesses = {name: table_of.guess(name, whole) for name in missing}
    told = ",".join(f"{name}={guess or 'COLUMN'}" for name, guess in guesses.items())
    hint = "Perhaps" if all(guesses.values()) else "Say which they are"
    text = f"there is no column {', '.join(missing)}; the file has {', '.join(whole)}"
    raise VarioError(f"{text}. {hint}: --columns '{told}'")


def coverage_of(
    table: Path | table_of.Columns, columns: str, tries: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Coverage at every number of tries: measured without bias where the samples reach, forecast beyond.

    Problems that were never solved stay in. ``far`` marks more than 30 times the samples.
    """
    from vario.laws.repeated_sampling import coverage, forecast

    whole = read(table) if isinstance(table, Path) else table
    given = table_of.pairs(columns, option="--columns") if columns else {}
    got, rows = table_of.take(whole, {name: given.get(name, name) for name in ("samples", "correct")})
    table_of.check(got, rows, positive=("samples",))
    samples, correct = (np.asarray(got[name], float) for name in ("samples", "correct"))
    wrong = np.flatnonzero((correct < 0) | (correct > samples) | (samples != samples[0]))
    if len(wrong):
        at = int(wrong[0])
        raise VarioError(
            f"row {rows[at]}: {correct[at]:g} right out of {samples[at]:g}; every problem needs 0 to "
            f"{samples[0]:g} right out of the same {samples[0]:g}"
        )
    try:
        ks = np.array([float(one) for one in tries])
    except ValueError as error:
        raise VarioError(f"--at {','.join(tries)}: whole numbers, separated by commas, are needed") from error
    if (ks < 1).any():
        raise VarioError(f"--at {','.join(tries)}: a number of tries is 1 or more")
    count = int(samples[0])
    said = forecast(correct, count, ks, seed=seed)
    rng = np.random.default_rng(seed)
    near = ks <= count
    value, low, high = said.value.copy(), said.low.copy(), said.high.copy()
    if near.any():
        value[near] = coverage(correct, count, ks[near])
        drawn = [coverage(rng.choice(correct, len(correct)), count, ks[near]) for _ in range(200)]
        low[near], high[near] = np.quantile(drawn, (0.025, 0.975), axis=0)
    points = zip(ks, value, low, high, said.far, strict=True)
    return {
        "problems": len(correct), "samples": count, "solved": int((correct > 0).sum()), "family": said.family,
        "coverage": [
            {"k": float(k), "value": float(v), "low": float(a), "high": float(b), "far": bool(f)}
            for k, v, a, b, f in points
        ],
    }  # fmt: skip


def load(path: Path) -> Forecaster:
    """The fit that `vario plan fit -o` kept in ``path``."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        plan = kept["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VarioError(f"{path} is not a fit; write one with `vario plan fit TABLE -o fit.json`") from error
    if plan is None:
        raise VarioError(f"{path} holds a refusal: {kept.get('refused')}")
    try:
        return Forecaster.from_dict(plan)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VarioError(f"{path} is a fit that was cut or changed ({error!r}); write it again") from error


def numbers(text: str, law: Law) -> dict[str, float]:
    """``N=7e9,D=1.4e11`` as positive numbers, one for every input of the law."""
    given = {}
    for name, value in table_of.pairs(text, option="--at").items():
        given[name] = table_of.number(value)
    if set(given) != set(law.inputs):
        raise VarioError(f"{law.id} takes {', '.join(law.inputs)}; got {', '.join(given) or 'nothing'}")
    for name, number in given.items():
        if not (np.isfinite(number) and number > 0):
            raise VarioError(f"{name}={number:g}: a positive number is needed")
    return given


def delta_of(text: str) -> float | str:
    """The width of the Huber loss from its option."""
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError as error:
        raise VarioError(f"--delta {text!r} is neither a number nor auto nor inf") from error
    if not value > 0:
        raise VarioError(f"--delta {text} must be above 0")
    return value


def law_of(name: str) -> Law:
    try:
        return laws.law(name)
    except KeyError as error:
        raise VarioError(str(error.args[0])) from error


def _cautions(
    choice: Choice, done: Fit, known: Uncertainty, given: Runs
) -> tuple[list[Caution], dict[str, Any]]:
    """All that a reader of this fit should know, and what is recorded beside the parameters."""
    keep = choice.keep
    more, noted = second_looks(done, known, {name: column[keep] for name, column in given.beside.items()})
    mixed = (
        given.unlike
        + families(done, {name: part[keep] for name, part in given.labels.items()})
        + sweeps(done)
    )
    if given.blocks is None:
        mixed += courses(done)
    return mixed + _chosen(choice) + cautions(done, known, given.rows[keep]) + more, noted


def _chosen(choice: Choice) -> list[Caution]:
    """A caution that says what foretold the largest runs best, and how many did nearly as well."""
    if not choice.best.count:
        return []
    best = choice.best
    text = (
        f"{best.law} on rows {best.rows} with delta {best.delta} and rows weighted by size^{best.lean:g} "
        f"foretold the {f'{best.count} largest runs' if best.count > 1 else 'largest run'} from the "
        f"smaller with a mean error of "
        f"{100 * best.error:.2f} %, the best of {choice.tried} candidates for what it spends in parameters"
    )
    if choice.rivals:
        text += (
            f"; the forecast is the mean of it and {len(choice.rivals)} others, weighed by error^-{STEEP:g}, "
            f"and its interval spans what they say"
        )
    return [Caution("chosen-by-forecasts", text)]


def _shown(law: str, n: int, delta: float | str | None, *, refused: str | None) -> dict[str, Any]:
    return {
        "law": law, "n": n, "delta": delta, "objective": None, "parameters": {}, "derived": {},
        "warnings": [],
        "refused": refused,
    }  # fmt: skip
