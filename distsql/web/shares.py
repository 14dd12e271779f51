"""How many connections each worker has, in memory that all of them see.

Whoever wakes first would take all of a crowd, and one core would be idle while the other has twice the work. Shares
needn't be equal, though: who leaves a connection to others does nothing for a moment, and with clients that take a new
one for each request (skopeo, podman) equal shares made most of the time of such moments.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Final

ABSENT = 2**31 - 1
"""Of a worker that takes none: it hasn't begun, or has ended."""
_SLACK: Final = 2


class Shares:
    """Worker number ``own``'s view of ``counts``."""

    def __init__(self, counts: MutableSequence[int], own: int) -> None:
        self._counts = counts
        self._own = own

    def tell(self, count: int) -> None:
        """So many this one has."""
        self._counts[self._own] = count

    @property
    def is_due(self) -> bool:
        """Whether nobody has far fewer."""
        fewest = min(self._counts)
        return self._counts[self._own] <= fewest + _SLACK + fewest // 4
