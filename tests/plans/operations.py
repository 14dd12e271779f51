"""Every operation of the registry, once each: what prepares it, and the call that is measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

from distsql.errors import BlobUnknownError
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, parse
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from distsql.registry.tenants import Tenants
from distsql.sql import layers
from distsql.sql.database import Database
from distsql.sql.transactions import Transaction
from tests.libtrust import p256, signed
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image
from tests.sql.rows import look, make_repository

Call = Callable[[], Awaitable[object]]
# Also behind those of an earlier run, where a benchmark runs twice on one catalogue.
_numbers = count(time.time_ns())
SIGNATURE = "application/vnd.cncf.notary.signature"


@dataclass(frozen=True)
class World:
    """A registry with a little in it."""

    namespace: StoredNamespace
    database: Database
    tenants: Tenants

    @property
    def web(self) -> StoredRepository:
        return self.namespace.repository("acme/web")

    async def image(self, *, tags: tuple[str, ...] = (), children: int = 1) -> ParsedManifest:
        """A new one in acme/web."""
        return await push_image(self.web, *_contents(children), tags=tags, number=str(next(_numbers)))

    async def collect_untagged(self, tenant: str) -> None:
        """From now on the tenant's untagged manifests go."""
        await self.tenants.set(tenant, {"untagged": "collect"})

    async def hold(self, contents: list[bytes]) -> None:
        """Makes the rows of blobs, without their bytes."""

        async def work(tx: Transaction) -> None:
            repository = await make_repository(tx, "acme/web")
            for content in contents:
                digest = Digest.of(content)
                await layers.insert_blob(tx, repository.tenant_id, digest, length=len(content), store_key="no bytes")
                layers.insert_layer(tx, repository, digest, length=len(content))

        await self.database.transact(work)


def _contents(number: int) -> list[bytes]:
    return [f"layer {each}".encode() for each in range(number)]


def new_name() -> str:
    return f"new-{next(_numbers)}"


async def put_manifest(world: World, *, layers: int) -> Call:
    await world.hold([CONFIG, *_contents(layers)])
    await push_image(world.web, b"before", tags=["latest"])
    manifest = image(*_contents(layers), number=str(next(_numbers)))
    return lambda: world.web.manifests.put(manifest, ["latest", "other"])


async def put_manifests_together(world: World) -> Call:
    await world.hold([CONFIG, *_contents(3)])
    manifests = [image(*_contents(3), number=str(next(_numbers))) for _ in range(16)]
    puts = [partial(world.web.manifests.put, each, [f"v{number}"]) for number, each in enumerate(manifests)]
    return lambda: asyncio.gather(*(put() for put in puts))


async def put_signature_by_tag(world: World, *, tags: int = 1) -> Call:
    """As cosign does it: the manifest has no annotations, and the tag was there before."""
    content = new_name().encode()
    subjects = [await world.image() for _ in range(tags)]
    names = [f"sha256-{subject.digest.encoded}.sig" for subject in subjects]
    await push_image(world.web, b"before", tags=names)
    await world.hold([CONFIG, content])
    return lambda: world.web.manifests.put(image(content), names)


async def put_first_signature_by_tag(world: World) -> Call:
    """As cosign signs for the first time, where untagged manifests are collected: the tag is new."""
    content = new_name().encode()
    collecting = world.namespace.repository("collecting/web")
    subject = await push_image(collecting, b"before", number=str(next(_numbers)))
    await world.collect_untagged("collecting")
    await push_blob(collecting, content)
    return lambda: collecting.manifests.put(image(content), [f"sha256-{subject.digest.encoded}.sig"])


async def put_signature_by_referrer(world: World) -> Call:
    """As notation and cosign 3 do it: with annotations, and no tag."""
    subject = await world.image()
    signature = image(b"layer 0", subject=subject.digest, artifact_type=SIGNATURE, number=str(next(_numbers)))
    return lambda: world.web.manifests.put(signature)


async def put_schema1(world: World) -> Call:
    signature, _ = await _schema1(world)
    return lambda: world.web.manifests.put(signature, ["latest"])


async def put_schema1_by_another_signer(world: World) -> Call:
    ann, bob = await _schema1(world)
    await world.web.manifests.put(ann, ["latest"])
    return lambda: world.web.manifests.put(bob, ["latest"])


async def _schema1(world: World) -> list[ParsedManifest]:
    """One manifest, by two signers."""
    await push_image(world.web, b"before", tags=["latest"])
    layers = [{"blobSum": str(Digest.of(b"before"))}]
    document = {"schemaVersion": 1, "tag": "latest", "fsLayers": layers, "number": next(_numbers)}
    canonical = json.dumps(document).encode()
    return [parse(signed(canonical, p256(name))) for name in ("ann", "bob")]


async def put_index(world: World) -> Call:
    children = [await world.image() for _ in range(4)]
    return lambda: world.web.manifests.put(index(*children), ["latest"])


async def put_manifest_again(world: World) -> Call:
    manifest = await world.image(tags=("latest",))
    return lambda: world.web.manifests.put(manifest, ["latest"])


async def get_manifest_by_tag(world: World) -> Call:
    await world.image(tags=("latest",))
    return lambda: world.web.manifests.get_by_tag("latest")


async def get_manifest_by_digest(world: World) -> Call:
    manifest = await world.image()
    return lambda: world.web.manifests.get(manifest.digest)


async def delete_manifest(world: World) -> Call:
    manifest = await world.image(tags=("a", "b"))
    return lambda: world.web.manifests.delete(manifest.digest)


async def list_referrers(world: World) -> Call:
    subject = await world.image()
    await push_image(world.web, b"signature", subject=subject.digest)

    async def listed() -> None:
        assert [each async for each in world.web.manifests.referrers(subject.digest)]

    return listed


async def get_tag(world: World) -> Call:
    await world.image(tags=("latest",))
    return lambda: world.web.tags.get("latest")


async def tag(world: World) -> Call:
    manifest = await world.image()
    return lambda: world.web.tags.tag("stable", manifest.digest)


async def swap_tag(world: World) -> Call:
    old, new = await world.image(tags=("swapped",)), await world.image()
    return lambda: world.web.tags.tag("swapped", new.digest, old.digest)


async def untag(world: World) -> Call:
    await world.image(tags=("gone",))
    return lambda: world.web.tags.untag("gone")


async def list_tags(world: World) -> Call:
    await world.image(tags=("latest",))

    async def listed() -> None:
        assert [each async for each in world.web.tags.list()]

    return listed


async def get_blob(world: World) -> Call:
    digest = await push_blob(world.web, b"content")
    return lambda: world.web.layers.fetch(digest)


async def head_blob(world: World) -> Call:
    digest = await push_blob(world.web, b"content")
    return lambda: world.web.layers.exists(digest)


async def head_blob_that_is_not_there(world: World) -> Call:
    """What a push asks first, of each blob."""
    digest = Digest.of(new_name().encode())

    async def ask() -> None:
        with contextlib.suppress(BlobUnknownError):
            await world.web.layers.fetch(digest, promised=True)

    return ask


async def begin_upload(world: World) -> Call:
    await push_blob(world.web, b"content")
    return world.web.layers.upload


async def begin_upload_in_a_new_repository(world: World) -> Call:
    return world.namespace.repository(f"{new_name()}/web").layers.upload


async def write_chunk(world: World) -> Call:
    begun = await world.web.layers.upload()

    async def write() -> None:
        async with await world.web.layers.resume(begun.uuid) as upload:
            await upload.write(b"chunk")

    return write


async def finish_upload(world: World) -> Call:
    content = new_name().encode()
    upload = await world.web.layers.upload()
    await upload.write(content)
    return lambda: upload.finish(Digest.of(content))


async def cancel_upload(world: World) -> Call:
    upload = await world.web.layers.upload()
    return upload.cancel


async def mount(world: World) -> Call:
    digest = await push_blob(world.web, b"content")
    target = world.namespace.repository("acme/target")
    await push_blob(target, b"other")
    return lambda: target.layers.mount(digest, "acme/web")


async def mount_from_any(world: World) -> Call:
    digest = await push_blob(world.web, b"content")
    target = world.namespace.repository("acme/target")
    await push_blob(target, b"other")
    return lambda: target.layers.mount(digest)


async def mount_into_a_new_repository(world: World) -> Call:
    digest = await push_blob(world.web, b"content")
    return lambda: world.namespace.repository(f"acme/{new_name()}").layers.mount(digest, "acme/web")


async def mount_what_is_not_there(world: World) -> Call:
    await push_blob(world.web, b"content")

    async def miss() -> None:
        try:
            await world.namespace.repository("acme/target").layers.mount(Digest.of(b"nothing"), "acme/web")
        except BlobUnknownError:
            return
        raise AssertionError("mounted")

    return miss


async def delete_blob(world: World) -> Call:
    digest = await push_blob(world.web, b"not needed")
    return lambda: world.web.layers.delete(digest)


async def put_signature(world: World) -> Call:
    manifest = await world.image()
    return lambda: world.web.signatures.put(manifest.digest, b"signature")


async def get_signatures(world: World) -> Call:
    manifest = await world.image()
    return lambda: world.web.signatures.get(manifest.digest)


async def list_repositories(world: World) -> Call:
    await push_blob(world.web, b"content")

    async def listed() -> None:
        assert [each async for each in world.namespace.repositories()]

    return listed


async def restore_manifest(world: World) -> Call:
    manifest = await world.image(tags=(new_name(), new_name()))
    await world.web.signatures.put(manifest.digest, b"signature")
    await world.web.manifests.delete(manifest.digest)
    return lambda: world.web.restorations.restore_manifest(manifest.digest)


async def restore_repository(world: World) -> Call:
    repository = world.namespace.repository(f"acme/{new_name()}")
    await push_image(repository, b"layer", tags=["latest"])
    await repository.remove()
    return repository.restorations.restore_repository


async def roll_back(world: World) -> Call:
    tag = new_name()
    for _ in range(2):
        await world.image(tags=(tag,))
    return lambda: world.web.restorations.roll_back(tag)


async def _make_old(world: World, table: str, instant: str, digest: Digest) -> None:
    """As if it had come nearly an hour ago to acme/web."""
    here = "repository_id = (select id from repositories where path = 'web') and digest = %(digest)s"

    async def work(tx: Transaction) -> None:
        await look(
            tx,
            f"update {table} set {instant} = {instant} - interval '50 minutes' where {here}",
            digest=digest.packed,
        )

    await world.database.transact(work, tenant="acme")


async def renew_blob(world: World) -> Call:
    """HEAD of content that nothing has referred to for a while."""
    digest = await push_blob(world.web, new_name().encode())
    await _make_old(world, "layers", "needed_at", digest)
    return lambda: world.web.layers.exists(digest)


async def promise_manifest(world: World) -> Call:
    """HEAD of a manifest that nothing has held for a while: of a referrer whose subject is gone."""
    subject = await world.image()
    signature = await push_image(world.web, b"layer", subject=subject.digest, number=str(next(_numbers)))
    await world.web.manifests.delete(subject.digest)
    await _make_old(world, "manifests", "pushed_at", signature.digest)
    return lambda: world.web.manifests.exists(signature.digest)


async def set_public(world: World) -> Call:
    await push_blob(world.web, b"content")
    return lambda: world.web.set_public(public=False)


async def remove_repository(world: World) -> Call:
    repository = world.namespace.repository(f"acme/{new_name()}")
    await push_image(repository, b"layer", tags=["latest"])
    await repository.layers.upload()
    return repository.remove
