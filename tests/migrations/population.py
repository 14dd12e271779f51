"""Rows of every kind in every table, written by the registry itself where it can."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.settings import Settings
from distsql.values import Caller
from tests.registry.pushing import image, index, push_blob, push_image


async def populate(url: str, folder: Path) -> None:
    """Two tenants; live, moved and ended tags; an index; a signature and referrers; uploads; what is condemned."""
    settings = Settings(database_url=url, storage=folder.as_uri())
    async with Registry(settings) as registry:
        namespace = registry.namespace.acting_as(Caller("ann", "127.0.0.1", "tests", "request-1"))
        web = namespace.repository("acme/web")
        first = await push_image(web, b"one", b"two", tags=["latest", "v1"], title="first")
        second = await push_image(web, b"one", b"three", tags=["latest", "v2"], title="second")
        await web.manifests.put(index(first, second), ["all"])
        await web.manifests.put(image(b"one", subject=first.digest, about="a subject"))
        await web.manifests.put(image(b"one", subject=Digest.of(b"absent"), about="an absent subject"))
        await web.signatures.put(first.digest, b"signature")
        await web.tags.untag("v2")
        async with await web.layers.upload() as upload:
            await upload.write(b"half of it")
        other = namespace.repository("other/web")
        await push_blob(other, b"one")
        await namespace.repository("other/copy").layers.mount(Digest.of(b"one"), "other/web")
        await namespace.repository("other/copy").set_sparse(sparse=True)
        gone = namespace.repository("other/gone")
        await push_image(gone, b"gone", tags=["latest"])
        await gone.remove()
    await asyncio.to_thread(_condemn, url)


def _condemn(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "update blobs b set state = 'condemned', condemned_at = now() where not exists "
            "(select from layers l where l.tenant_id = b.tenant_id and l.digest = b.digest)"
        )
        connection.execute(
            "insert into audit_events (tenant_id, at, id, actor, action, outcome) "
            "values (0, '1999-12-31', 1, 'bob', 'server.test', 'refused')"
        )
