"""Names of objects: how keys begin, in a folder and in an object store."""

from __future__ import annotations

import secrets
import time
from typing import Final

_TURN_MS: Final = 8 * 60 * 1000
"""How long a sixteenth of all folders is written to, until it is the next one's turn: longer than a checkpoint's."""


def new_stem() -> str:
    """Two digits, and behind a slash the same again with 30 more; never used before.

    The two split a folder, and a store that keeps its index by key: the first is random, the second turns. Behind them
    is the time in milliseconds, then 72 random bits. So what is pushed at one time has its keys in 16 places of the
    catalogue's index of them. If all were random, each would change a page of its own that nobody has just read or
    changed: a new blob was a third dearer among millions (docs/performance.md).
    """
    now = time.time_ns() // 1_000_000
    fan_out = f"{secrets.randbits(4):x}{now // _TURN_MS % 16:x}"
    return f"{fan_out}/{fan_out}{now:012x}{secrets.token_hex(9)}"
