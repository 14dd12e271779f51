"""The catalogue is away, or has no connection to spare; and what is damaged in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql as psql
from psycopg.conninfo import conninfo_to_dict

import distsql
from distsql.errors import CatalogueUnavailableError, ContentCorruptError, SchemaError
from distsql.oci.digest import Digest
from distsql.registry.namespace import StoredNamespace
from distsql.sql import health
from tests.registry.pushing import image, push_blob, push_image
from tests.registry.soundness import findings, namespace_of, opened

pytestmark = pytest.mark.usefixtures("fresh_connections")


def set_allowed(server_url: str, database_url: str, *, allowed: bool) -> None:
    """Lets connections in, or ends all and refuses new ones: what clients see of a PostgreSQL that is down."""
    name = str(conninfo_to_dict(database_url)["dbname"])
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            psql.SQL("alter database {} allow_connections {}").format(psql.Identifier(name), psql.Literal(allowed))
        )
        if not allowed:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", (name,)
            )


async def test_a_database_that_is_away_and_comes_back(postgres_server: str, database_url: str) -> None:
    async with opened(database_url) as backend:
        repository = namespace_of(backend).repository("acme/web")
        manifest = await push_image(repository, b"layer", tags=["v1"])
        upload = await repository.layers.upload()
        await upload.write(b"before")
        set_allowed(postgres_server, database_url, allowed=False)
        try:
            for operation in (
                lambda: repository.manifests.get_by_tag("v1"),
                lambda: repository.manifests.put(image(b"layer", n="1"), ["v1"]),
                lambda: repository.layers.fetch(Digest.of(b"layer")),
                repository.layers.upload,
                lambda: repository.tags.untag("v1"),
                repository.exists,
                lambda: anext(repository.tags.list()),
                upload.close,
            ):
                with pytest.raises(CatalogueUnavailableError) as refusal:
                    await operation()
                assert "PostgreSQL" in refusal.value.message
                assert refusal.value.retry_after > 0
        finally:
            set_allowed(postgres_server, database_url, allowed=True)
        assert (await repository.manifests.get_by_tag("v1")).digest == manifest.digest
        assert upload.tell() == 0
        async with upload:
            await upload.write(b"after")
            await upload.finish(Digest.of(b"after"))
        await push_image(repository, b"new", tags=["v2"])
        assert await findings(backend) == []


async def test_connections_that_died_meanwhile_are_no_reason_to_fail(postgres_server: str, database_url: str) -> None:
    async with opened(database_url) as backend:
        repository = namespace_of(backend).repository("acme/web")
        await asyncio.gather(*(push_blob(repository, f"{number}".encode()) for number in range(8)))
        set_allowed(postgres_server, database_url, allowed=False)
        set_allowed(postgres_server, database_url, allowed=True)
        await asyncio.gather(*(push_blob(repository, f"{number}".encode()) for number in range(8)))


async def test_a_pool_without_a_free_connection_says_so(database_url: str) -> None:
    async with opened(database_url, pool_size=1, statement_timeout_s=0.5) as backend:
        repository = namespace_of(backend).repository("acme/web")
        await push_image(repository, b"layer", tags=["v1"])
        async with backend.database.transaction() as tx:
            await health.ping(tx)
            with pytest.raises(CatalogueUnavailableError, match="DISTSQL_POOL_SIZE"):
                await repository.tags.untag("v1")
        await repository.tags.untag("v1")


async def test_many_more_requests_than_connections(database_url: str) -> None:
    async with opened(database_url, pool_size=2) as backend:
        repository = namespace_of(backend).repository("acme/web")
        await asyncio.gather(*(push_blob(repository, f"{number}".encode()) for number in range(40)))
        assert await findings(backend) == []


async def test_rows_that_others_hold_for_too_long(
    database_url: str, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    async with opened(database_url, statement_timeout_s=0.5) as backend:
        repository = namespace_of(backend).repository("acme/web")
        await push_image(repository, b"layer", tags=["v1"])
        with sql.transaction():
            sql.execute("select 1 from tags for update")
            with pytest.raises(CatalogueUnavailableError, match="TIMEOUT"):
                await repository.tags.untag("v1")
        await repository.tags.untag("v1")


async def test_a_damaged_payload_is_never_served(
    namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    repository = namespace.repository("acme/web")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    sql.execute("update manifests set payload = overlay(payload placing '\\x00' from 5 for 1)")
    with pytest.raises(ContentCorruptError):
        await repository.manifests.get(manifest.digest)
    with pytest.raises(ContentCorruptError):
        await repository.manifests.get_by_tag("v1")
    with pytest.raises(ContentCorruptError):
        await anext(repository.manifests.all())
    await repository.manifests.delete(manifest.digest)
    await repository.manifests.put(manifest, ["v1"])
    assert (await repository.manifests.get_by_tag("v1")).payload == manifest.payload


async def test_the_registry_as_a_library(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    storage_url = tmp_path_factory.mktemp("bytes").as_uri()
    async with distsql.connect(database_url, storage_url, actor="robot") as namespace:
        manifest = await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    async with distsql.connect(database_url, storage_url) as namespace:
        repository = namespace.repository("acme/web")
        assert (await repository.manifests.get_by_tag("v1")).digest == manifest.digest
        async with await repository.layers.fetch(Digest.of(b"layer")) as layer:
            assert await layer.read() == b"layer"
        await repository.tags.untag("v1")
        [move] = [move async for move in repository.tags.history("v1")]
        assert (move.actor, move.ended_by) == ("robot", "library")


async def test_a_database_that_was_never_migrated(new_database: Callable[[], str]) -> None:
    with pytest.raises(SchemaError, match="distsql migrate"):
        async with distsql.connect(new_database(), "memory:"):
            pass
