"""The page's own files, answered from memory: thirty small modules must not wait for thirty threads."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vario.ui.doors import refusal

__all__ = ["Files"]

TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


class Files:
    """Answers the files that lay in `folder` when it was made, and no others; a changed one is read again."""

    def __init__(self, folder: Path) -> None:
        self._paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        self._kept: dict[Path, tuple[int, bytes]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mounted = scope.get("root_path", "")
        name = str(scope["path"]).removeprefix(mounted).lstrip("/")
        path = self._paths.get(name)
        if path is None:
            await refusal(404, f"there is no file {name[:120]!r} in the page. Start at /.")(
                scope, receive, send
            )
            return
        kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        await Response(self._bytes(path), media_type=kind)(scope, receive, send)

    def _bytes(self, path: Path) -> bytes:
        changed = path.stat().st_mtime_ns
        kept = self._kept.get(path)
        if kept is None or kept[0] != changed:
            kept = self._kept[path] = (changed, path.read_bytes())
        return kept[1]
