"""Undo: what was deleted comes back as it was, and tags go back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from distsql.contract import Namespace, Repository
from distsql.errors import (
    ManifestUnknownError,
    NameUnknownError,
    RepositoryExistsError,
    TagChangedError,
    TagUnknownError,
)
from distsql.oci.digest import Digest
from distsql.values import Caller
from tests.contract.covering import covers
from tests.registry.pushing import image, index, push_blob, push_image

NOWHERE = Digest.of(b"nowhere")


@covers("Repository.restorations", "RestorationService.restore_manifest")
async def test_a_manifest_comes_back_with_children_and_tags(repository: Repository, elsewhere: Namespace) -> None:
    child = await push_image(repository, b"layer")
    parent = index(child)
    await repository.manifests.put(parent, ["v1", "v2"])
    await repository.signatures.put(parent.digest, b"signed")
    await repository.manifests.delete(parent.digest)
    await repository.manifests.delete(child.digest)
    await repository.tags.tag("v2", (await push_image(repository, b"other")).digest)
    await repository.restorations.restore_manifest(parent.digest)
    again = elsewhere.repository("acme/web")
    assert (await again.manifests.get_by_tag("v1")).payload == parent.payload
    assert await again.manifests.exists(child.digest)
    assert (await again.tags.get("v2")).digest != parent.digest
    assert list(await again.signatures.get(parent.digest)) == [b"signed"]
    async with await again.layers.fetch(Digest.of(b"layer")) as layer:
        assert await layer.read() == b"layer"


@covers("RestorationService.restore_manifest")
async def test_only_what_was_deleted_is_restored(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.restorations.restore_manifest(NOWHERE)
    manifest = await push_image(repository, b"layer")
    for digest in (NOWHERE, manifest.digest):
        with pytest.raises(ManifestUnknownError):
            await repository.restorations.restore_manifest(digest)


@covers("RestorationService.deleted")
async def test_what_was_deleted_is_listed_newest_first(namespace: Namespace, repository: Repository) -> None:
    assert list(await repository.restorations.deleted()) == []
    manifest = await push_image(repository, b"layer", tags=["v1", "live"])
    await repository.tags.untag("v1")
    bob = namespace.acting_as(Caller(actor="bob")).repository("acme/web")
    other = await push_image(repository, b"other")
    await bob.manifests.delete(other.digest)
    await push_image(namespace.repository("acme/web/deep"), b"other", tags=["v1"])
    await namespace.repository("acme/web/deep").tags.untag("v1")
    found = await repository.restorations.deleted()
    assert [(each.kind, each.tag, each.digest, each.deleted_by) for each in found] == [
        ("manifest", None, other.digest, "bob"),
        ("tag", "v1", manifest.digest, "tester"),
    ]
    assert found[0].deleted_at > found[1].deleted_at
    assert found[0].restorable_until > datetime.now(UTC)
    assert list(await repository.restorations.deleted(limit=1)) == list(found[:1])
    await repository.restorations.restore_tag("v1")
    await repository.restorations.restore_manifest(other.digest)
    assert list(await repository.restorations.deleted()) == []


@covers("RestorationService.restore_tag")
async def test_an_ended_tag_begins_again(repository: Repository, elsewhere: Namespace) -> None:
    with pytest.raises(NameUnknownError):
        await repository.restorations.restore_tag("v1")
    manifest = await push_image(repository, b"layer", tags=["v1"])
    with pytest.raises(TagChangedError) as refusal:
        await repository.restorations.restore_tag("v1")
    assert refusal.value.detail == {"tag": "v1", "digest": str(manifest.digest)}
    await repository.manifests.delete(manifest.digest)
    assert await repository.restorations.restore_tag("v1") == manifest.digest
    assert (await elsewhere.repository("acme/web").manifests.get_by_tag("v1")).payload == manifest.payload
    for never in ("v2", "", "v1\0"):
        with pytest.raises(TagUnknownError):
            await repository.restorations.restore_tag(never)


@covers("RestorationService.roll_back")
async def test_a_tag_goes_back(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.restorations.roll_back("v1")
    pushed = [await push_image(repository, b"layer", tags=["v1"], n=str(number)) for number in range(3)]
    first, second, third = [each.digest for each in pushed]
    moves = [move async for move in repository.tags.history("v1")]
    assert await repository.restorations.roll_back("v1") == second
    await repository.manifests.delete(first)
    assert await repository.restorations.roll_back("v1", at=moves[-1].valid_from) == first
    assert (await repository.manifests.get_by_tag("v1")).digest == first
    assert await repository.manifests.exists(third)
    await repository.tags.untag("v1")
    assert await repository.restorations.roll_back("v1", at=moves[0].valid_from) == third
    for tag, at in (("v1", moves[-1].valid_from - timedelta(seconds=1)), ("v2", None), ("-", None)):
        with pytest.raises(TagUnknownError):
            await repository.restorations.roll_back(tag, at=at)


@covers("RestorationService.restore_repository", "RestorationService.deleted")
async def test_a_repository_comes_back(repository: Repository, elsewhere: Namespace) -> None:
    with pytest.raises(NameUnknownError):
        await repository.restorations.restore_repository()
    manifest = await push_image(repository, b"layer", tags=["v1"])
    with pytest.raises(RepositoryExistsError):
        await repository.restorations.restore_repository()
    await repository.remove()
    [gone] = await elsewhere.repository("acme/web").restorations.deleted()
    assert (gone.kind, gone.tag, gone.digest) == ("repository", None, None)
    await push_blob(repository, b"of another one")
    with pytest.raises(RepositoryExistsError):
        await repository.restorations.restore_repository()
    await repository.remove()
    await repository.restorations.restore_repository()
    assert not await repository.manifests.exists(manifest.digest)
    await repository.remove()


@covers("TagService.resolve", "ManifestService.get")
async def test_a_moved_tag_is_pulled_as_it_was(repository: Repository) -> None:
    before = await push_image(repository, b"layer", tags=["v1"], n="1")
    await repository.manifests.put(image(b"layer", n="2"), ["v1"])
    newest, oldest = [move async for move in repository.tags.history("v1")]
    assert oldest.valid_to == newest.valid_from
    digest = await repository.tags.resolve("v1", at=newest.valid_from - timedelta(microseconds=1))
    assert digest is not None
    assert (await repository.manifests.get(digest)).payload == before.payload
