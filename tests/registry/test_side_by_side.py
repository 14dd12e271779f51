"""Two that collect at the same time: each goes on with what the other doesn't hold, and nothing goes twice.

A lock lets one transaction collect at a time, over all servers. Here it is taken away: rows are safe by themselves.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from distsql.oci.digest import Digest
from distsql.registry.context import Backend
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.repositories import StoredRepository
from distsql.registry.reviews import Pace, Periods
from distsql.sql import garbage
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.registry.pushing import CONFIG, index, push_blob, push_image
from tests.registry.recounts import use_of
from tests.registry.soundness import findings
from tests.registry.test_garbage import later

NOW = timedelta(0)
Owner = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
async def web(backend: Backend, web: StoredRepository) -> StoredRepository:
    """Once collected already."""
    await collect(backend)
    return web


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for another's collection, nor for rows: who would wait fails."""

    async def go(tx: Transaction) -> None:
        await tx.all(garbage.TRY_COLLECTING)

    monkeypatch.setattr(garbage, "wait_to_collect", go)


async def collect(backend: Backend, *, batch: int = 1000) -> Collected:
    return await GarbageCollector(
        backend, Caller("gc"), periods=Periods(NOW, NOW), notify=lambda what, count: None, pace=Pace(batch, 0)
    ).run()


def hold(sql: Owner, table: str, digest: Digest) -> None:
    """As a push, or another that collects, holds it until its transaction ends."""
    assert sql.execute(f"select 1 from {table} where digest = %s for update", [digest.packed]).fetchall()


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("table", ["manifests", "layers", "blobs", "garbage_queue"])
async def test_what_another_holds_is_left_and_everything_else_goes(
    backend: Backend, web: StoredRepository, sql: Owner, table: str
) -> None:
    one, two = [await push_image(web, b"layer %d" % n, n=str(n)) for n in range(2)]
    contents = [b"nothing %d" % n for n in range(2)]
    digests = [await push_blob(web, content) for content in contents]
    of_manifests = table in {"manifests", "garbage_queue"}
    with sql.transaction():
        hold(sql, table, one.digest if of_manifests else digests[0])
        first = await asyncio.wait_for(collect(backend), 5)
        assert not await web.manifests.exists(two.digest)
        assert await web.manifests.exists(one.digest) == of_manifests
    later(sql, "2 seconds")  # what somebody works with comes again a moment later
    second = await collect(backend)
    assert (first.manifests, second.manifests) == ((1, 1) if of_manifests else (2, 0))
    assert (first.blobs, second.blobs) == (3, 1)
    assert first.freed_bytes + second.freed_bytes == 2 * len(b"layer 0") + sum(map(len, contents))
    assert await findings(backend) == []
    assert len([each async for each in backend.store.walk()]) == 2


@pytest.mark.usefixtures("fresh_connections", "together")
async def test_many_together_take_each_thing_once(backend: Backend, web: StoredRepository, sql: Owner) -> None:
    """In small batches, so that they are in each other's way all the time."""
    children = [await push_image(web, b"layer %d" % n, n=str(n)) for n in range(12)]
    await web.manifests.put(index(*children[:6]))
    subject = await push_image(web, b"subject", tags=["v2"])
    for number in range(6):
        await push_image(web, b"sbom", subject=subject.digest, n=str(number))
    await push_blob(web, b"of nothing")
    await web.manifests.delete(subject.digest)
    found: list[Collected] = []
    for _ in range(4):
        found += await asyncio.gather(*(collect(backend, batch=3) for _ in range(3)))
        later(sql, "2 seconds")
    assert sum(each.manifests for each in found) == 12 + 1 + 6
    assert sum(each.blobs for each in found) == 12 + 1 + 1 + 1
    assert (await use_of(backend, "acme")).stored_bytes == len(b"stays") + len(CONFIG)
    assert sql.execute(
        "select action, count(*) from audit_events where actor = 'gc' group by 1 order by 1"
    ).fetchall() == [
        ("garbage.layer", 15),
        ("garbage.manifest", 19),
    ]
    assert sql.execute("select 1 from garbage_queue").fetchall() == []
    assert await findings(backend) == []
    assert len([each async for each in backend.store.walk()]) == 2
