"""Reads of a catalogue of any size: pages at any depth, and what is asked for anywhere in it.

Other operations ask for what they have just pushed: its pages are in use, in every cache. Those of what is asked for
anywhere aren't.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from benchmarks.population import Shape
from distsql.oci.digest import Digest
from distsql.registry.repositories import StoredRepository
from tests.plans.operations import Call, World

Prepare = Callable[[World, Shape], Awaitable[Call]]
ANYWHERE: Final = ", anywhere"
"""How the names of these operations end, and of their statements."""
PAGE: Final = 100


def pages() -> dict[str, Prepare]:
    """Pages of 100 of acme/web's tags, which are called v1, v1.2, v1.3 ..., and of all repositories."""
    return {
        f"{PAGE} tags, first page": _tags(""),
        f"{PAGE} tags, middle": _tags("v18"),
        f"{PAGE} tags, deep": _tags("v8"),
        f"{PAGE} repositories, first page": _repositories(lambda _: ""),
        f"{PAGE} repositories, middle": _repositories(lambda _: "tenant-5"),
        f"{PAGE} repositories, deep": _repositories(lambda _: "tenant-9"),
        f"{PAGE} repositories{ANYWHERE}": _repositories(lambda shape: f"tenant-{random.randint(2, shape.tenants)}"),
    }


def pulls() -> dict[str, Prepare]:
    """What a pull asks for, each time of another image of any tenant's."""
    return {
        f"get manifest by tag{ANYWHERE}": _pull(lambda found, tag, _: found.manifests.get_by_tag(tag)),
        f"get manifest by digest{ANYWHERE}": _pull(
            lambda found, _, number: found.manifests.get(Digest.of(f"m{number}-0{' ' * 480}".encode()))
        ),
        f"get blob{ANYWHERE}": _pull(lambda found, _, number: found.layers.fetch(Digest.of(f"c{number}-0".encode()))),
    }


def _tags(after: str) -> Prepare:
    async def prepare(world: World, _: Shape) -> Call:
        async def listed() -> None:
            assert await _count(world.web.tags.list(after=after, limit=PAGE)) >= 0.9 * PAGE, after

        return listed

    return prepare


def _repositories(after: Callable[[Shape], str]) -> Prepare:
    async def prepare(world: World, shape: Shape) -> Call:
        async def listed() -> None:
            await _count(world.namespace.repositories(after=after(shape), limit=PAGE))

        return listed

    return prepare


async def _count(listed: AsyncIterator[object]) -> int:
    return len([each async for each in listed])


def _pull(ask: Callable[[StoredRepository, str, int], Awaitable[object]]) -> Prepare:
    """Asks a repository for a tag, or for what is called after a manifest's number (as `population` fills it)."""

    async def prepare(world: World, shape: Shape) -> Call:
        async def asked() -> None:
            number = 0
            while not number or number // shape.repositories % 100 == 1:  # those are indexes, and have no config
                number = random.randint(1, shape.manifests)
            name, tag = shape.place(number)
            await ask(world.namespace.repository(name), tag, number)

        return asked

    return prepare
