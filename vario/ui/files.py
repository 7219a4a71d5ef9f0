"""The page's own files, answered from memory: thirty small modules must not wait for thirty threads."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vario.ui.doors import refusal

__all__ = ["Files"]

TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


class Files:
    """Answers the files that lay in `folder` when it was made, and no others; a changed one is read again.

    `made` has files by name that are made when they are asked for, and anew when one of the folder changes.
    """

    def __init__(self, folder: Path, made: Mapping[str, Callable[[], bytes]] | None = None) -> None:
        self._paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        self._made = made or {}
        self._kept: dict[str, tuple[int, bytes]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mounted = scope.get("root_path", "")
        name = str(scope["path"]).removeprefix(mounted).lstrip("/")
        if name not in self._paths and name not in self._made:
            await refusal(404, f"there is no file {name[:120]!r} in the page. Start at /.")(
                scope, receive, send
            )
            return
        kind = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        await Response(self._bytes(name), media_type=kind)(scope, receive, send)

    def _bytes(self, name: str) -> bytes:
        paths = self._paths.values() if name in self._made else [self._paths[name]]
        changed = max(path.stat().st_mtime_ns for path in paths)
        kept = self._kept.get(name)
        if kept is None or kept[0] != changed:
            made = self._made.get(name)
            kept = self._kept[name] = (changed, made() if made else self._paths[name].read_bytes())
        return kept[1]
