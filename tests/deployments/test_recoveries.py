"""A catalogue restored from a backup, beside the one store there is: to an instant, all of whose bytes are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import pytest

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.registry.verification import Finding, Verifier
from distsql.settings import Settings
from distsql.sql import schema
from distsql.values import Caller
from tests import postgres
from tests.deployments.standbys import Recovery
from tests.registry.pushing import CONFIG, push_image
from tests.registry.test_garbage import later

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("replicas")]

NOW, WINDOW = timedelta(0), timedelta(days=3)
LAYERS: Final = {
    "acme/web": [b"stays", b"its manifest goes", b"shared"],
    "acme/gone": [b"goes with its repository", b"shared"],
    "apex/web": [b"goes with its tenant", b"shared"],
}
SENT: Final = b"half of an upload"


@pytest.fixture
def catalogue(primary: tuple[Path, str]) -> Iterator[str]:
    """A migrated catalogue of its own on the primary, whose other one is used by other tests."""
    _, url = primary
    with postgres.new_database(url) as own:
        schema.migrate(own)
        yield own


@contextmanager
def removing(recovery: Recovery) -> Iterator[Recovery]:
    try:
        yield recovery
    finally:
        recovery.remove()


def namespace_of(registry: Registry) -> StoredNamespace:
    return registry.namespace.acting_as(Caller(actor="tester"))


async def push_all(namespace: StoredNamespace, *names: str) -> None:
    for name in names:
        for content in LAYERS[name]:
            await push_image(namespace.repository(name), content, tags=[f"of-{len(content)}"])


async def pull_all(namespace: StoredNamespace) -> None:
    """Every image by its tag, byte for byte; and no other."""
    assert [name async for name in namespace.repositories()] == sorted(LAYERS)
    for name, contents in LAYERS.items():
        repository = namespace.repository(name)
        assert sorted([tag async for tag in repository.tags.list()]) == sorted(f"of-{len(each)}" for each in contents)
        for content in contents:
            manifest = await repository.manifests.get_by_tag(f"of-{len(content)}")
            for part, expected in zip(manifest.references(), (CONFIG, content), strict=True):
                assert await (await repository.layers.fetch(part.digest)).read() == expected


async def delete_and_collect(registry: Registry) -> Collected:
    """All but one image goes, as if nothing had to be kept for its own sake but for the window; some comes again."""
    namespace = namespace_of(registry)
    web = namespace.repository("acme/web")
    for content in LAYERS["acme/web"][1:]:
        await web.manifests.delete((await web.tags.get(f"of-{len(content)}")).digest)
    await namespace.repository("acme/gone").remove()
    await Tenants(registry.backend.everything, Caller()).delete("apex")
    collected = await collect(registry)
    await push_image(namespace.repository("acme/again"), b"shared", b"new", tags=["v1"])
    return collected


async def begin_upload(namespace: StoredNamespace) -> UUID:
    async with await namespace.repository("acme/web").layers.upload() as upload:
        await upload.write(SENT)
        return upload.uuid


async def end_uploads(
    namespace: StoredNamespace, finished: UUID, duplicate: UUID, cancelled: UUID, longer: UUID
) -> None:
    """What becomes of them after the instant."""
    layers = namespace.repository("acme/web").layers
    for uuid in (finished, duplicate):  # the second is there already, and kept once
        await (await layers.resume(uuid)).finish(Digest.of(SENT))
    await (await layers.resume(cancelled)).cancel()
    async with await layers.resume(longer) as upload:
        await upload.write(b", and more than that")


async def go_on(namespace: StoredNamespace, uuid: UUID) -> None:
    """At the offset that was acknowledged by then."""
    layers = namespace.repository("acme/web").layers
    async with await layers.resume(uuid) as upload:
        assert upload.tell() == len(SENT)
        content = SENT + uuid.bytes
        await upload.write(uuid.bytes)
        await upload.finish(Digest.of(content))
    assert await (await layers.fetch(Digest.of(content))).read() == content


async def collect(registry: Registry) -> Collected:
    told = GarbageCollector(
        registry.backend, Caller(), periods=Periods(NOW, NOW, WINDOW), notify=lambda what, count: None
    )
    return await told.run(full=True)


async def damage(registry: Registry) -> list[Finding]:
    verifier = Verifier(registry.backend, read_bytes=True, grace=WINDOW, notify=lambda what, count: None)
    return [finding async for finding in verifier.findings()]


async def test_a_database_restored_to_an_instant_in_the_window_has_all_its_bytes(
    primary: tuple[Path, str], catalogue: str, place: Path
) -> None:
    """A base backup, the log after it, and a store that went on: what was acknowledged by then can be pulled."""
    folder, _ = primary
    storage = (place / "bytes").as_uri()
    settings = Settings(database_url=catalogue, storage=storage, access_log=False, recovery_window=WINDOW)
    with removing(Recovery(catalogue, place, name="restored")) as recovery:
        async with Registry(settings) as registry:
            namespace = namespace_of(registry)
            await push_all(namespace, "acme/web")
            await push_all(namespace, "acme/gone", "apex/web")
            uploads = [await begin_upload(namespace) for _ in range(4)]
            with psycopg.connect(catalogue, autocommit=True) as sql:
                [(then,)] = sql.execute("select clock_timestamp()").fetchall()
            collected = await delete_and_collect(registry)
            await end_uploads(namespace, *uploads)
            assert (collected.purged, collected.repositories, collected.tenants) == (2, 2, 0)
            assert collected.blobs >= 4
            assert collected.freed_bytes == 0
        assert isinstance(then, datetime)
        recovery.restore_to(then, log=folder / "postgres" / "cluster" / "pg_wal")
        restored = Settings(database_url=recovery.url, storage=storage, access_log=False)
        async with Registry(restored) as registry:
            await pull_all(namespace_of(registry))
            for uuid in uploads:
                await go_on(namespace_of(registry), uuid)
            assert await damage(registry) == []
        async with Registry(settings) as registry:
            with psycopg.connect(catalogue, autocommit=True) as sql:
                later(sql, "4 days")
            assert (await collect(registry)).freed_bytes > 0
        async with Registry(restored) as registry:
            assert {each.kind for each in await damage(registry)} == {"missing"}, "but for the window"
