"""What the interfaces are for: an image goes from one registry to another, and neither knows where it comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.contract import Layer, Manifest, Namespace, Repository
from distsql.oci.descriptor import Descriptor
from distsql.oci.manifest import INDEXES
from distsql.remote import RemoteNamespace
from distsql.remote.connection import Connection
from distsql.settings import Settings
from distsql.values import Caller
from tests import postgres
from tests.contract.families import every_family, push_blobs
from tests.remote.conftest import client_of

PIECE = 64 * 1024


@pytest.fixture
async def target(postgres_server: str, template_database: str, tmp_path: Path) -> AsyncIterator[Registry]:
    """Another registry, with nothing in it."""
    with postgres.new_database(postgres_server, template=template_database) as url:
        settings = Settings(database_url=url, storage=(tmp_path / "target").as_uri(), access_log=False)
        async with Registry(settings) as opened:
            yield opened


async def pieces(layer: Layer) -> AsyncIterator[bytes]:
    while piece := await layer.read(PIECE):
        yield piece


async def copy_manifest(source: Repository, target: Repository, manifest: Manifest, *tags: str) -> None:
    for each in manifest.references():
        if manifest.media_type in INDEXES:
            await copy_manifest(source, target, await source.manifests.get(each.digest))
        else:
            await copy_blob(source, target, each)
    await target.manifests.put(manifest, tags)
    if signatures := await source.signatures.get(manifest.digest):
        await target.signatures.put(manifest.digest, *signatures)


async def copy_blob(source: Repository, target: Repository, blob: Descriptor) -> None:
    if blob.urls or await target.layers.exists(blob.digest):
        return
    async with await source.layers.fetch(blob.digest) as layer, await target.layers.upload() as upload:
        await upload.read_from(pieces(layer))
        await upload.finish(blob.digest)


async def copied(source: Namespace, target: Namespace) -> None:
    """All of a repository arrives: every manifest with its blobs, tags and signatures."""
    here, there = source.repository("acme/web"), target.repository("mirror/web")
    await push_blobs(here)
    families = every_family()
    for number, pushed in enumerate(families.values()):
        # Schema 1 says of itself in which repository it is.
        if pushed.declared_name is None:
            await here.manifests.put(pushed, [f"tag{number}"])
    await here.signatures.put(families["oci index"].digest, b"signed")
    async for manifest in here.manifests.all():
        await copy_manifest(here, there, manifest, *[tag async for tag in here.tags.lookup(manifest.digest)])
    assert [tag async for tag in there.tags.list()] == [tag async for tag in here.tags.list()]
    async for tag in here.tags.list():
        one, two = await here.manifests.get_by_tag(tag), await there.manifests.get_by_tag(tag)
        assert (one.digest, one.payload, one.media_type) == (two.digest, two.payload, two.media_type)
    assert list(await there.signatures.get(families["oci index"].digest)) == [b"signed"]
    found = [each.digest async for each in there.manifests.referrers(families["oci artifact"].subject.digest)]  # type: ignore[union-attr]
    assert found == [families["oci artifact"].digest]


async def test_from_a_remote_registry_into_this_one(remote: RemoteNamespace, target: Registry) -> None:
    await copied(remote, target.namespace)


async def test_from_this_registry_to_a_remote_one(registry: Registry, target: Registry) -> None:
    application = Application(target, limits=Limits(), access_log=None)
    async with client_of(application) as client:
        await copied(registry.namespace, RemoteNamespace(Connection(client, Caller())))


async def test_an_image_of_a_plain_registry(plain: RemoteNamespace, target: Registry) -> None:
    """By tag, as all registries have it; what is signed apart from manifests isn't there to be copied."""
    here, there = plain.repository("acme/web"), target.namespace.repository("mirror/web")
    await push_blobs(here)
    image = every_family()["oci image"]
    await here.manifests.put(image, ["v1"])
    manifest = await here.manifests.get_by_tag("v1")
    for each in manifest.references():
        await copy_blob(here, there, each)
    await there.manifests.put(manifest, ["v1"])
    assert (await there.manifests.get_by_tag("v1")).payload == image.payload
