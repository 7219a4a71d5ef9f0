"""Serving the dashboard until Ctrl-C: a free port on 127.0.0.1, a fresh token, a browser if one is wanted."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from vario.nouns import VarioError
from vario.ui.server import Dashboard

__all__ = ["serve"]

FIRST_PORT = 7333
TRIED = 50
PATIENCE = 2  # seconds that open connections get to end


def serve(home: Path, *, port: int | None, fragment: str, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the runs of `home` until Ctrl-C; `say` is told the address, which ends in `fragment`.

    Raises VarioError where `port` is taken; without one the next free port is used.
    """
    listener = _listen(port)
    number = int(listener.getsockname()[1])
    token, ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24) if browser else ""
    dashboard = Dashboard(home, token=token, port=number, ticket=ticket)
    config = uvicorn.Config(
        dashboard.app, loop="asyncio", http="h11", ws="none", lifespan="off", interface="asgi3",
        log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=PATIENCE,
        timeout_keep_alive=60,
    )  # fmt: skip
    place = f"http://127.0.0.1:{number}/?token="
    say(f"{place}{token}{fragment}")
    if browser:
        opened = threading.Thread(target=webbrowser.open, args=(f"{place}{ticket}{fragment}",), daemon=True)
        opened.start()
    try:
        _Server(config, dashboard).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn hands the signal on when it has ended
        pass
    finally:
        dashboard.close()
        listener.close()


class _Server(uvicorn.Server):
    """Tells the dashboard at once that the end has come, so that event streams end by themselves."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self._dashboard = dashboard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._dashboard.ended = True
        super().handle_exit(sig, frame)


def _listen(port: int | None) -> socket.socket:
    candidates = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + TRIED)
    for candidate in candidates:
        # With the protocol named, asyncio sends head and body at once, and does not wait 40 ms between them.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            listener.close()
            taken = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
            if port is not None or not taken:
                raise VarioError(
                    f"cannot listen on 127.0.0.1:{candidate}: {error}. Choose another --port, or none."
                ) from error
            continue
        return listener
    raise VarioError(f"the ports {FIRST_PORT} to {FIRST_PORT + TRIED - 1} are all taken. Choose a --port.")
