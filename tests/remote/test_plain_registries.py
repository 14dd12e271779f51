"""A registry that is no distsql: what the OCI API offers works, the rest says that it can't."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import psycopg
import pytest

from distsql.contract import Repository
from distsql.errors import BlobUnknownError, NameUnknownError, TagUnknownError, UnsupportedError
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_INDEX, parse
from distsql.registry.namespace import StoredNamespace
from distsql.remote import RemoteNamespace
from distsql.values import Action
from tests.registry.pushing import push_blob, push_image


async def test_an_image_is_pushed_and_pulled(plain: RemoteNamespace, namespace: StoredNamespace) -> None:
    repository = plain.repository("acme/web")
    pushed = await push_image(repository, b"layer", tags=["v1", "v2"])
    assert [tag async for tag in repository.tags.list()] == ["v1", "v2"]
    assert (await repository.manifests.get_by_tag("v2")).payload == pushed.payload
    async with await repository.layers.fetch(Digest.of(b"layer")) as layer:
        assert (layer.length, await layer.read()) == (5, b"layer")
        layer.seek(2)
        assert await layer.read(2) == b"ye"
    await repository.tags.tag("v3", pushed.digest)
    await repository.tags.untag("v1")
    assert [tag async for tag in namespace.repository("acme/web").tags.list()] == ["v2", "v3"]
    assert [name async for name in plain.repositories()] == ["acme/web"]
    await repository.manifests.delete(pushed.digest)
    assert not await repository.manifests.exists_by_tag("v2")


async def test_an_upload_goes_on_where_it_stands(plain: RemoteNamespace) -> None:
    layers = plain.repository("acme/web").layers
    async with await layers.upload() as upload:
        await upload.write(b"0123")
    async with await layers.resume(upload.uuid) as again:
        assert again.tell() == 4
        await again.write(b"456")
        async with await again.finish(Digest.of(b"0123456")) as layer:
            assert await layer.read() == b"0123456"


async def test_what_isnt_there(plain: RemoteNamespace) -> None:
    repository = plain.repository("acme/web")
    with pytest.raises(NameUnknownError):
        await repository.layers.fetch(Digest.of(b"x"))
    await push_blob(repository, b"y")
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(Digest.of(b"x"))
    with pytest.raises(TagUnknownError):
        await repository.tags.get("v1")


async def test_a_mount_that_cant_be_leaves_no_session(
    plain: RemoteNamespace, namespace: StoredNamespace, sql: psycopg.Connection[tuple[object, ...]]
) -> None:
    await push_blob(namespace.repository("acme/source"), b"content")
    layers = plain.repository("acme/web").layers
    with pytest.raises(BlobUnknownError):
        await layers.mount(Digest.of(b"other"), "acme/source")
    assert sql.execute("select count(*) from uploads").fetchone() == (0,)
    async with await layers.mount(Digest.of(b"content"), "acme/source") as layer:
        assert await layer.read() == b"content"


async def test_referrers_are_found_by_the_fallback_tag(plain: RemoteNamespace, namespace: StoredNamespace) -> None:
    stored = namespace.repository("acme/web")
    subject = await push_image(stored, b"layer")
    about = await push_image(stored, b"layer", subject=subject.digest, n="1")
    entry = {
        "mediaType": about.media_type,
        "digest": str(about.digest),
        "size": len(about.payload),
        "artifactType": "application/vnd.example.sbom",
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    await stored.manifests.put(parse(json.dumps(index).encode()), [f"sha256-{subject.digest.encoded}"])
    manifests = plain.repository("acme/web").manifests

    async def found(digest: Digest, artifact_type: str | None = None) -> list[Digest]:
        return [each.digest async for each in manifests.referrers(digest, artifact_type=artifact_type)]

    assert await found(subject.digest) == [about.digest]
    assert await found(subject.digest, "application/vnd.example.sbom") == [about.digest]
    assert await found(subject.digest, "application/vnd.example.other") == []
    assert await found(about.digest) == []


def listed(items: AsyncIterator[object]) -> Awaitable[object]:
    return anext(items)


DIGEST = Digest.of(b"x")
NOW = datetime.now(UTC)
ONLY_HERE: dict[str, Callable[[Repository], Awaitable[object]]] = {
    "all": lambda repository: listed(repository.manifests.all()),
    "lookup": lambda repository: listed(repository.tags.lookup(DIGEST)),
    "history": lambda repository: listed(repository.tags.history("v1")),
    "resolve": lambda repository: repository.tags.resolve("v1", at=NOW),
    "compare-and-swap": lambda repository: repository.tags.tag("v1", DIGEST, expected=None),
    "signatures": lambda repository: repository.signatures.get(DIGEST),
    "signing": lambda repository: repository.signatures.put(DIGEST, b"signed"),
    "remove": lambda repository: repository.remove(),
}


@pytest.mark.parametrize("name", ONLY_HERE)
async def test_what_only_distsql_offers(plain: RemoteNamespace, name: str) -> None:
    repository = plain.repository("acme/web")
    await push_image(repository, b"layer", tags=["v1"])
    with pytest.raises(UnsupportedError, match="no distsql"):
        await ONLY_HERE[name](repository)


async def test_what_only_distsql_tells(plain: RemoteNamespace) -> None:
    repository = plain.repository("acme/web")
    async with await repository.layers.upload() as upload:
        await upload.write(b"x")
        layer = await upload.finish(DIGEST)
    for thing, name in ((layer, "created_at"), (upload, "started_at"), (upload, "expires_at")):
        with pytest.raises(UnsupportedError):
            getattr(thing, name)
    with pytest.raises(UnsupportedError):
        await plain.access.allows("acme/web", Action.PULL)
    with pytest.raises(UnsupportedError):
        await plain.trust.signatures("acme/web", DIGEST)
    with pytest.raises(UnsupportedError):
        await anext(plain.index.holders(DIGEST))
