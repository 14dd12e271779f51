"""Logs: one JSON object a line, to standard error."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from distsql.api.requests import Request, printable

_INTERVAL_S: Final = 0.2


class JSONFormatter(logging.Formatter):
    """What the registry and the web server have to say, in the form of the access log."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is one value in it."""
        line = {
            "at": _instant(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", None),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


def _instant() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


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
            "at": _instant(),
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
