"""Listings as async iterators over keyset pages: no connection is held between pages, memory is one page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

PAGE: Final = 1000

Item = TypeVar("Item")
Key = TypeVar("Key")

# No name has such a character, and PostgreSQL doesn't take all of them.
_FOREIGN: Final = re.compile(r"[^\x01-\x7e]")


def name_bound(after: str) -> str:
    """Text behind which the same names are as behind ``after``, and which PostgreSQL takes whatever ``after`` is."""
    foreign = _FOREIGN.search(after)
    if foreign is None:
        return after
    # NUL is before everything that a name can have there, all others are behind it.
    return after[: foreign.start()] + ("" if foreign[0] == "\0" else "\x7f")


def full_name_bound(after: str) -> tuple[str, str]:
    """The same for full names, in the two parts by which they are listed."""
    tenant, slash, path = name_bound(after).partition("/")
    # Without a slash it is itself before every tenant's name that begins with it, also before those with a dash.
    return (tenant, path) if slash or not tenant else (f"{tenant}\x01", "")


async def iterate(
    fetch: Callable[[Key, int], Awaitable[list[Item]]],
    key: Callable[[Item], Key],
    *,
    after: Key,
    limit: int | None,
) -> AsyncIterator[Item]:
    """Items behind ``after``, at most ``limit``; ``fetch`` gives a page behind a key, ``key`` an item's."""
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = await fetch(after, size)
        for item in page:
            yield item
        if len(page) < size:
            return
        after = key(page[-1])
        left = None if left is None else left - size
