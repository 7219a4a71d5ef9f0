"""A dashboard that is served for real, in a thread, and asked over a socket."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from vario.ui.server import Dashboard

TOKEN = "the-token"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def unpacked(self, dtype: str = "<f8") -> tuple[dict[str, Any], np.ndarray]:
        length = int.from_bytes(self.body[:4], "little")
        header = json.loads(self.body[4 : 4 + length])
        start = -(-(4 + length) // 8) * 8
        return header, np.frombuffer(self.body[start:], dtype)


@dataclass
class Asking:
    port: int
    dashboard: Dashboard

    def get(self, path: str, *, method: str = "GET", headers: dict[str, str | None] | None = None) -> Answer:
        """With the cookie, unless `headers` says otherwise; None leaves a header out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"vario-{self.port}={TOKEN}", **(headers or {})}
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        answer = Answer(
            reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        )
        connection.close()
        return answer

    @contextmanager
    def events(self, run: str = "") -> Iterator[Events]:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(
            f"GET /api/events?run={run} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Cookie: vario-{self.port}={TOKEN}\r\n\r\n".encode()
        )
        try:
            yield Events(connection)
        finally:
            connection.close()


class Events:
    """Server-sent events as they come; chunked encoding is looked through, since every event is one chunk."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.text = connection, ""

    def next(self, name: str, seconds: float = 20.0) -> dict[str, Any]:
        """The data of the next event of this name."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            head, found, rest = self.text.partition(f"event: {name}\ndata: ")
            if found and "\n\n" in rest:
                data, _, self.text = rest.partition("\n\n")
                return json.loads(data)
            more = self.connection.recv(65_536)
            if not more:
                raise EOFError(f"the stream ended before an event {name!r}")
            self.text += more.decode()
        raise TimeoutError(f"no event {name!r} within {seconds} s; seen: {self.text[-500:]!r}")


@contextmanager
def served(home: Path, *, ticket: str = "") -> Iterator[Asking]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    dashboard = Dashboard(home, token=TOKEN, port=port, ticket=ticket)
    config = uvicorn.Config(
        dashboard.app, loop="asyncio", http="h11", ws="none", lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Asking(port, dashboard)
    finally:
        dashboard.close()
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server does not end"
