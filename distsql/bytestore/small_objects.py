"""Small objects that were read lately, kept in memory: to open, read and close a file costs more than all the rest.

Nothing here can be out of date: a key is never used again, and what is finished under it never changes. Who may read it
was asked before.
"""

from __future__ import annotations

from typing import Final

MOST_OF_ONE: Final = 64 * 1024
MOST_TOGETHER: Final = 16 * 1024**2


class SmallObjects:
    """Of one process; the oldest go first."""

    __slots__ = ("_bytes", "_objects")

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._bytes = 0

    def find(self, key: str) -> bytes | None:
        """The whole object, if it is kept."""
        return self._objects.get(key)

    def add(self, key: str, data: bytes) -> None:
        """Keeps the whole object, unless it is too large."""
        if len(data) > MOST_OF_ONE or key in self._objects:
            return
        self._objects[key] = data
        self._bytes += len(data)
        while self._bytes > MOST_TOGETHER:
            oldest = next(iter(self._objects))
            self._bytes -= len(self._objects.pop(oldest))
