"""Runs as columns: chosen by an expression, checked row by row.

Expressions (``--where 'decay == "short" and N > 1e6'``, ``N=params*1e6``) are walked as a syntax
tree that knows arithmetic, comparisons and a few functions: nothing in them is ever executed.
A column whose name is not a word goes between backquotes.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import VarioError

Columns = dict[str, NDArray[Any]]

GAP = 1e3  # a lone value this many times off all others is in another unit

MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "--", "?", "\u2014")  # in lower case
SPELLED = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*([kmbgt%])", re.IGNORECASE)  # 125M, 1.3 B, 41 %
SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "%": 1.0}

# What headers call the inputs of a law, and the units that they name in brackets or behind an underscore.
SPELLINGS = {
    "N": r"\bn\b|param|model.?size|^size|num.?weights|modellgr",
    "D": r"\bd\b|(?<!per[ _-])(token|chars|characters)|sample|example|data",
    "loss": r"loss|verlust|nll|\bbp[bc]\b|\bbits|entropy|perplex|ppl|error|acc",
    "C": r"(flop|compute)(?!.*per)",
}
HELD_OUT = r"val|test|held"  # of two losses, the one that a forecast is about
PF_DAYS = 8.64e19  # FLOPs
UNITS = {"k": "1e3", "mio": "1e6", "m": "1e6", "million": "1e6", "millions": "1e6", "mrd": "1e9", "b": "1e9",
         "bn": "1e9", "billion": "1e9", "billions": "1e9", "g": "1e9", "t": "1e12"}  # fmt: skip

BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: np.isin(a, b), ast.NotIn: lambda a, b: ~np.isin(a, b),
}  # fmt: skip
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "log": np.log, "log10": np.log10, "log2": np.log2, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs,
    "isfinite": np.isfinite,
}  # fmt: skip


def take(
    columns: Columns, wanted: Mapping[str, str], *, where: str | None = None
) -> tuple[Columns, NDArray[Any]]:
    """The wanted columns by their new names (``N=params``), and the row numbers (from 1) that are left.

    A column of sizes in words (125M, 1.3B) or percent becomes numbers here; elsewhere it stays text.
    """
    count = len(next(iter(columns.values())))
    rows = np.arange(1, count + 1)
    got = {
        name: np.broadcast_to(_spelled_out(_column(columns, text, name)), (count,))
        for name, text in wanted.items()
    }
    if where:
        said = np.asarray(evaluate(where, {**columns, **got}))
        if said.dtype.kind != "b":
            raise VarioError(f"--where {where!r} is no condition; compare something, e.g. 'N > 1e6'")
        keep = np.broadcast_to(said, (count,))
        if not keep.any():
            raise VarioError(f"--where {where!r} leaves none of the {count} rows")
        got, rows = {name: column[keep] for name, column in got.items()}, rows[keep]
    return got, rows


def check(
    columns: Mapping[str, NDArray[Any]],
    rows: NDArray[Any],
    *,
    positive: tuple[str, ...],
    called: Mapping[str, str] | None = None,
) -> None:
    """Raise on the first cell that no law can use, and on a lone value in another unit.

    ``called`` says what a column is in the file, where that is another name (``N``: ``params``).
    """
    for name, column in columns.items():
        own = (called or {}).get(name, name)
        told = name if own == name else f"{name} ({own})"
        if column.dtype.kind not in "fiub":
            at = next((i for i, cell in enumerate(column) if not _is_number(str(cell))), 0)
            raise VarioError(
                f"row {rows[at]}, column {told} holds text ({str(column[at])[:40]!r}); a law needs numbers "
                f"such as 1.3e9, 1300000000 or 1.3B"
            )
        values = column.astype(float)
        bad = ~np.isfinite(values) | ((values <= 0) if name in positive else False)
        if bad.any():
            at = int(np.argmax(bad))
            wants = "a positive number" if name in positive else "a finite number"
            keep = f"{name} > 0" if np.isfinite(values[at]) else f"isfinite({name})"
            raise VarioError(
                f"row {rows[at]}, column {told}: {values[at]:g} is not {wants}. "
                f"Mend the row, or leave it out with --where '{keep}'"
            )
        if name in positive:
            _lone(told, values, rows)


def check_duplicates(columns: Columns, rows: NDArray[Any]) -> None:
    """Raise where two of ``rows`` (numbers from 1) are the same in every column of the file."""
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        cells = tuple(column[row - 1] for column in columns.values())
        if cells in seen:
            raise VarioError(
                f"rows {seen[cells]} and {row} are the same in every column ({', '.join(columns)}); "
                f"remove one. "
                f"Two runs that really agree differ in some column (a seed): add it, or pass "
                f"--keep-duplicates"
            )
        seen[cells] = int(row)


def pairs(text: str, *, option: str) -> dict[str, str]:
    """``N=params,D=tokens*1e9`` as a mapping; commas inside brackets or quotes do not split."""
    parts = re.findall(r"(?:[^,(\"'`]|\([^)]*\)|\"[^\"]*\"|'[^']*'|`[^`]*`)+", text)
    found: dict[str, str] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise VarioError(f"{option} wants NAME=VALUE pairs such as N=params,D=tokens; got {part!r}")
        if name.strip() in found:
            raise VarioError(f"{option} gives {name.strip()} twice: {found[name.strip()]}, {value.strip()}")
        found[name.strip()] = value.strip()
    return found


def guess(name: str, columns: Columns) -> str:
    """What to write for an input of a law, from the names of columns; empty where none looks like it."""
    found = [one for one in columns if re.search(SPELLINGS.get(name, r"(?!)"), one.lower())]
    if not found:
        return _by_compute(name, columns)
    if name == "loss":
        found.sort(key=lambda one: not re.search(HELD_OUT, one.lower()))
    found.sort(key=lambda one: _spelled_out(columns[one]).dtype.kind not in "fiub")
    column = found[0] if found[0].isidentifier() else f"`{found[0]}`"
    unit = re.search(r"[(\[_ ]([^\W_]+)\.?[)\]]?$", found[0].lower())
    if name == "C" and re.search(r"pf.?(s.?)?days", found[0].lower()):
        return f"{column}*{PF_DAYS:g}"
    if name != "loss":
        return f"{column}*{UNITS[unit[1]]}" if unit and unit[1] in UNITS else column
    if re.search("perplex|ppl", found[0].lower()):
        return f"log({column})"
    if "acc" not in found[0].lower():
        return column
    values = _spelled_out(columns[found[0]])
    return f"{100 if values.dtype.kind == 'f' and np.nanmax(values) > 1 else 1}-{column}"


def _by_compute(name: str, columns: Columns) -> str:
    """N or D from the other one and the compute, which is 6 N D."""
    other = {"N": "D", "D": "N"}.get(name)
    if other is None or not any(re.search(SPELLINGS[other], one.lower()) for one in columns):
        return ""
    compute = guess("C", columns)
    return f"{compute}/6/({guess(other, columns)})" if compute else ""


def number(text: str) -> float:
    """7e9, 7B or 20 * 7e9."""
    spelled = SPELLED.fullmatch(text)
    if spelled:
        return float(spelled[1]) * SCALES[spelled[2].lower()]
    try:
        value = evaluate(text, {})
    except VarioError as error:
        raise VarioError(f"{text!r} is not a number; write 1e9, 1B, 20M or 20 * 1e9") from error
    if not isinstance(value, (int, float)):
        raise VarioError(f"{text!r} is not a number; write 1e9, 1B, 20M or 20 * 1e9")
    return float(value)


def evaluate(text: str, columns: Mapping[str, Any]) -> Any:
    """The value of an expression over columns; only arithmetic, comparisons, and, or, not, in, functions."""
    names = dict(columns)
    for number, quoted in enumerate(re.findall(r"`([^`]*)`", text)):
        text = text.replace(f"`{quoted}`", f"_quoted_{number}")
        names[f"_quoted_{number}"] = named(quoted, columns)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise VarioError(f"{text!r} is not an expression: {error.msg}") from error
    try:
        with np.errstate(all="ignore"):  # what is no number is reported with its row, later
            return _walk(tree.body, names, text)
    except (TypeError, ValueError) as error:
        raise VarioError(f"{text!r} mixes text and numbers, or columns of different lengths") from error


def _walk(node: ast.AST, names: Mapping[str, Any], text: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool)):
        # floats: whole numbers of Python would grow without end in 9 ** 9 ** 9
        return node.value if isinstance(node.value, (str, bool)) else np.float64(node.value)
    if isinstance(node, ast.Name):
        return named(node.id, names)
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_walk(item, names, text) for item in node.elts]
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        sides = (_spelled_out(_walk(side, names, text)) for side in (node.left, node.right))
        return BINARY[type(node.op)](*sides)
    return _walk_logic(node, names, text)


def _walk_logic(node: ast.AST, names: Mapping[str, Any], text: str) -> Any:
    """Signs, not, and, or, comparisons and functions; anything else is refused."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        value = _walk(node.operand, names, text)
        return np.logical_not(value) if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BoolOp):
        join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return join.reduce(np.broadcast_arrays(*(_walk(item, names, text) for item in node.values)))
    if isinstance(node, ast.Compare) and all(type(op) in BINARY for op in node.ops):
        sides = [_walk(item, names, text) for item in (node.left, *node.comparators)]
        steps = [BINARY[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:], strict=False)]
        return np.logical_and.reduce(np.broadcast_arrays(*steps))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        if node.func.id in FUNCTIONS and not node.keywords:
            return FUNCTIONS[node.func.id](_walk(node.args[0], names, text))
    raise VarioError(
        f"{text!r}: {ast.unparse(node)!r} is not allowed here; arithmetic, comparisons, and/or/not/in and "
        f"{', '.join(FUNCTIONS)} are"
    )


def named(name: str, columns: Mapping[str, Any]) -> Any:
    """The column with this name."""
    if not columns:
        raise VarioError(f"{name!r} is not a number")
    if name not in columns:
        known = ", ".join(key for key in columns if not key.startswith("_quoted_"))
        raise VarioError(f"there is no column {name!r}; the file has {known}")
    return columns[name]


def _column(columns: Columns, text: str, name: str) -> Any:
    if text in columns:
        return columns[text]
    if re.fullmatch(r"[A-Za-z_][\w .-]*", text):  # a bare name that is missing, not an expression
        try:
            return evaluate(text, columns)
        except VarioError as error:
            raise VarioError(
                f"column {text!r} (for {name}) is missing; the file has {', '.join(columns)}. "
                f"Say which one it is: --columns {name}=COLUMN"
            ) from error
    return evaluate(text, columns)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip().lower() in MISSING
    return True


def _spelled_out(column: Any) -> Any:
    """125M and 1.3B as numbers, and 41 % as 41, where every filled cell of a text column is such."""
    if not isinstance(column, np.ndarray) or column.dtype.kind != "U":
        return column
    cells = [str(cell) for cell in column]
    found = [SPELLED.fullmatch(cell) for cell in cells]
    if not all(one or cell.lower() in MISSING for one, cell in zip(found, cells, strict=True)):
        return column
    return np.array([float(one[1]) * SCALES[one[2].lower()] if one else math.nan for one in found])


def _lone(name: str, values: NDArray[Any], rows: NDArray[Any]) -> None:
    """A few values a thousand times off all the others were written in another unit."""
    order = np.argsort(values)
    steps = np.diff(np.log(values[order]))
    if len(values) < 4 or steps.max() < np.log(GAP):
        return
    cut = int(np.argmax(steps)) + 1
    few = order[:cut] if cut <= len(values) - cut else order[cut:]
    if len(few) <= max(1, len(values) // 10):
        at = int(few[0])
        raise VarioError(
            f"row {rows[at]}, column {name}: {values[at]:g} is 10^{steps.max() / np.log(10.0):.1f} times "
            f"away from every other value (median {np.median(values):g}); is it in another unit? "
            f"Mend it, or leave it out with --where"
        )
