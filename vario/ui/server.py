"""The dashboard's server: reads records, answers one page on 127.0.0.1, and can change nothing.

Every answer is made in a worker thread from a reader that takes no lock a writer waits for. What makes the
answers loads numpy, and is loaded when the page is on its way.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from vario.nouns import VarioError
from vario.ui.doors import POLICY, Doors, refusal
from vario.ui.files import Files
from vario.ui.script import joined, page, styles

if TYPE_CHECKING:
    from vario.ui.answers import Answers

__all__ = ["Dashboard"]

STATIC = Path(__file__).parent / "static"
SHARED = Path(__file__).parent.parent / "report" / "static"
QUICK, SLOW = 4, 20  # answers that are made at once; findings that are waited for at once


class Dashboard:
    """The application over the runs of one directory; `app` is what a server runs."""

    def __init__(self, home: Path, *, token: str, port: int, ticket: str = "") -> None:
        self.home, self.ended = home, False
        self._loading = threading.Lock()
        # Each thread has memory of its own; those that wait for a diagnosis must not hold up the others.
        self._quick, self._slow = CapacityLimiter(QUICK), CapacityLimiter(SLOW)
        ask = self._asked
        routes = [
            Route("/", self._page),
            Route("/api/runs", ask("runs")),
            Route("/api/run/{id}", ask("about")),
            Route("/api/run/{id}/findings", ask("findings", slow=True)),
            Route("/api/run/{id}/series", ask("series")),
            Route("/api/run/{id}/heatmap", ask("heatmap")),
            Route("/api/run/{id}/distribution", ask("distribution")),
            Route("/api/run/{id}/export", ask("export")),
            Route("/api/trial/{id}", ask("trial")),
            Route("/api/plan/{id}", ask("plan")),
            Route("/api/events", self._events),
            Mount("/static", Files(STATIC, {"all.js": joined, "all.css": styles})),
            Mount("/shared", Files(SHARED)),
            Mount("/", _nothing),
        ]
        self.app: ASGIApp = Doors(Starlette(routes=routes), token=token, port=port, ticket=ticket)

    def close(self) -> None:
        """Ends event streams and lets go of all files."""
        self.ended = True
        if "_made" in self.__dict__:
            self._made.close()

    @property
    def answers(self) -> Answers:
        """What answers questions; made once, by whoever asks first."""
        with self._loading:
            return self._made

    @cached_property
    def _made(self) -> Answers:
        from vario.ui.answers import Answers
        from vario.ui.thrift import thrifty

        thrifty()
        return Answers(self.home)

    async def _page(self, request: Request) -> Response:
        try:
            html, script = page()
        except OSError as error:
            lost = Path(error.filename or "index.html").name
            return refusal(
                500, f"the page {lost} is missing from this installation: pip install vario again."
            )
        policy = {"content-security-policy": f"{POLICY}; script-src 'self' {script}"}
        # The browser is busy with the page's own files; what it will ask next is loaded meanwhile.
        load = BackgroundTask(lambda: self.answers)
        return Response(html, media_type="text/html", headers=policy, background=load)

    def _asked(self, name: str, *, slow: bool = False) -> Callable[[Request], Any]:
        """An endpoint that answers in a thread, and tells what is wrong as JSON with the fitting status."""

        def told(request: Request) -> Response:
            answers = self.answers
            from vario.ui.shelf import Asked, Gone

            try:
                found = getattr(answers, name)(request)
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

    async def _events(self, request: Request) -> Response:
        def begun() -> Any:
            return self.answers.news(request.query_params.get("run", ""), lambda: self.ended)

        try:
            stream = await to_thread.run_sync(begun)
        except VarioError as error:
            return refusal(404, str(error))
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(stream, media_type="text/event-stream")


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    await refusal(404, f"there is nothing at {scope['path'][:120]!r}. Start at /.")(scope, receive, send)
