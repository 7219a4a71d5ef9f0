"""Who may ask the dashboard: this user, from this page, for reading only.

The server listens on 127.0.0.1, which every user and every web page of this machine can reach. So each
request must name this host (a foreign name that resolves to 127.0.0.1 is refused), come from this page
and no other, and carry the token that `vario open` made: in the address at first, in a cookie thereafter.
The address that a browser is started with can be seen in the list of processes, so it holds a ticket that
is good for one visit instead.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Doors", "refusal"]

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LONGEST_QUERY = 64_000  # many layers of many letters fit; a flood does not


class Doors:
    """Lets a request through to `app`, or answers it here; every answer gets the same safe headers."""

    def __init__(self, app: ASGIApp, *, token: str, port: int, ticket: str = "") -> None:
        self.app, self.token, self.ticket = app, token, ticket
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.cookie = f"vario-{port}"  # browsers do not keep the cookies of two ports apart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # websockets: nobody answers

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if scope["path"].startswith(("/static/", "/shared/")):
                    headers.setdefault(
                        "cache-control", "no-cache"
                    )  # asked again, and answered "not modified"
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refused(scope) or self._welcomed(scope)
        await (answer or self.app)(scope, receive, guarded)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            out = refusal(405, f"{scope['method']} is refused: nothing can be changed through the dashboard.")
            out.headers["allow"] = "GET, HEAD"
            return out
        if headers.get("host", "") not in self.hosts:
            return refusal(403, f"the host {_short(headers.get('host', ''))} is not this dashboard's.")
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return refusal(403, f"pages of {_short(origin)} may not read this dashboard.")
        # No Origin goes with plain <img> and <script> requests; browsers say here whose page asked.
        asker = headers.get("sec-fetch-site", "none")
        if asker not in ("same-origin", "none") and headers.get("sec-fetch-dest") != "document":
            return refusal(403, "another page asked for this; only the dashboard's own page may.")
        if len(scope["query_string"]) > LONGEST_QUERY:
            return refusal(400, f"the query has {len(scope['query_string'])} bytes; {LONGEST_QUERY} fit.")
        tokens = list(self._tokens(scope, headers))
        if not any(hmac.compare_digest(given, self.token.encode()) for given in tokens) and not (
            scope["path"] == "/" and self._is_ticket(tokens)
        ):
            return refusal(
                403,
                "the token is missing or wrong. Open the address that `vario open` printed, token and all.",
            )
        return None

    def _welcomed(self, scope: Scope) -> Response | None:
        """The first visit: the token moves from the address, which is seen and shared, to a cookie."""
        if scope["path"] != "/" or b"token=" not in scope["query_string"]:
            return None
        out = RedirectResponse("/", status_code=303)
        # Not "strict", which would refuse the visit of one who clicks the address in another page.
        out.set_cookie(self.cookie, self.token, httponly=True, samesite="lax", path="/")
        return out

    def _is_ticket(self, given: Iterable[bytes]) -> bool:
        if self.ticket and any(hmac.compare_digest(one, self.ticket.encode()) for one in given):
            self.ticket = ""
            return True
        return False

    def _tokens(self, scope: Scope, headers: Headers) -> Iterable[bytes]:
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie:
                yield value.encode()
        for value in parse_qs(scope["query_string"].decode("latin-1")).get("token", ()):
            yield value.encode()


def refusal(status: int, what: str) -> Response:
    """An answer that is an error: what happened, where, and the way out."""
    return Response(json.dumps({"error": what}), status, media_type="application/json")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
