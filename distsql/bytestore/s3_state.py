"""How far an upload to an object store is: what the catalogue keeps of it, in its upload's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from distsql.bytestore.s3_layout import RESERVED


class Piece(NamedTuple):
    """An object, and how many of its first bytes are meant."""

    object: str
    bytes: int


class Parts(NamedTuple):
    """The parts of a multipart upload that are the content's first ``bytes``, as ranges of their numbers.

    Their ETags are asked for when they are needed: a row with thousands of them would be written at each chunk.
    """

    object: str
    upload: str
    numbers: tuple[tuple[int, int], ...]
    bytes: int

    def adding(self, numbers: list[int], length: int) -> Parts:
        """With the parts of these ascending numbers behind."""
        ranges = list(self.numbers)
        for number in numbers:
            if ranges and ranges[-1][1] == number - 1:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return self._replace(numbers=tuple(ranges), bytes=self.bytes + length)

    def has(self, number: int) -> bool:
        """Whether the part of this number is one of them."""
        return any(first <= number <= last for first, last in self.numbers)


@dataclass(frozen=True, slots=True)
class State:
    """Content so far: ``parts``, and behind them ``tail``; where there are no parts the tail is an object of its own.

    ``first`` to ``free`` (exclusive) are the part numbers of whoever writes now; nobody else ever uses them.
    ``opened`` says that somebody claimed it and has not flushed yet, ``littered`` that such a one was displaced or
    died. ``sealed`` parts are all there will be: from then on anybody may complete them. ``stale`` objects were needed
    by earlier values only.
    """

    parts: Parts | None = None
    tail: Piece | None = None
    first: int = 1
    free: int = 1
    opened: bool = False
    littered: bool = False
    sealed: bool = False
    stale: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Bytes of content."""
        return (self.parts.bytes if self.parts else 0) + (self.tail.bytes if self.tail else 0)

    def claimed(self) -> State:
        """For the next writer."""
        return replace(
            self, opened=True, littered=self.littered or self.opened, first=self.free, free=self.free + RESERVED
        )

    def to_json(self) -> dict[str, object]:
        """As the catalogue keeps it."""
        found: dict[str, object] = {"first": self.first, "free": self.free}
        if self.parts:
            found["parts"] = [self.parts.object, self.parts.upload, [list(each) for each in self.parts.numbers]]
            found["part_bytes"] = self.parts.bytes
        if self.tail:
            found["tail"] = list(self.tail)
        if self.stale:
            found["stale"] = list(self.stale)
        for name in ("opened", "littered", "sealed"):
            if getattr(self, name):
                found[name] = True
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> State:
        """What `to_json` gave, or the state of nothing so far."""
        parts = found.get("parts")
        numbers = tuple((first, last) for first, last in parts[2]) if parts else ()
        tail = found.get("tail")
        return cls(
            parts=Parts(parts[0], parts[1], numbers, found["part_bytes"]) if parts else None,
            tail=Piece(*tail) if tail else None,
            first=found.get("first", 1),
            free=found.get("free", 1),
            opened=found.get("opened", False),
            littered=found.get("littered", False),
            sealed=found.get("sealed", False),
            stale=tuple(found.get("stale", ())),
        )
