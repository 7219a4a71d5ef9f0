"""What the dashboard says of runs, trials and plans: one method a question, each in a worker thread.

This half loads numpy and the reader of records; the page itself is served before it is there.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vario.record import Record, Run
from vario.report.charts import course
from vario.report.layers import layer_order
from vario.ui import curves, news
from vario.ui.about import about
from vario.ui.diagnoses import Diagnoses
from vario.ui.kept import Kept
from vario.ui.maps import GrowingMap
from vario.ui.shelf import Asked, Gone, Shelf, at_rest, stamp

__all__ = ["Answers"]

EXAMINED = 40  # newest runs of the list whose findings are made without being asked for
GROWING = 3  # heat maps of a run in flight that are kept: a page shows one, of each stream
MOST_POINTS = 20_000
MOST_WHERES = 500


class Answers:
    """The questions that the page asks about the runs of one directory."""

    def __init__(self, home: Path) -> None:
        self.shelf, self.diagnoses, self._kept = Shelf(home), Diagnoses(), Kept()
        self._growing: WeakKeyDictionary[Run, OrderedDict[Any, GrowingMap]] = WeakKeyDictionary()

    def close(self) -> None:
        """Lets go of all files."""
        self.diagnoses.close()
        self.shelf.close()

    def about(self, request: Request) -> dict[str, Any]:
        with self._reading(request) as run:
            return about(run)

    def series(self, request: Request) -> bytes:
        return self._drawn(request, _series)

    def heatmap(self, request: Request) -> bytes:
        return self._drawn(request, self._map)

    def distribution(self, request: Request) -> bytes:
        return self._drawn(request, _distribution)

    def _drawn(self, request: Request, draw: Callable[[Run, Request], bytes]) -> bytes:
        """The numbers of a picture; of a record at rest, those of a moment ago serve again."""
        path = self.shelf.path(request.path_params["id"])
        state = stamp(path)
        key = (*state, str(request.url.path), request.url.query) if at_rest(state) else None
        found = self._kept.find(key) if key else None
        if found is None:
            with self._reading(request) as run:
                found = draw(run, request)
            if key:
                self._kept.keep(key, found)
        return found

    def news(self, id: str, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events about one run, or about the list where `id` is empty; Gone where it is not."""
        if id:
            self.shelf.path(id)
        return news.events(self.shelf, self.diagnoses, id, ended)

    def _map(self, run: Run, request: Request) -> bytes:
        """A heat map; of a whole run in flight, from what the one before it was made of."""
        if run.status != "running" or _window(request) != (None, None):
            return _heatmap(run, request)
        record, name = _record(run, request.query_params.get("stream")), _name(request)
        layers, columns = layer_order(record, name), _columns(request)
        kept = self._growing.setdefault(run, OrderedDict())
        key = (record.stream, name, columns)
        found = kept.pop(key, None)
        if found is None or found.layers != layers:
            found = GrowingMap(record, name, layers, columns)
        kept[key] = found
        if len(kept) > GROWING:
            kept.popitem(last=False)
        return curves.growing_reply(record, found, over=request.query_params.get("over", ""))

    @contextmanager
    def _reading(self, request: Request) -> Iterator[Run]:
        with self.shelf.reading(request.path_params["id"]) as run, run.still():
            yield run

    def runs(self, request: Request) -> dict[str, Any]:
        rows = self.shelf.rows()
        for place, row in enumerate(rows):
            path = self.shelf.home / row["id"]
            looked = place < EXAMINED and row["status"] != "corrupt" and row["steps"]
            told = self.diagnoses.known(path, row["status"]) if looked else None
            row |= _counted(told)
        return {"home": str(self.shelf.home), "runs": rows, **self._beside()}

    def _beside(self) -> dict[str, Any]:
        """Trials and plans of the home, as the list shows them."""
        from vario.ui.plans import plans_told
        from vario.ui.trials import trials_told

        return {"trials": trials_told(self.shelf.home), "plans": plans_told(self.shelf.home)}

    def trial(self, request: Request) -> dict[str, Any]:
        from vario.ui.trials import trial_told

        return trial_told(self.shelf.home, request.path_params["id"])

    def plan(self, request: Request) -> dict[str, Any]:
        from vario.ui.plans import plan_told

        return plan_told(self.shelf.home, request.path_params["id"], request.query_params.get("at", ""))

    def findings(self, request: Request) -> dict[str, Any]:
        path = self.shelf.path(request.path_params["id"])
        told = self.diagnoses.wait(path, self.shelf.status(path.name))
        return {
            **(told or {"findings": []}),
            "version": self.diagnoses.version(path),
            "pending": told is None,
        }

    def export(self, request: Request) -> Response:
        if request.query_params.get("format", "csv") != "csv":
            raise Asked("the dashboard exports csv; `vario export` writes parquet and tensorboard.")
        with self.shelf.reading(request.path_params["id"]) as run:
            record, name = _record(run, request.query_params.get("stream")), _name(request)
            stream, wheres = record.stream, _wheres(record, name, request)

        def lines() -> Iterator[bytes]:
            with self.shelf.reading(run.id) as again:
                found = next((one for one in again.records() if one.stream == stream), None)
                for part in curves.csv_lines(found, name, wheres=wheres) if found else ():
                    yield part.encode("utf-8", "replace")

        file = re.sub(r"[^\w.-]+", "_", f"{run.id}-{name}", flags=re.A)[:120]
        headers = {"content-disposition": f'attachment; filename="{file}.csv"'}
        return StreamingResponse(lines(), media_type="text/csv", headers=headers)


def _series(run: Run, request: Request) -> bytes:
    points = _number(request, "points", 800, least=1, most=MOST_POINTS) or 800
    return curves.series_reply(_lines(run, request), window=_window(request), points=points)


def _lines(run: Run, request: Request) -> list[curves.Line]:
    """What is asked for: `line`s, the `first` charts of the course, or one series by name at its places."""
    if first := _number(request, "first", 0, least=0, most=20):
        charts = [chart for chart in course(run.records()) if chart.section == "loss"][:first]
        lines = [line for chart in charts for line in chart.lines]
        return [curves.Line(line.record, line.name, line.where, max(line.column, 0)) for line in lines]
    asked = request.query_params.getlist("line")
    if len(asked) > MOST_WHERES:
        raise Asked(f"{len(asked)} lines were asked for at once; {MOST_WHERES} are answered.")
    if asked:
        return [_line(run, text) for text in asked]
    record, name = _record(run, request.query_params.get("stream")), _name(request)
    column = _number(request, "column", 0, least=0, most=100_000) or 0
    return [curves.Line(record, name, where, column) for where in _wheres(record, name, request)]


def _line(run: Run, text: str) -> curves.Line:
    try:
        stream, name, where, column = json.loads(text)
        if not (all(isinstance(part, str) for part in (stream, name, where)) and isinstance(column, int)):
            raise ValueError
    except (TypeError, ValueError):
        raise Asked(f'line={text[:80]} is not like ["stream", "series", "place", 0].') from None
    return curves.Line(_record(run, stream), name, where, max(column, 0))


def _heatmap(run: Run, request: Request) -> bytes:
    columns = _columns(request)
    over = request.query_params.get("over", "")
    record = _record(run, request.query_params.get("stream"))
    return curves.heatmap_reply(record, _name(request), window=_window(request), columns=columns, over=over)


def _distribution(run: Run, request: Request) -> bytes:
    columns = _columns(request)
    where = request.query_params.get("where", "")
    record = _record(run, request.query_params.get("stream"))
    return curves.distribution_reply(record, where, columns=columns)


def _record(run: Run, stream: str | None) -> Record:
    """The stream that is asked for; the main one where none is named."""
    if not stream:
        return run.main
    found = next((record for record in run.records() if record.stream == stream), None)
    if found is None:
        raise Gone(f"the run {run.id} has no stream {stream[:80]!r}. /api/run/{run.id} lists them.")
    return found


def _name(request: Request) -> str:
    name = request.query_params.get("name")
    if not name:
        raise Asked("which series? Add name=..., such as name=loss/train.")
    return name


def _wheres(record: Record, name: str, request: Request) -> list[str]:
    """The places that are asked for; the whole model, or all places, where none is named."""
    asked = request.query_params.getlist("where")
    known = record.wheres(name)
    if not asked:
        asked = [""] if "" in known else list(known)
    if len(asked) > MOST_WHERES:
        raise Asked(f"{len(asked)} places of {name[:80]} were asked for at once; {MOST_WHERES} are answered.")
    return asked


def _columns(request: Request) -> int:
    return _number(request, "columns", 200, least=1, most=2_000) or 200


def _window(request: Request) -> tuple[int | None, int | None]:
    return _number(request, "from", None), _number(request, "to", None)


def _number(
    request: Request, name: str, usual: int | None, *, least: int = -(2**62), most: int = 2**62
) -> int | None:
    text = request.query_params.get(name)
    if text in (None, ""):
        return usual
    try:
        value = int(float(text))
    except (ValueError, OverflowError):
        raise Asked(f"{name}={str(text)[:40]} is not a whole number.") from None
    if not least <= value <= most:
        raise Asked(f"{name}={value} is out of range: {least} to {most} are answered.")
    return value


def _counted(told: dict[str, Any] | None) -> dict[str, Any]:
    """What the list says of the findings of a run; None where they are not known yet."""
    if told is None:
        return {"findings": None, "top": []}
    causes = [row for row in told["findings"] if not row["explained_by"]]
    counts = {level: 0 for level in ("error", "warning", "advice")}
    for row in told["findings"]:
        counts[row["severity"]] += 1
    return {"findings": counts, "top": [row["id"] for row in causes[:3]]}
