"""Range requests (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final

from distsql.errors import RangeUnsatisfiableError
from distsql.values import ASGIScope

# Numbers beyond any content's length are understood, and clipped.
_RANGE: Final = re.compile(
    r"bytes=[ \t]*(?:([0-9]{1,40})-([0-9]{1,40})?|-([0-9]{1,40}))[ \t]*\Z", re.ASCII | re.IGNORECASE
)


def parse_range(request: ASGIScope, length: int, *, entity_tag: bytes) -> tuple[int, int] | None:
    """First byte and the one behind the last, clipped to the content; None when the whole content is asked for.

    A range in a form that isn't understood (other units, several ranges) may be ignored, and is. One on HEAD must be
    (section 14.2), and one of other content than the client asks to go on with (``If-Range``). Raises
    `RangeUnsatisfiableError` when no byte lies in the range, or its end comes before its beginning.
    """
    if request["method"] != "GET":
        return None
    texts = [value for name, value in request["headers"] if name == b"range"]
    if not texts:
        return None
    match = _RANGE.match(texts[-1].decode("latin-1"))
    if match is None or any(name == b"if-range" and value != entity_tag for name, value in request["headers"]):
        return None
    if match[3] is not None:
        start, stop = max(length - int(match[3]), 0), length
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, length) if match[2] is not None else length
    if start >= stop:
        raise RangeUnsatisfiableError(
            f"No byte of this content of {length} bytes is in {match[0][:60]!r}", length=length
        )
    return start, stop
