"""The dashboard's server: reads records, answers one page on 127.0.0.1, and can change nothing.

Every answer is made in a worker thread from a reader that takes no lock a writer waits for.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from vario.nouns import VarioError
from vario.record import Record, Run
from vario.ui import curves, news
from vario.ui.about import about
from vario.ui.diagnoses import Diagnoses
from vario.ui.doors import Doors, refusal
from vario.ui.files import Files
from vario.ui.script import joined
from vario.ui.shelf import Asked, Gone, Shelf

__all__ = ["Dashboard"]

STATIC = Path(__file__).parent / "static"
SHARED = Path(__file__).parent.parent / "report" / "static"
EXAMINED = 40  # newest runs of the list whose findings are made without being asked for
QUICK, SLOW = 4, 20  # answers that are made at once; findings that are waited for at once
MOST_POINTS = 20_000
MOST_WHERES = 500


class Dashboard:
    """The application over the runs of one directory; `app` is what a server runs."""

    def __init__(self, home: Path, *, token: str, port: int, ticket: str = "") -> None:
        self.shelf, self.diagnoses = Shelf(home), Diagnoses()
        self.ended = False
        # Each thread has memory of its own; those that wait for a diagnosis must not hold up the others.
        self._quick, self._slow = CapacityLimiter(QUICK), CapacityLimiter(SLOW)
        ask = self._asked
        routes = [
            Route("/", _page),
            Route("/api/runs", ask(self._runs)),
            Route("/api/run/{id}", ask(self._of_run(about))),
            Route("/api/run/{id}/findings", ask(self._findings, slow=True)),
            Route("/api/run/{id}/series", ask(self._of_run(_series))),
            Route("/api/run/{id}/heatmap", ask(self._of_run(_heatmap))),
            Route("/api/run/{id}/distribution", ask(self._of_run(_distribution))),
            Route("/api/run/{id}/export", ask(self._export)),
            Route("/api/trial/{id}", ask(self._trial)),
            Route("/api/plan/{id}", ask(self._plan)),
            Route("/api/events", self._events),
            Mount("/static", Files(STATIC, {"all.js": joined})),
            Mount("/shared", Files(SHARED)),
            Mount("/", _nothing),
        ]
        self.app: ASGIApp = Doors(Starlette(routes=routes), token=token, port=port, ticket=ticket)

    def close(self) -> None:
        """Ends event streams and lets go of all files."""
        self.ended = True
        self.diagnoses.close()
        self.shelf.close()

    def _asked(self, answer: Callable[[Request], Any], *, slow: bool = False) -> Callable[[Request], Any]:
        """An endpoint that answers in a thread, and tells what is wrong as JSON with the fitting status."""

        def told(request: Request) -> Response:
            try:
                found = answer(request)
            except Gone as error:
                return refusal(404, str(error))
            except Asked as error:
                return refusal(400, str(error))
            except VarioError as error:  # the record is damaged, foreign or newer
                return refusal(409, str(error))
            if isinstance(found, Response):
                return found
            if isinstance(found, bytes):
                return Response(found, media_type="application/octet-stream")
            text = json.dumps(found, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            return Response(text.encode("utf-8", "replace"), media_type="application/json")

        async def endpoint(request: Request) -> Response:
            try:
                return await to_thread.run_sync(told, request, limiter=self._slow if slow else self._quick)
            except Exception as error:  # noqa: BLE001 - the page is told what broke, and the server lives
                where = request.url.path[:120]
                said = f"the dashboard failed at {where}: {type(error).__name__}: {error}."
                return refusal(500, f"{said} This is a bug of vario; vario findings may still work.")

        return endpoint

    def _of_run(self, answer: Callable[..., Any]) -> Callable[[Request], Any]:
        def told(request: Request) -> Any:
            with self.shelf.reading(request.path_params["id"]) as run, run.still():
                return answer(run) if answer is about else answer(run, request)

        return told

    def _runs(self, request: Request) -> dict[str, Any]:
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

    def _trial(self, request: Request) -> dict[str, Any]:
        from vario.ui.trials import trial_told

        return trial_told(self.shelf.home, request.path_params["id"])

    def _plan(self, request: Request) -> dict[str, Any]:
        from vario.ui.plans import plan_told

        return plan_told(self.shelf.home, request.path_params["id"], request.query_params.get("at", ""))

    def _findings(self, request: Request) -> dict[str, Any]:
        path = self.shelf.path(request.path_params["id"])
        told = self.diagnoses.wait(path, self.shelf.status(path.name))
        return {
            **(told or {"findings": []}),
            "version": self.diagnoses.version(path),
            "pending": told is None,
        }

    def _export(self, request: Request) -> Response:
        if request.query_params.get("format", "csv") != "csv":
            raise Asked("the dashboard exports csv; `vario export` writes parquet and tensorboard.")
        with self.shelf.reading(request.path_params["id"]) as run:
            record, name = _record(run, request), _name(request)
            stream, wheres = record.stream, _wheres(record, name, request)

        def lines() -> Iterator[bytes]:
            with self.shelf.reading(run.id) as again:
                found = next((one for one in again.records() if one.stream == stream), None)
                for part in curves.csv_lines(found, name, wheres=wheres) if found else ():
                    yield part.encode("utf-8", "replace")

        file = re.sub(r"[^\w.-]+", "_", f"{run.id}-{name}", flags=re.A)[:120]
        headers = {"content-disposition": f'attachment; filename="{file}.csv"'}
        return StreamingResponse(lines(), media_type="text/csv", headers=headers)

    async def _events(self, request: Request) -> Response:
        id = request.query_params.get("run", "")
        if id:
            try:
                await to_thread.run_sync(self.shelf.path, id)
            except Gone as error:
                return refusal(404, str(error))
        stream: AsyncIterator[bytes] = news.events(self.shelf, self.diagnoses, id, lambda: self.ended)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(stream, media_type="text/event-stream")


async def _page(request: Request) -> Response:
    page = STATIC / "index.html"
    if not page.is_file():
        return refusal(
            500, f"the page {page.name} is missing from this installation: pip install vario again."
        )
    return FileResponse(page, media_type="text/html")


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await refusal(404, f"there is nothing at {scope['path'][:120]!r}. Start at /.")(scope, receive, send)


def _series(run: Run, request: Request) -> bytes:
    record, name = _record(run, request), _name(request)
    points = _number(request, "points", 800, least=1, most=MOST_POINTS) or 800
    return curves.series_reply(
        record, name, wheres=_wheres(record, name, request), window=_window(request), points=points,
        column=_number(request, "column", 0, least=0, most=100_000) or 0,
    )  # fmt: skip


def _heatmap(run: Run, request: Request) -> bytes:
    columns = _number(request, "columns", 200, least=1, most=2_000) or 200
    over = request.query_params.get("over", "")
    record = _record(run, request)
    return curves.heatmap_reply(record, _name(request), window=_window(request), columns=columns, over=over)


def _distribution(run: Run, request: Request) -> bytes:
    columns = _number(request, "columns", 200, least=1, most=2_000) or 200
    where = request.query_params.get("where", "")
    return curves.distribution_reply(_record(run, request), where, columns=columns)


def _record(run: Run, request: Request) -> Record:
    """The stream that is asked for; the main one where none is named."""
    stream = request.query_params.get("stream")
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
