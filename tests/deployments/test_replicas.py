"""Pulls from a streaming replica: never older than what was acknowledged, whoever wrote it, whatever it does."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest

from distsql.api.application import Application
from distsql.api.metrics import Metrics
from distsql.api.requests import Limits
from distsql.app import Registry, create_authorizer, create_scrapes
from distsql.errors import TagUnknownError, TenantSuspendedError
from distsql.oci.digest import Digest
from distsql.registry.accounts import Accounts
from distsql.registry.garbage import GarbageCollector
from distsql.registry.grants import Grant
from distsql.registry.repositories import StoredRepository
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.sql import database, replicas, tenant_setting
from distsql.sql.pipeline import Pipeline, Question
from distsql.values import Caller
from tests.deployments.standbys import Standby
from tests.places import make_place
from tests.registry.pushing import push_image

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("replicas")]


@pytest.fixture(scope="module")
def pair(primary: tuple[Path, str]) -> Iterator[tuple[Settings, Standby]]:
    """The settings of a registry on a primary with its standby."""
    _, url = primary
    folder = make_place()
    standby = Standby(url, folder)
    storage = (folder / "bytes").as_uri()
    yield Settings(database_url=url, storage=storage, replica_url=(standby.url,), access_log=False), standby
    standby.remove()
    shutil.rmtree(folder)


@pytest.fixture
async def servers(pair: tuple[Settings, Standby], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Registry]]:
    """One that writes and knows of no replica, and two that read from it."""
    monkeypatch.setattr(replicas, "_LOST_PAUSE_S", 0.1)
    settings, _ = pair
    async with AsyncExitStack() as stack:
        opened = [Registry(replace(settings, replica_url=())), Registry(settings), Registry(settings)]
        for registry in opened:
            await stack.enter_async_context(registry)
        yield opened


def web(registry: Registry) -> StoredRepository:
    return registry.namespace.acting_as(Caller(actor="tester")).repository("acme/web")


def answered(registry: Registry) -> int:
    return registry.backend.database.replicas.answered


async def read_until_answered(registry: Registry, *, by_replica: bool = True, seconds: float = 20) -> None:
    """Pulls until one was answered by the replica, or by the primary."""
    async with asyncio.timeout(seconds):
        while True:
            before = answered(registry)
            await web(registry).tags.get("moving")
            if (answered(registry) > before) == by_replica:
                return
            await asyncio.sleep(0.02)


async def images(registry: Registry, number: int) -> list[Digest]:
    return [
        (await push_image(web(registry), b"layer", tags=(), number=f"{number}-{random.random()}")).digest
        for number in range(number)
    ]


async def test_nobody_sees_older_data_than_what_was_acknowledged(
    servers: list[Registry], pair: tuple[Settings, Standby]
) -> None:
    """While the replica is in time, behind, and gone; it answers what it may, and comes back by itself."""
    writer, *readers = servers
    _, standby = pair
    digests = await images(writer, 3)
    await web(writer).tags.tag("moving", digests[0])
    for reader in readers:
        await read_until_answered(reader)

    async def move_and_read(times: int) -> int:
        before = sum(map(answered, readers))
        for number in range(times):
            digest = digests[number % 3]
            await web(writer).tags.tag("moving", digest)
            found = await asyncio.gather(*(web(reader).manifests.get_by_tag("moving") for reader in readers * 3))
            assert {each.digest for each in found} == {digest}
        return sum(map(answered, readers)) - before

    assert await move_and_read(40) > 0

    standby.replay(on=False)
    assert await move_and_read(10) == 0
    await web(writer).tags.untag("moving")
    with pytest.raises(TagUnknownError):
        await web(readers[0]).tags.get("moving")
    standby.replay(on=True)
    await web(writer).tags.tag("moving", digests[0])
    for reader in readers:
        await read_until_answered(reader)

    standby.stop()
    assert await move_and_read(10) == 0
    standby.start()
    for reader in readers:
        await read_until_answered(reader)
    assert await move_and_read(10) > 0


async def test_a_replica_that_dies_under_pulls_costs_nobody_anything(
    servers: list[Registry], pair: tuple[Settings, Standby]
) -> None:
    writer, reader, _ = servers
    _, standby = pair
    digest = (await images(writer, 1))[0]
    await web(writer).tags.tag("moving", digest)
    await read_until_answered(reader)
    pulling = [asyncio.create_task(read_for(reader, digest, seconds=1.0)) for _ in range(8)]
    await asyncio.sleep(0.2)
    await asyncio.to_thread(standby.stop)
    await asyncio.to_thread(standby.start)
    assert min(await asyncio.gather(*pulling)) > 0
    await read_until_answered(reader)


async def read_for(registry: Registry, digest: Digest, *, seconds: float) -> int:
    number, ends = 0, asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        assert (await web(registry).manifests.get_by_tag("moving")).digest == digest
        number += 1
    return number


async def test_a_silent_replica_is_given_up(
    servers: list[Registry], pair: tuple[Settings, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine is gone without a word: a pull waits for it once, and goes to the primary."""
    for module in (replicas, database):
        monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    writer, reader, _ = servers
    _, standby = pair
    digest = (await images(writer, 1))[0]
    await web(writer).tags.tag("moving", digest)
    await read_until_answered(reader)
    with standby.frozen():
        await web(writer).tags.tag("moving", digest)
        await read_until_answered(reader, by_replica=False, seconds=5)
    await read_until_answered(reader)


async def test_what_changes_a_tenant_holds_at_once(servers: list[Registry], monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as the owner: whoever wrote it, and whatever it was, it is seen."""
    monkeypatch.setattr(tenant_setting, "FRESH_S", 0)  # else it may be a second old, with or without a replica
    writer, reader, _ = servers
    digest = (await images(writer, 1))[0]
    await web(writer).tags.tag("moving", digest)
    await read_until_answered(reader)
    administration = Tenants(writer.backend.everything, Caller(actor="administrator"))
    for _ in range(3):
        await administration.suspend("acme")
        with pytest.raises(TenantSuspendedError):
            await web(reader).tags.get("moving")
        await administration.resume("acme")
        await web(reader).tags.get("moving")


async def test_metrics_tell_how_far_a_replica_is_behind(
    servers: list[Registry], pair: tuple[Settings, Standby]
) -> None:
    """In bytes of the log that it hasn't taken over; none where none follows."""
    writer, reader, _ = servers
    _, standby = pair

    async def lag() -> float | None:
        return (await writer.gauges())["replication_lag_bytes"]

    async def write() -> None:
        await images(writer, 1)

    async def wait_for(condition: Callable[[float | None], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(await lag()):
                await asyncio.sleep(0.05)

    await write()
    await wait_for(lambda bytes_: bytes_ == 0)
    await asyncio.to_thread(standby.replay, on=False)
    try:
        for _ in range(3):
            await write()
        await wait_for(lambda bytes_: bytes_ is not None and bytes_ > 1000)
        scrapes = create_scrapes(writer, pair[0], Metrics(), folder=None)
        application = Application(writer, limits=Limits(), access_log=None, scrapes=scrapes)
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:
            told = (await client.get("/metrics")).text.splitlines()
        [figure] = [line for line in told if line.startswith("distsql_replication_lag_bytes ")]
        assert not figure.endswith(" 0.0")
    finally:
        await asyncio.to_thread(standby.replay, on=True)
    await wait_for(lambda bytes_: bytes_ == 0)
    await asyncio.to_thread(standby.stop)
    try:
        await wait_for(lambda bytes_: bytes_ is None)
    finally:
        await asyncio.to_thread(standby.start)
    await web(writer).tags.tag("moving", (await images(writer, 1))[0])
    await read_until_answered(reader)


# What a pull asks, and how far the replica is.
PULL_STATEMENTS: Final = {
    *("find_log_position", "find_repository", "find_manifest", "find_tagged_manifest", "find_layer", "find_tag"),
    "find_layer_risk",
    *("list_manifests", "list_referrers", "list_signatures", "list_tags", "list_tags_of_digest", "list_tag_moves"),
    "resolve_tag",
}


async def test_nothing_but_pulls_goes_to_replicas(
    servers: list[Registry], pair: tuple[Settings, Standby], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may do what, and what is garbage, is asked of the primary alone."""
    monkeypatch.setattr(replicas, "_CATCH_UP_S", 15)  # else it is left alone after writes, whatever is asked
    _, reader, _ = servers
    await web(reader).tags.tag("moving", (await images(reader, 1))[0])
    await read_until_answered(reader)
    sent = _record_statements(reader, monkeypatch)
    administrator, everything = Caller(actor="administrator"), reader.backend.everything
    accounts = Accounts(everything, administrator)
    login = f"acme/ci-{random.randrange(10**9)}"
    secret = await accounts.create(login, kind="robot", granted=[Grant.parse("acme/**:pull,push,delete")])
    async with _client(reader, pair[0]) as client:
        scope = {"scope": "repository:acme/web:pull,push,delete"}
        token = (await client.get("/token", params=scope, auth=(login, secret))).json()["token"]
        bearer = {"authorization": f"Bearer {token}"}
        for path in ("manifests/moving", "tags/list", f"blobs/{Digest.of(b'layer')}"):
            assert (await client.get(f"/v2/acme/web/{path}")).status_code == 401
            assert (await client.get(f"/v2/acme/web/{path}", headers=bearer)).status_code == 200
        upload = await client.post(
            "/v2/acme/web/blobs/uploads/",
            params={"digest": str(Digest.of(b"garbage"))},
            content=b"garbage",
            headers=bearer,
        )
        assert upload.status_code == 201
    collector = GarbageCollector(
        reader.backend, administrator, periods=Periods(timedelta(0), timedelta(0)), notify=lambda what, count: None
    )
    await read_until_answered(reader)
    await collector.run()
    await read_until_answered(reader)
    assert collector.collected.blobs > 0
    assert {"find_tagged_manifest", "find_layer", "list_tags"} <= sent
    assert sorted(sent - PULL_STATEMENTS) == []


def _record_statements(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of all that is sent to the registry's replicas from now on."""
    sent: set[str] = set()
    theirs = [replica.pipeline for replica in registry.backend.database.replicas._all]
    ask = Pipeline._ask

    def record(self: Pipeline, questions: Sequence[Question]) -> None:
        if self in theirs:
            sent.update(each.statement.name for each in questions)
        ask(self, questions)

    monkeypatch.setattr(Pipeline, "_ask", record)
    assert len(registry.backend.everything.replicas) == 0
    return sent


@asynccontextmanager
async def _client(registry: Registry, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Of the registry with tokens."""
    authorizer = create_authorizer(registry.backend, replace(settings, auth="token"))
    application = Application(registry, limits=Limits(), access_log=None, authorizer=authorizer)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:
        yield client
    await authorizer.authenticator.close()
