"""How many connections each worker has, in memory that all of them see.

Whoever wakes first would take all of a crowd, and one core would be idle while the other has twice the work.
"""

from __future__ import annotations

from collections.abc import MutableSequence

ABSENT = 2**31 - 1
"""Of a worker that takes none: it hasn't begun, or has ended."""


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
        """Whether nobody has fewer."""
        return self._counts[self._own] <= min(self._counts)
