"""Tenants with byte stores of their own, and their move from one to another while everything goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from distsql.app import Registry
from distsql.bytestore.urls import open_store
from distsql.errors import (
    BlobUnknownError,
    BytesMissingError,
    SettingInvalidError,
    SettingsError,
    StoreUnavailableError,
)
from distsql.oci.digest import Digest
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.repositories import StoredRepository
from distsql.registry.reviews import Periods
from distsql.registry.stores import Moved, Stores
from distsql.registry.tenants import Tenants
from distsql.registry.verification import Verifier
from distsql.settings import Settings
from distsql.values import Caller
from tests.faultyproxy import faulty_proxy
from tests.objectstore import ObjectStore
from tests.registry.pushing import push_blob
from tests.registry.soundness import findings

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def stores(registry: Registry) -> Stores:
    return Stores(registry.backend, Caller(actor="admin"), open_store=open_store)


@pytest.fixture
def tenants(registry: Registry) -> Tenants:
    return Tenants(registry.backend.everything, Caller(actor="admin"))


@pytest.fixture
async def twin(settings: Settings, registry: Registry) -> AsyncIterator[Registry]:
    """Another process, which learns of stores by itself."""
    async with Registry(settings) as opened:
        yield opened


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def eu(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a second store."""
    if request.param == "file":
        return (tmp_path / "eu").as_uri()
    server: ObjectStore = request.getfixturevalue("object_store")
    return server.url()


def web(registry: Registry, name: str = "acme/web") -> StoredRepository:
    return registry.namespace.acting_as(Caller(actor="tester")).repository(name)


def keys(sql: Sql) -> set[str]:
    return {str(key) for (key,) in sql.execute("select store_key from blobs where state = 'live'")}


def placement(sql: Sql) -> set[tuple[object, ...]]:
    """How many blobs each store has, as auditors see it."""
    sql.execute("set role distsql_auditor")
    found = set(sql.execute("select store, count(*) from report.blob_placement group by store"))
    sql.execute("reset role")
    return found


async def move(stores: Stores, name: str, tenant: str = "acme") -> Moved:
    return await stores.move(tenant, name, notify=lambda what, count: None)


async def read(registry: Registry, digest: Digest) -> bytes:
    return await (await web(registry).layers.fetch(digest)).read()


# -- placement ----------------------------------------------------------------------------------------------------


async def test_pushes_go_to_the_tenants_store_and_every_process_reads_them(
    registry: Registry, twin: Registry, stores: Stores, tenants: Tenants, eu: str, sql: Sql
) -> None:
    await stores.add("eu", eu)
    await tenants.create("acme")
    await tenants.set("acme", {"store": "eu"})
    digest = await push_blob(web(registry), b"of acme")
    assert all(key.startswith("eu:") for key in keys(sql))
    assert placement(sql) == {("eu", 1)}
    assert await read(twin, digest) == b"of acme"
    async with await web(registry).layers.upload() as upload:
        await upload.write(b"begun here, ")
    async with await web(twin).layers.resume(upload.uuid) as going_on:
        await going_on.write(b"ended there")
        await going_on.finish(Digest.of(b"begun here, ended there"))
    other = await push_blob(web(registry, "other/web"), b"of others")
    assert [key for key in keys(sql) if not key.startswith("eu:")]
    assert await (await web(twin, "other/web").layers.fetch(other)).read() == b"of others"
    assert await findings(registry.backend) == []


async def test_stores_that_make_no_sense(stores: Stores, tenants: Tenants, tmp_path: Path) -> None:
    for name in ("default", "lost", "EU", "a:b", ""):
        with pytest.raises(SettingsError):
            await stores.add(name, (tmp_path / "x").as_uri())
    for url in ("memory:", "s3://key:hunter2@bucket/x", "gopher://x"):
        with pytest.raises(SettingsError):
            await stores.add("eu", url)
    await stores.add("eu", (tmp_path / "eu").as_uri())
    with pytest.raises(SettingsError, match="already"):
        await stores.add("eu", (tmp_path / "other").as_uri())
    await tenants.create("acme")
    with pytest.raises(SettingInvalidError, match="us"):
        await tenants.set("acme", {"store": "us"})


async def test_check_tells_of_each_store(stores: Stores, tmp_path: Path) -> None:
    await stores.add("eu", (tmp_path / "eu").as_uri())
    assert await stores.check() == {"default": "", "eu": ""}
    (tmp_path / "eu" / "objects").rename(tmp_path / "gone")
    (tmp_path / "eu" / "objects").write_text("in the way")
    checked = await stores.check()
    assert checked["default"] == ""
    assert "objects" in checked["eu"]


async def test_a_store_that_is_away_keeps_its_own_garbage_and_nobody_elses(
    registry: Registry, stores: Stores, tenants: Tenants, object_store: ObjectStore, sql: Sql
) -> None:
    async with faulty_proxy(object_store.endpoint) as proxy:
        await stores.add("eu", object_store.url(endpoint=proxy.endpoint) + "&timeout=1s")
        await tenants.create("acme")
        await tenants.set("acme", {"store": "eu"})
        for name in ("acme/web", "other/web"):
            async with await web(registry, name).layers.upload() as upload:
                await upload.write(b"of " + name.encode())
        sql.execute("update uploads set expires_at = now()")

        async def collect() -> Collected:
            periods = Periods(timedelta(hours=1))
            return await GarbageCollector(
                registry.backend, Caller(), periods=periods, notify=lambda what, count: None
            ).run()

        proxy.away = True
        proxy.break_off()
        with pytest.raises(StoreUnavailableError, match="eu"):
            await collect()
        waiting = sql.execute("select store_key from condemned_bytes").fetchall()
        assert [str(key).partition(":")[0] for (key,) in waiting] == ["eu"]
        # Others go on to push and pull meanwhile, and acme hears why it can't.
        other = await push_blob(web(registry, "other/web"), b"meanwhile")
        assert await (await web(registry, "other/web").layers.fetch(other)).read() == b"meanwhile"
        with pytest.raises(StoreUnavailableError):
            await push_blob(web(registry), b"not now")
        proxy.reset()
        assert (await collect()).freed_bytes == len(b"of acme/web")
        assert sql.execute("select from condemned_bytes").fetchall() == []


# -- moving -------------------------------------------------------------------------------------------------------


async def test_a_tenant_moves_there_and_back(
    registry: Registry, twin: Registry, stores: Stores, eu: str, sql: Sql
) -> None:
    await stores.add("eu", eu)
    contents = [os.urandom(length) for length in (0, 5, 100_000, 3_000_000)]
    digests = [await push_blob(web(registry), content) for content in contents]
    async with await web(twin).layers.upload() as upload:
        await upload.write(b"not finished")
    moved = await move(stores, "eu")
    assert (moved.blobs, moved.bytes, moved.damaged) == (4, sum(map(len, contents)), [])
    assert moved.open_uploads == 1
    assert all(key.startswith("eu:") for key in keys(sql))
    assert [await read(twin, digest) for digest in digests] == contents
    async with await web(registry).layers.resume(upload.uuid) as last:
        await last.finish(Digest.of(b"not finished"))
    assert placement(sql) == {("eu", 4), ("default", 1)}  # the session began before the move
    assert (await move(stores, "eu")).blobs == 1
    assert placement(sql) == {("eu", 5)}
    assert (await move(stores, "eu")).blobs == 0
    assert (await move(stores, "default")).blobs == 5
    assert not [key for key in keys(sql) if ":" in key]
    assert placement(sql) == {("default", 5)}
    assert [await read(twin, digest) for digest in digests] == contents
    # What was left behind is condemned, so that it goes with the garbage, and is nobody's orphan meanwhile.
    (condemned,) = sql.execute("select count(*) from condemned_bytes where complete").fetchall()
    assert condemned == (10,)
    assert [finding for finding in await findings(registry.backend) if "orphan" not in finding] == []


@pytest.mark.parametrize("step", ["_copy", "_has_digest", "_switch"])
async def test_move_that_is_killed_goes_on(
    registry: Registry, stores: Stores, tmp_path: Path, sql: Sql, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await stores.add("eu", (tmp_path / "eu").as_uri())
    contents = [os.urandom(1000 + number) for number in range(6)]
    digests = [await push_blob(web(registry), content) for content in contents]
    mover = f"distsql.registry.stores._Mover.{step}"
    original = getattr(__import__("distsql.registry.stores", fromlist=["_Mover"])._Mover, step)
    calls = 0

    async def killed(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise asyncio.CancelledError
        return await original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(mover, killed)
        with pytest.raises(asyncio.CancelledError):
            await move(stores, "eu")
    assert [await read(registry, digest) for digest in digests] == contents
    assert (await move(stores, "eu")).blobs == 3
    assert [await read(registry, digest) for digest in digests] == contents
    assert all(key.startswith("eu:") for key in keys(sql))


@pytest.mark.slow
async def test_move_beside_pushes_and_deletions(
    registry: Registry, twin: Registry, stores: Stores, tmp_path: Path, sql: Sql
) -> None:
    await stores.add("eu", (tmp_path / "eu").as_uri())
    kept = {await push_blob(web(registry), content): content for content in (os.urandom(2000) for _ in range(30))}
    gone = [await push_blob(web(registry), os.urandom(2000)) for _ in range(20)]

    async def push() -> None:
        for _ in range(30):
            content = os.urandom(2000)
            kept[await push_blob(web(twin), content)] = content
            await asyncio.sleep(0)

    async def push_again() -> None:
        for content in list(kept.values())[:30]:
            await push_blob(web(twin), content)

    async def delete() -> None:
        for digest in gone:
            await web(twin).layers.delete(digest)

    await asyncio.gather(move(stores, "eu"), push(), push_again(), delete())
    await move(stores, "eu")
    assert {digest: await read(registry, digest) for digest in kept} == kept
    live = {str(key) for (key,) in sql.execute("select store_key from blobs b where exists (select from layers l "
            "where l.tenant_id = b.tenant_id and l.digest = b.digest)")}  # fmt: skip
    assert all(key.startswith("eu:") for key in live)
    assert [finding for finding in await findings(registry.backend) if "orphan" not in finding] == []


@pytest.mark.parametrize("harm", ["missing", "corrupted"])
async def test_damaged_bytes_stay_are_told_and_a_push_heals_them(
    registry: Registry, stores: Stores, tmp_path: Path, settings: Settings, sql: Sql, harm: str
) -> None:
    await stores.add("eu", (tmp_path / "eu").as_uri())
    digest, whole = await push_blob(web(registry), b"damaged"), await push_blob(web(registry), b"whole")
    ((key,),) = sql.execute("select store_key from blobs where digest = %s", [digest.packed]).fetchall()
    file = Path(urlsplit(settings.storage).path) / "objects" / str(key)
    file.unlink() if harm == "missing" else file.write_bytes(b"daMaged")
    moved = await move(stores, "eu")
    assert (moved.blobs, moved.damaged) == (1, [str(digest)])
    assert await read(registry, whole) == b"whole"
    verifier = Verifier(
        registry.backend, read_bytes=True, grace=timedelta(hours=1), notify=lambda what, count: None, repair=True
    )
    found = [finding async for finding in verifier.findings()]
    assert [finding.kind for finding in found if str(digest) in finding.subject] == [
        "missing" if harm == "missing" else "content"
    ]
    # From now on nobody is given it, and a client that asks before it pushes does push.
    assert not await web(registry).layers.exists(digest)
    with pytest.raises(BlobUnknownError):
        await web(registry).layers.mount(digest)
    await push_blob(web(registry), b"damaged")
    assert await read(registry, digest) == b"damaged"
    assert (await move(stores, "eu")).damaged == []


async def test_lost_bytes_name_nothing(registry: Registry) -> None:
    store = registry.backend.store
    assert await store.length("lost:ab/x") is None
    with pytest.raises(BytesMissingError):
        await store.read("lost:ab/x", 0, 1)
    await store.delete("lost:ab/x")
