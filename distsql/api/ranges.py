"""Range requests (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final

from distsql.contract import ASGIScope
from distsql.errors import RangeUnsatisfiableError

_RANGE: Final = re.compile(r"bytes=\s*(?:([0-9]{1,19})-([0-9]{1,19})?|-([0-9]{1,19}))\s*\Z", re.ASCII)


def parse_range(request: ASGIScope, length: int) -> tuple[int, int] | None:
    """First byte and the one behind the last, clipped to the content; None when the whole content is asked for.

    A range in a form that isn't understood (other units, several ranges) may be ignored, and is. Raises
    `RangeUnsatisfiableError` when no byte lies in the range, or its end comes before its beginning.
    """
    text = next((value for name, value in request["headers"] if name == b"range"), None)
    if text is None:
        return None
    match = _RANGE.match(text.decode("latin-1"))
    if match is None:
        return None
    if match[3] is not None:
        start, stop = max(length - int(match[3]), 0), length
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, length) if match[2] is not None else length
    if start >= stop:
        raise RangeUnsatisfiableError(f"No byte of this content of {length} bytes is in {text[:60]!r}", length=length)
    return start, stop
