"""Listings as async iterators over keyset pages: no connection is held between pages, memory is one page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from distsql.oci.names import name_bound

PAGE: Final = 1000

Item = TypeVar("Item")
Key = TypeVar("Key")


def full_name_bound(after: str) -> tuple[str, str]:
    """The same for full names, in the two parts by which they are listed."""
    tenant, slash, path = name_bound(after).partition("/")
    # Without a slash it is itself before every tenant's name that begins with it, also before those with a dash.
    return (tenant, path) if slash or not tenant else (f"{tenant}\x01", "")


async def pages(
    fetch: Callable[[Key, int], Awaitable[list[Item]]],
    key: Callable[[Item], Key],
    *,
    after: Key,
    limit: int | None,
) -> AsyncIterator[list[Item]]:
    """Items behind ``after``, at most ``limit``; ``fetch`` gives a page behind a key, ``key`` an item's.

    It is asked once even for none at all: it may have to say that there is nothing to list.
    """
    left = limit
    while True:
        size = PAGE if left is None else min(PAGE, left)
        page = await fetch(after, size)
        yield page
        left = None if left is None else left - size
        if len(page) < size or left == 0:
            return
        after = key(page[-1])


async def iterate(
    fetch: Callable[[Key, int], Awaitable[list[Item]]],
    key: Callable[[Item], Key],
    *,
    after: Key,
    limit: int | None,
) -> AsyncIterator[Item]:
    """The same one by one."""
    async for page in pages(fetch, key, after=after, limit=limit):
        for item in page:
            yield item
