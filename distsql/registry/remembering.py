"""What a process remembers for a moment, so that most requests ask the catalogue nothing about who sends them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

FRESH_S: Final = 1.0
"""What may change at any time is taken for true this long: what was revoked is refused afterwards, in every process."""

_MANY: Final = 32_768

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by key, each for some seconds; bounded in number."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[Key, tuple[Value, float]] = {}

    def add(self, key: Key, value: Value, *, seconds: float = FRESH_S) -> None:
        """Remembers the value under the key."""
        if len(self._values) >= _MANY:  # the oldest go, a quarter at once
            for old in list(itertools.islice(self._values, _MANY // 4)):
                del self._values[old]
        self._values.pop(key, None)  # so that they stand in the order in which they came
        self._values[key] = value, time.monotonic() + seconds

    def forget(self, key: Key) -> None:
        """Finds it no more."""
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._values.clear()

    def __iter__(self) -> Iterator[Key]:
        """The keys, also of values whose time is over."""
        return iter(self._values)

    def find(self, key: Key) -> Value | None:
        """The value, unless it was forgotten or its time is over."""
        found = self._values.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None
