"""Reading manifests, in all families; writing them is in `test_manifests_put`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from distsql.contract import Manifest, Namespace, Repository
from distsql.errors import (
    InUseError,
    ManifestUnknownError,
    NameUnknownError,
    TagUnknownError,
)
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from tests.contract.conftest import PAGE
from tests.contract.covering import covers
from tests.contract.families import every_family, index, oci_image, push_blobs
from tests.registry.pushing import push_image

NOWHERE = Digest.of(b"nowhere")


def same(found: Manifest, pushed: ParsedManifest) -> bool:
    """Whether all that a manifest tells is the same."""
    return (
        (found.media_type, found.payload, found.digest) == (pushed.media_type, pushed.payload, pushed.digest)
        and (found.subject, found.artifact_type) == (pushed.subject, pushed.artifact_type)
        and dict(found.annotations) == dict(pushed.annotations)
        and list(found.references()) == list(pushed.references())
    )


@covers("ManifestService.put", "ManifestService.get", "ManifestService.exists", "ManifestService.get_by_tag")
async def test_every_family_comes_back_as_it_was_pushed(repository: Repository, elsewhere: Namespace) -> None:
    await push_blobs(repository)
    there = elsewhere.repository("acme/web").manifests
    for number, pushed in enumerate(every_family().values()):
        tag = pushed.declared_tag or f"tag{number}"
        assert not await there.exists(pushed.digest)
        assert await repository.manifests.put(pushed, [tag]) == pushed.digest
        assert await there.exists(pushed.digest)
        assert same(await there.get(pushed.digest), pushed)
        assert same(await there.get_by_tag(tag), pushed)


@covers(
    "Manifest.media_type",
    "Manifest.payload",
    "Manifest.digest",
    "Manifest.subject",
    "Manifest.annotations",
    "Manifest.artifact_type",
    "Manifest.references",
)
async def test_a_stored_manifest_tells_what_it_is(repository: Repository) -> None:
    await push_blobs(repository)
    families = every_family()
    for pushed in families.values():
        await repository.manifests.put(pushed)
    image = await repository.manifests.get(families["oci image"].digest)
    assert image.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert Digest.of(image.payload) == image.digest
    assert dict(image.annotations) == {"org.example.note": "ü"}
    assert (image.subject, image.artifact_type) == (None, "application/vnd.oci.image.config.v1+json")
    assert [each.length for each in image.references()] == [37, 11, 12]
    artifact = await repository.manifests.get(families["oci artifact"].digest)
    assert artifact.subject is not None
    assert artifact.subject.digest == Digest.of(b"absent")
    assert artifact.artifact_type == "application/vnd.example.sbom"
    assert artifact.subject.digest not in {each.digest for each in artifact.references()}
    parent = await repository.manifests.get(families["oci index"].digest)
    assert [each.digest for each in parent.references()] == [image.digest, families["docker image"].digest]
    assert (await repository.manifests.get(families["oci image in sha512"].digest)).digest.algorithm == "sha512"


@covers("ManifestService.get", "ManifestService.exists")
async def test_what_is_not_there(repository: Repository) -> None:
    assert not await repository.manifests.exists(NOWHERE)
    with pytest.raises(NameUnknownError):
        await repository.manifests.get(NOWHERE)
    await push_image(repository)
    assert not await repository.manifests.exists(NOWHERE)
    with pytest.raises(ManifestUnknownError):
        await repository.manifests.get(NOWHERE)


@covers("ManifestService.get")
async def test_a_manifest_is_its_repositorys_own(namespace: Namespace, repository: Repository) -> None:
    manifest = await push_image(repository)
    other = namespace.repository("acme/other")
    await push_image(other, b"another")
    with pytest.raises(ManifestUnknownError):
        await other.manifests.get(manifest.digest)


@covers("ManifestService.get_by_tag", "ManifestService.exists_by_tag")
async def test_what_is_not_tagged(repository: Repository) -> None:
    assert not await repository.manifests.exists_by_tag("v1")
    with pytest.raises(NameUnknownError):
        await repository.manifests.get_by_tag("v1")
    await push_image(repository, tags=["v1"])
    assert await repository.manifests.exists_by_tag("v1")
    for tag in ("v2", "V1", "", "v1 ", "v1\0", "-", "v" * 200, str(NOWHERE), "\ud800"):
        assert not await repository.manifests.exists_by_tag(tag)
        with pytest.raises(TagUnknownError):
            await repository.manifests.get_by_tag(tag)


@covers("ManifestService.tags")
async def test_tags_by_their_older_name(repository: Repository) -> None:
    await push_image(repository, tags=["b", "a"])
    assert [tag async for tag in repository.manifests.tags()] == ["a", "b"]


@covers("ManifestService.all")
async def test_all_manifests_come_in_the_order_of_their_digests(repository: Repository) -> None:
    await push_blobs(repository)
    pushed = {each.digest: each for each in every_family().values()}
    for manifest in pushed.values():
        await repository.manifests.put(manifest)
    expected = sorted(pushed)
    assert [each.digest async for each in repository.manifests.all()] == expected
    for count, after in enumerate(expected, start=1):
        assert [each.digest async for each in repository.manifests.all(after=after)] == expected[count:]
    async for each in repository.manifests.all():
        assert same(each, pushed[each.digest])


@covers("ManifestService.all")
async def test_all_is_re_entrant(repository: Repository) -> None:
    await push_blobs(repository)
    for number in range(2 * PAGE + 1):
        await repository.manifests.put(oci_image(annotations={"n": str(number)}))
    first, second = repository.manifests.all(), repository.manifests.all()
    pairs = [(one.digest, (await anext(second)).digest) async for one in first]
    assert len(pairs) == 2 * PAGE + 1
    assert all(one == two for one, two in pairs)


@covers("ManifestService.all")
async def test_a_repository_that_doesnt_exist_has_no_listing(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await anext(repository.manifests.all())


@covers("ManifestService.delete")
async def test_deleting_ends_its_tags_for_all_readers_at_once(repository: Repository, elsewhere: Namespace) -> None:
    manifest = await push_image(repository, b"one", tags=["v1", "v2"])
    other = await push_image(repository, b"two", tags=["v3"])
    await repository.manifests.delete(manifest.digest)
    there = elsewhere.repository("acme/web")
    assert not await there.manifests.exists(manifest.digest)
    assert [tag async for tag in there.tags.list()] == ["v3"]
    with pytest.raises(TagUnknownError):
        await there.manifests.get_by_tag("v1")
    with pytest.raises(ManifestUnknownError):
        await there.manifests.get(manifest.digest)
    assert [each.digest async for each in there.manifests.all()] == [other.digest]
    [move] = [move async for move in there.tags.history("v1")]
    assert move.digest == manifest.digest
    assert move.valid_to is not None
    assert await there.tags.resolve("v1", at=move.valid_from) == manifest.digest
    assert await there.tags.resolve("v1", at=datetime.now(UTC)) is None


@covers("ManifestService.delete")
async def test_what_isnt_there_cant_be_deleted(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.manifests.delete(NOWHERE)
    manifest = await push_image(repository)
    with pytest.raises(ManifestUnknownError):
        await repository.manifests.delete(NOWHERE)
    await repository.manifests.delete(manifest.digest)
    with pytest.raises(ManifestUnknownError):
        await repository.manifests.delete(manifest.digest)


@covers("ManifestService.delete")
async def test_a_child_stays_while_an_index_has_it(repository: Repository) -> None:
    child = await push_image(repository, b"layer", tags=["child"])
    parent = index(child)
    await repository.manifests.put(parent)
    with pytest.raises(InUseError) as refusal:
        await repository.manifests.delete(child.digest)
    assert refusal.value.detail == {"digest": str(child.digest), "referrer": str(parent.digest)}
    assert await repository.manifests.exists_by_tag("child")
    await repository.manifests.delete(parent.digest)
    await repository.manifests.delete(child.digest)


@covers("ManifestService.delete")
async def test_a_forced_deletion_takes_the_child_and_leaves_the_index(repository: Repository) -> None:
    child = await push_image(repository, b"layer", tags=["child"])
    parent = index(child)
    await repository.manifests.put(parent, ["parent"])
    await repository.manifests.delete(child.digest, force=True)
    assert not await repository.manifests.exists(child.digest)
    assert not await repository.manifests.exists_by_tag("child")
    assert (await repository.manifests.get_by_tag("parent")).payload == parent.payload
    with pytest.raises(ManifestUnknownError):
        await repository.manifests.delete(child.digest, force=True)
    await repository.manifests.put(child)
    with pytest.raises(InUseError):
        await repository.manifests.delete(child.digest)


@covers("ManifestService.delete")
async def test_a_subject_doesnt_stay_for_its_referrers(repository: Repository) -> None:
    subject = await push_image(repository, b"layer")
    referrer = await push_image(repository, b"layer", subject=subject.digest)
    await repository.manifests.delete(subject.digest)
    assert await repository.manifests.exists(referrer.digest)


@covers("ManifestService.delete", "ManifestService.put")
async def test_what_was_deleted_can_be_pushed_again(repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"], note="kept")
    await repository.signatures.put(manifest.digest, b"signed")
    await repository.manifests.delete(manifest.digest)
    await repository.manifests.put(manifest)
    assert same(await repository.manifests.get(manifest.digest), manifest)
    assert not await repository.manifests.exists_by_tag("v1")
    assert list(await repository.signatures.get(manifest.digest)) == []


@covers("ManifestService.get_by_tag")
async def test_a_read_by_tag_is_never_a_mixture_of_two_moments(repository: Repository) -> None:
    pushed = [await push_image(repository, b"layer", n=str(number), tags=["v1"]) for number in range(2)]
    moving = True

    async def read() -> int:
        count = 0
        while moving:
            found = await repository.manifests.get_by_tag("v1")
            assert found.digest == Digest.of(found.payload)
            count += 1
        return count

    readers = [asyncio.create_task(read()) for _ in range(2)]
    for turn in range(20):
        await repository.tags.tag("v1", pushed[turn % 2].digest)
    moving = False
    assert all(count > 0 for count in await asyncio.gather(*readers))
