"""Names and sizes in an object store: keys, and how large the parts of a multipart upload are."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024

# The protocol's own bounds: parts but the last have 5 MiB at least, and there are 10,000 of them at most.
MAX_PARTS: Final = 10_000

# How many part numbers a writer takes at once. What one that died didn't use is lost; what it used and the catalogue
# remembers is one checkpoint for each of these.
RESERVED: Final = 128

# Whatever belongs to an upload begins with its stem, which is its own key (stems.py): so all of it is found by one
# request, and nothing is overwritten.
_STEM: Final = re.compile(r"(?P<stem>([0-9a-f]{2})/\2[0-9a-f]{30})", re.ASCII)
_OBJECT: Final = re.compile(_STEM.pattern + r"-[0-9a-f]{8}", re.ASCII)
_TAIL: Final = re.compile(_OBJECT.pattern + r"\.tail", re.ASCII)


@dataclass(frozen=True, slots=True)
class PartSizes:
    """How large the part of each number is: ``steps`` are (first number, bytes). ``held`` bounds a writer's memory.

    Parts grow, because there are so few of them; small ones are uploaded side by side while the next one fills.
    """

    steps: Sequence[tuple[int, int]]
    held: int

    def of(self, number: int) -> int:
        """The size of the part."""
        return next(size for first, size in reversed(self.steps) if number >= first)

    def in_flight(self, size: int) -> int:
        """How many parts of a size may be on their way while another one fills."""
        return max(self.held // size - 1, 0)

    @property
    def smallest(self) -> int:
        """The size of the first part."""
        return self.steps[0][1]


# 8 GiB in the first thousand parts, 23 in the next two, 164 in the rest: 195 in all. Never more than 24 MiB in memory.
PART_SIZES: Final = PartSizes(((1, 8 * MIB), (1001, 12 * MIB), (3001, 24 * MIB)), held=24 * MIB)


def new_object(stem: str) -> str:
    """The key of an object of the upload."""
    return f"{stem}-{secrets.token_hex(4)}"


def new_tail(stem: str) -> str:
    """The key of an object that keeps what is too small for a part."""
    return f"{stem}-{secrets.token_hex(4)}.tail"


def stem_of(key: str) -> str | None:
    """The stem of a key of any kind, None when it is no key of this store."""
    match = _STEM.match(key)
    return match["stem"] if match and (is_stem(key) or is_object(key) or is_tail(key)) else None


def is_stem(key: str) -> bool:
    """Whether it is the key of an upload."""
    return _STEM.fullmatch(key) is not None


def is_object(key: str) -> bool:
    """Whether it is the key of an object that holds content from the first byte on."""
    return _OBJECT.fullmatch(key) is not None


def is_tail(key: str) -> bool:
    """Whether it is the key of a tail."""
    return _TAIL.fullmatch(key) is not None
