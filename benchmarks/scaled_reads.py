"""Reads of a catalogue of any size: pages at any depth, and what is asked for anywhere in it.

Other operations ask for what they have just pushed: its pages are in use, in every cache. Those of what is asked for
anywhere aren't.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from benchmarks.population import Image, Shape
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
    """What a pull asks for, and a push first, each time of another image of any tenant's."""
    return {
        f"get manifest by tag{ANYWHERE}": _pull(lambda found, image: found.manifests.get_by_tag(image.tag)),
        f"get manifest by digest{ANYWHERE}": _pull(lambda found, image: found.manifests.get(image.digest)),
        f"get blob{ANYWHERE}": _pull(lambda found, image: found.layers.fetch(image.config)),
        f"head blob{ANYWHERE}": _pull(lambda found, image: found.layers.exists(image.config)),
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
            behind = after(shape)
            assert await _count(world.namespace.repositories(after=behind, limit=PAGE)), behind

        return listed

    return prepare


async def _count(listed: AsyncIterator[object]) -> int:
    return len([each async for each in listed])


def _pull(ask: Callable[[StoredRepository, Image], Awaitable[object]]) -> Prepare:
    """Asks a repository for an image of its own, or a part of it."""

    async def prepare(world: World, shape: Shape) -> Call:
        async def asked() -> None:
            image = None
            while image is None:  # it was an index
                image = shape.image(random.randint(1, shape.manifests))
            await ask(world.namespace.repository(image.repository), image)

        return asked

    return prepare
