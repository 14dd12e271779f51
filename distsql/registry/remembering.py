"""What a process remembers for a moment, so that most requests ask the catalogue nothing about who sends them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

FRESH_S: Final = 1.0
"""What may change at any time is taken for true this long: what was revoked is refused afterwards, in every process."""

MOST: Final = 32_768
"""Values, or kilobytes of what belongs to them: what is remembered has no other bound, and clients may ask for much."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by key, each for some seconds; bounded in number, or by what they weigh.

    Of one that is forgotten, for whatever reason but its time, ``end`` is told.
    """

    __slots__ = ("_end", "_values", "_weight")

    def __init__(self, end: Callable[[Value], None] | None = None) -> None:
        self._end = end
        self._values: dict[Key, tuple[Value, float, int]] = {}
        self._weight = 0

    def add(self, key: Key, value: Value, *, seconds: float = FRESH_S, length: int = 0) -> None:
        """Remembers the value under the key; ``length`` is of a text that is remembered with it."""
        self.forget(key)  # so that they stand in the order in which they came
        weight = 1 + length // 1024
        if self._weight + weight > MOST:  # the oldest go, a quarter at once
            for old in list(itertools.islice(self._values, len(self._values) // 4 + 1)):
                self.forget(old)
        self._values[key] = value, time.monotonic() + seconds, weight
        self._weight += weight

    def forget(self, key: Key) -> None:
        """Finds it no more."""
        found = self._values.pop(key, None)
        if found is not None:
            self._weight -= found[2]
            if self._end is not None:
                self._end(found[0])

    def clear(self) -> None:
        """Forgets everything."""
        for key in list(self._values):
            self.forget(key)

    def __iter__(self) -> Iterator[Key]:
        """The keys, also of values whose time is over."""
        return iter(self._values)

    def find(self, key: Key) -> Value | None:
        """The value, unless it was forgotten or its time is over."""
        found = self._values.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def look(self, key: Key) -> Value | None:
        """The value, unless it was forgotten: for one that knows by itself when its time is over."""
        found = self._values.get(key)
        return None if found is None else found[0]
