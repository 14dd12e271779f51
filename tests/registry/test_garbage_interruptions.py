"""A collection that is killed at any statement or at any call of the byte store: the next one ends the work.

Every third statement of the beginning and every seventh of the rest; KILL_AT_EVERY_STATEMENT=on strikes all of them.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import timedelta

import pytest

from distsql.bytestore.memory import MemoryStore
from distsql.errors import CatalogueUnavailableError, StoreUnavailableError
from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.garbage import GarbageCollector
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.registry.killing import Killed, live
from tests.registry.pushing import index, push_blob, push_image
from tests.registry.soundness import findings, namespace_of, stored

NOW = timedelta(0)
EVERY = os.environ.get("KILL_AT_EVERY_STATEMENT") == "on"


class Kill:
    """Counts statements or calls, and ends the one that was chosen."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, name: str, *, seconds: float = 0, round_trips: int = 0) -> None:
        del name, seconds, round_trips
        self.left -= 1
        if self.left == 0:
            raise Killed


async def make_garbage(backend: Backend, number: int) -> None:
    """Something of every kind, beside an image that stays."""
    namespace = namespace_of(backend)
    web, gone = namespace.repository("acme/web"), namespace.repository(f"acme/gone{number}")
    mark = f"{number}".encode()
    await push_image(web, b"stays", tags=["v1"])
    await Tenants(backend.everything, Caller()).set("acme", {"untagged": "collect"})
    child = await push_image(web, b"child" + mark, n=f"child {number}")
    await web.manifests.put(index(child))
    subject = await push_image(web, b"subject" + mark, tags=[f"s{number}"])
    await push_image(web, b"sbom" + mark, subject=subject.digest)
    await web.manifests.delete(subject.digest)
    await push_blob(web, b"of nothing" + mark)
    await push_image(gone, b"stays", b"gone" + mark, tags=["v1"])
    async with await gone.layers.upload() as upload:
        await upload.write(b"half")
    await gone.remove()


async def collect(backend: Backend) -> None:
    await GarbageCollector(backend, Caller("gc"), periods=Periods(NOW, NOW), notify=lambda what, count: None).run()


async def assert_clean(backend: Backend) -> None:
    await asyncio.sleep(0)
    await collect(backend)
    web = namespace_of(backend).repository("acme/web")
    assert await (await web.layers.fetch(Digest.of(b"stays"))).read() == b"stays"
    assert await findings(backend) == []
    assert len(await stored(backend)) == 2  # its layer and its config


async def test_at_any_statement(backend: Backend) -> None:
    killed, at = True, 0
    while killed:
        at += 1 if EVERY else 7 if at > 20 else 3
        await make_garbage(backend, at)
        kill = Kill(at)
        backend.everything.observe = kill
        try:
            await collect(backend)
        except (Killed, CatalogueUnavailableError):
            pass
        finally:
            live(backend)
        killed = kill.left <= 0
        await assert_clean(backend)
    assert at > 60


@pytest.mark.parametrize("member", ["delete", "abort"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_at_any_call_of_the_store(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, member: str, *, before: bool
) -> None:
    original = getattr(MemoryStore, member)
    killed, at = True, 0
    while killed:
        at += 1
        await make_garbage(backend, at)
        kill = Kill(at)

        async def struck(store: MemoryStore, *args: object, kill: Kill = kill) -> None:
            if before:
                kill(member)
            await original(store, *args)
            if not before:
                kill(member)

        with monkeypatch.context() as patched:
            patched.setattr(MemoryStore, member, struck)
            with suppress(Killed, StoreUnavailableError):
                await collect(backend)
        killed = kill.left <= 0
        await assert_clean(backend)
