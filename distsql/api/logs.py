"""Logs: one JSON object a line, to standard error."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final, TextIO

from distsql.api.log_lines import instant
from distsql.api.requests import Request, printable

_INTERVAL_S: Final = 0.2


class AccessLog:
    """One line for each request.

    Lines are held back for a fifth of a second: writing each at once costs more than many requests do.
    """

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def add(self, request: Request, *, status: int, seconds: float) -> None:
        """Remembers a request. The query is left out: it may carry secrets."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_INTERVAL_S, self.flush)
        line = {
            "at": instant(),
            "method": request.method,
            "path": printable(request.scope["path"], 1024),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "client": request.client_address,
            "user_agent": printable(request.header(b"user-agent") or ""),
            "request_id": request.request_id,
        }
        self._lines.append(json.dumps(line, ensure_ascii=False))

    def flush(self) -> None:
        """Writes what is held back."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
