"""A file of runs as columns: CSV however it was written, JSON however it is laid out, or Parquet."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vario.laws._table import MISSING, Columns
from vario.nouns import VarioError

POINT = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d*)?([eE][-+]?\d+)?")  # 1,234,567.8
COMMA = re.compile(r"[-+]?([1-9]\d{0,2}(\.\d{3})+|\d+)(,\d+)?([eE][-+]?\d+)?")  # 1.234.567,8
RULED = re.compile(r":?-{2,}:?")  # what stands beneath the header of a table in Markdown
GROUPS = re.compile(r"(?<=\d)[ \u00a0\u2009\u202f'\u2019](?=\d{3}(?!\d))")  # 1 234 567, 1'234'567

GIVE = "give a .csv, .json or .parquet file"


def read(path: str | Path) -> Columns:
    """The columns of a file of runs; numbers where every filled cell is one, else text."""
    path = Path(path)
    if not path.is_file():
        raise VarioError(f"{path} is not a file; {GIVE}")
    with path.open("rb") as raw:
        start = raw.read(4)
    if start == b"PAR1" or path.suffix == ".parquet":
        return _parquet(path)
    if start == b"PK\x03\x04":
        raise VarioError(f"{path} is a workbook of Excel or a zip; save its table as .csv and give that")
    text = _text(path).strip()
    return _json(text, path) if text.startswith(("{", "[")) else _csv(text, path)


def _csv(text: str, path: Path) -> Columns:
    lines = [line for line in text.splitlines(keepends=True) if line.strip()]
    while lines and lines[0].startswith("#"):
        del lines[0]
    separator = _separator(lines[0] if lines else "")
    if separator == " ":  # columns set with any number of spaces
        lines = [line.strip() for line in lines]
    try:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator == " ")
        filled = [row for row in reader if any(cell.strip() for cell in row)]
        rows = [row for row in filled if not all(RULED.fullmatch(cell.strip() or "---") for cell in row)]
    except csv.Error as error:
        raise VarioError(f"{path} is not a table ({error}); {GIVE}") from error
    if len(rows) < 2:
        raise VarioError(f"{path} has no rows beneath its header")
    header = [name.strip() for name in rows[0]]
    if len(header) == 1:
        raise VarioError(
            f"{path}: its header is one name, {header[0][:60]!r}; a comma, semicolon, tab, | or space "
            f"separates columns"
        )
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise VarioError(f"{path}: two columns are called {twice!r}; rename one")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise VarioError(
                f"{path}, row {number}: {len(row)} cells, but the header, {lines[0].strip()[:60]!r}, names "
                f"{len(header)} columns"
            )
    cells = {name: _plain([row[i] for row in rows[1:]]) for i, name in enumerate(header)}
    commas = {_way(column) for column in cells.values()} - {"either", "neither"} == {","}
    return {name: _numbers(column, commas=commas) for name, column in cells.items()}


def _json(text: str, path: Path) -> Columns:
    """A list of rows, a row on every line, or one object of rows. What a row lacks is an empty cell."""
    try:
        found = _rows(json.loads(text))
    except json.JSONDecodeError:
        found = _lines([text] if text.startswith("[") else text.splitlines(), path)
    wrong = next((number for number, row in enumerate(found, 1) if not isinstance(row, dict)), None)
    if wrong is not None or not found:
        raise VarioError(f'{path}, row {wrong or 1} is no object such as {{"params": 1e9, "loss": 2.5}}')
    names = list(dict.fromkeys(name for row in found for name in row))
    cells = {name: ["" if row.get(name) is None else str(row[name]) for row in found] for name in names}
    return {name: _numbers(_plain(column)) for name, column in cells.items()}


def _lines(lines: list[str], path: Path) -> list[Any]:
    found: list[Any] = []
    for line in lines:
        try:
            got = json.loads(line or "[]")
        except json.JSONDecodeError as error:
            at = len(found) + 1
            raise VarioError(
                f"{path}, row {at} is not JSON ({error}); one object on a line is a row"
            ) from error
        found += got if isinstance(got, list) else [got]
    return found


def _rows(whole: Any) -> list[Any]:
    """The rows of a list, of columns (lists, or by row number), of named rows, or beside other facts."""
    if not isinstance(whole, dict):
        return list(whole) if isinstance(whole, list) else [whole]
    parts = list(whole.values())
    inside = [part for part in parts if isinstance(part, list) and part and isinstance(part[0], dict)]
    if len(inside) == 1:
        return list(inside[0])
    if parts and all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts):
        return [dict(zip(whole, row, strict=True)) for row in zip(*parts, strict=True)]
    if parts and all(isinstance(part, dict) for part in parts):
        if not all(key.isdecimal() for part in parts for key in part):
            return parts
        return [
            {name: whole[name].get(at) for name in whole} for at in dict.fromkeys(k for p in parts for k in p)
        ]
    return [whole]


def _text(path: Path) -> str:
    """The file as text, in UTF-8 or as spreadsheets write it: UTF-16 with its mark, or Windows' Latin."""
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise VarioError(f"{path} is a gzip that is cut or broken ({error})") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw:
        raise VarioError(f"{path} is not a table in text; {GIVE}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _separator(header: str) -> str:
    """What stands between the names of the header: a comma unless another is more frequent, or blanks."""
    likely = max(",;\t|", key=header.count)
    return likely if likely in header else " "


def _plain(cells: list[str]) -> list[str]:
    return [GROUPS.sub("", cell.strip()) for cell in cells]


def _way(cells: list[str]) -> str:
    """How a column writes decimals: "." or ",", "either" (1,234 throughout), or "neither" (text)."""
    filled = [cell for cell in cells if cell.lower() not in MISSING]
    point, comma = (all(way.fullmatch(cell) for cell in filled) for way in (POINT, COMMA))
    return ("either" if comma else ".") if point else ("," if comma else "neither")


def _numbers(cells: list[str], *, commas: bool = False) -> NDArray[Any]:
    """Numbers where every filled cell is one; ``commas``: the other columns write decimals with a comma.

    A column of which every comma could be either (1,234) stays text, and so an error, unless they do.
    """
    way = _way(cells)
    plain = cells
    if way == "," or (commas and way == "either"):
        plain = [cell.replace(".", "").replace(",", ".") for cell in cells]
    elif way == ".":
        plain = [cell.replace(",", "") for cell in cells]
    try:
        return np.array([math.nan if cell.lower() in MISSING else float(cell) for cell in plain])
    except ValueError:
        return np.array(cells)


def _parquet(path: Path) -> Columns:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise VarioError(f"{path}: reading Parquet needs pyarrow; pip install 'vario[export]'") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise VarioError(f"{path} is not a Parquet file: {error}") from error
    if not table.num_rows or not table.num_columns:
        raise VarioError(f"{path} has no rows")
    columns = {name: np.asarray(table[name].to_numpy()) for name in table.column_names}
    return {
        name: _numbers(_plain(["" if cell is None else str(cell) for cell in column]))
        if column.dtype.kind == "O"
        else column
        for name, column in columns.items()
    }
