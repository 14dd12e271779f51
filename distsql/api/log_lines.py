"""Lines of the log of everything but requests. Imports next to nothing: the main process of a server does with it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime


class JSONFormatter(logging.Formatter):
    """What the registry and the web server have to say, in the form of the access log."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is one value in it."""
        line = {
            "at": instant(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", None),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


def instant() -> str:
    """Now, as lines of the log tell it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
