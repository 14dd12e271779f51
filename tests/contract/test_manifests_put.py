from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from distsql.contract import Manifest, Namespace, Repository
from distsql.errors import (
    DigestInvalidError,
    ManifestInvalidError,
    ManifestReferencesUnknownError,
    ManifestUnverifiedError,
    NameInvalidError,
    ReferenceInvalidError,
    TooManyTagsError,
)
from distsql.oci.digest import Digest
from distsql.oci.manifest import DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, OCI_IMAGE
from tests.contract.covering import covers
from tests.contract.families import (
    LAYERS,
    descriptor,
    docker_image,
    index,
    oci_image,
    plain,
    push_blobs,
    schema1,
    schema1_signed,
)
from tests.libtrust import p256, pretty, rsa_key
from tests.registry.pushing import CONFIG, push_blob, push_image

ANYWHERE = {"name": "", "tag": ""}


async def tags_of(repository: Repository) -> dict[str, Digest]:
    return {tag: (await repository.tags.get(tag)).digest async for tag in repository.tags.list()}


async def refused_whole(
    namespace: Namespace, manifest: Manifest, error: type[Exception], tags: Sequence[str] = ("ok",)
) -> None:
    """The put raises the error and changes nothing, in a repository that exists and in one that doesn't."""
    old = namespace.repository("acme/web")
    await push_blobs(old)
    for repository in (old, namespace.repository("acme/new")):
        with pytest.raises(error):
            await repository.manifests.put(manifest, tags)
        assert not await repository.manifests.exists(manifest.digest)
    assert [tag async for tag in old.tags.list()] == []
    assert [name async for name in namespace.repositories()] == ["acme/web"]


@covers("ManifestService.put")
async def test_all_tags_come_with_the_manifest(repository: Repository) -> None:
    await push_blobs(repository)
    manifest = oci_image()
    await repository.manifests.put(manifest, ["v1", "latest", "v1", "V1"])
    assert await tags_of(repository) == dict.fromkeys(["V1", "latest", "v1"], manifest.digest)


@covers("ManifestService.put")
async def test_putting_again_changes_nothing_but_the_tags(repository: Repository) -> None:
    await push_blobs(repository)
    manifest = oci_image()
    await repository.manifests.put(manifest, ["v1"])
    assert await repository.manifests.put(manifest, ["v1"]) == manifest.digest
    await repository.manifests.put(manifest, ["v2"])
    await repository.manifests.put(manifest)
    assert await tags_of(repository) == dict.fromkeys(["v1", "v2"], manifest.digest)
    assert len([move async for move in repository.tags.history("v1")]) == 1
    assert len([each async for each in repository.manifests.all()]) == 1


@covers("ManifestService.put")
async def test_the_media_type_of_the_first_push_stays(repository: Repository) -> None:
    payload = b'{"what": "ever"}'
    await repository.manifests.put(plain(payload, "application/vnd.example.a+json"))
    await repository.manifests.put(plain(payload, "application/vnd.example.b+json"), ["v1"])
    assert (await repository.manifests.get_by_tag("v1")).media_type == "application/vnd.example.a+json"


@covers("ManifestService.put")
async def test_a_tag_moves_with_a_put(repository: Repository) -> None:
    await push_blobs(repository)
    first, second = oci_image(), oci_image(annotations={"second": "yes"})
    await repository.manifests.put(first, ["v1", "stays"])
    await repository.manifests.put(second, ["v1"])
    assert await tags_of(repository) == {"stays": first.digest, "v1": second.digest}
    assert await repository.manifests.exists(first.digest)


@covers("ManifestService.put")
async def test_everything_that_is_missing_is_told_at_once(repository: Repository) -> None:
    await push_blob(repository, LAYERS[0])
    with pytest.raises(ManifestReferencesUnknownError) as refusal:
        await repository.manifests.put(oci_image(), ["v1"])
    assert refusal.value.detail == [
        {"digest": str(Digest.of(CONFIG)), "role": "config"},
        {"digest": str(Digest.of(LAYERS[1])), "role": "layer"},
    ]
    absent = index(oci_image(), docker_image())
    with pytest.raises(ManifestReferencesUnknownError) as refusal:
        await repository.manifests.put(absent)
    assert refusal.value.detail == [{"digest": str(each.digest), "role": "manifest"} for each in absent.references()]
    assert not await repository.manifests.exists_by_tag("v1")


@covers("ManifestService.put")
async def test_references_of_another_repository_dont_count(namespace: Namespace, repository: Repository) -> None:
    await push_blobs(namespace.repository("acme/other"))
    await push_blobs(namespace.repository("other/web"))
    with pytest.raises(ManifestReferencesUnknownError):
        await repository.manifests.put(oci_image())
    assert not await repository.exists()


@covers("ManifestService.put")
async def test_non_distributable_layers_may_be_absent(repository: Repository) -> None:
    await push_blobs(repository)
    manifest = docker_image()
    assert len(manifest.references()) == 4
    await repository.manifests.put(manifest)
    assert list((await repository.manifests.get(manifest.digest)).references()) == list(manifest.references())


@covers("ManifestService.put")
async def test_the_subject_may_be_absent(repository: Repository) -> None:
    await push_blobs(repository)
    manifest = oci_image(subject=descriptor(b"absent", OCI_IMAGE))
    await repository.manifests.put(manifest)
    assert await repository.manifests.exists(manifest.digest)


@covers("ManifestService.put")
async def test_a_manifest_that_needs_nothing_makes_its_repository(repository: Repository) -> None:
    await repository.manifests.put(plain(b"{}", "application/vnd.example+json"), ["v1"])
    assert await repository.manifests.exists_by_tag("v1")


@covers("ManifestService.put")
async def test_a_malformed_tag_is_refused_with_all_the_rest(namespace: Namespace) -> None:
    for tag in ("", "-v", ".v", "a b", "a/b", "a:b", "v" * 129, "v\n", "v\0"):
        await refused_whole(namespace, oci_image(), ReferenceInvalidError, ["ok", tag])


@covers("ManifestService.put")
async def test_too_many_tags_are_refused_with_all_the_rest(namespace: Namespace) -> None:
    await refused_whole(namespace, oci_image(), TooManyTagsError, [f"v{number}" for number in range(101)])


@covers("ManifestService.put")
async def test_a_hundred_tags_are_not_too_many(repository: Repository) -> None:
    await push_blobs(repository)
    names = [f"v{number}" for number in range(100)]
    await repository.manifests.put(oci_image(), names + names)
    assert list(await tags_of(repository)) == sorted(names)


@covers("ManifestService.put")
async def test_a_signed_manifest_needs_its_signatures(namespace: Namespace) -> None:
    await refused_whole(namespace, plain(schema1().payload, DOCKER_SCHEMA1_SIGNED), ManifestUnverifiedError)


@covers("ManifestService.put")
async def test_what_is_no_manifest_is_refused(namespace: Namespace) -> None:
    for payload in (b"", b"{", b"[]", b'{"schemaVersion": 2}', b"\xff"):
        await refused_whole(namespace, plain(payload, OCI_IMAGE), ManifestInvalidError)


@covers("ManifestService.put")
async def test_another_contents_digest_is_refused(namespace: Namespace) -> None:
    await refused_whole(namespace, plain(oci_image().payload, OCI_IMAGE, Digest.of(b"other")), DigestInvalidError)


@covers("ManifestService.put", "SignatureService.get")
async def test_signatures_that_come_with_a_manifest_are_added(repository: Repository) -> None:
    await push_blobs(repository)
    bare = schema1()
    by_ann, by_bob = p256("ann").block(bare.payload), rsa_key().block(bare.payload)
    ann, both = schema1_signed(by_ann), schema1_signed(by_ann, by_bob)
    assert ann.digest == both.digest == bare.digest
    await repository.manifests.put(ann, ["v1"])
    assert list(await repository.signatures.get(ann.digest)) == list(ann.signatures)
    await repository.manifests.put(both)
    assert list(await repository.signatures.get(ann.digest)) == list(both.signatures)
    # What is served under a digest doesn't change with who signs it too.
    assert (await repository.manifests.get_by_tag("v1")).payload == ann.payload
    await repository.manifests.put(bare)
    assert (await repository.manifests.get(bare.digest)).payload == ann.payload


@covers("ManifestService.put", "SignatureService.get")
async def test_what_was_put_bare_is_served_signed_once_it_is_signed(repository: Repository) -> None:
    await push_blobs(repository)
    bare, ann = schema1(), schema1_signed()
    bob = schema1_signed(p256("bob").block(bare.payload))
    await repository.manifests.put(bare, ["v1"])
    assert list(await repository.signatures.get(bare.digest)) == []
    for each in (ann, bob):
        await repository.manifests.put(each)
        found = await repository.manifests.get_by_tag("v1")
        assert (found.media_type, found.payload, found.digest) == (ann.media_type, ann.payload, bare.digest)
    assert list(await repository.signatures.get(bare.digest)) == [*ann.signatures, *bob.signatures]


@covers("ManifestService.put", "SignatureService.get")
async def test_many_signers_at_once(repository: Repository, elsewhere: Namespace) -> None:
    await push_blobs(repository)
    bare = schema1()
    signed = [schema1_signed(p256(f"signer {number}").block(bare.payload)) for number in range(6)]
    there = elsewhere.repository("acme/web")
    await asyncio.gather(
        *(each.manifests.put(manifest, ["v1"]) for each, manifest in zip([repository, there] * 3, signed, strict=True)),
        there.manifests.put(bare, ["v1"]),
    )
    kept = await repository.signatures.get(bare.digest)
    assert sorted(kept) == sorted(each.signatures[0] for each in signed)
    served = await repository.manifests.get_by_tag("v1")
    assert served.payload in {each.payload for each in signed}
    assert (await there.manifests.get(bare.digest)).payload == served.payload


@covers("ManifestService.put")
async def test_signatures_that_are_not_true_are_refused(namespace: Namespace) -> None:
    canonical = schema1(**ANYWHERE).payload
    good, ann = p256("bob").block(canonical), p256("ann")
    other = ann.block(canonical.replace(b"amd64", b"arm64"))
    for wrong in (
        {**ann.block(canonical), "signature": good["signature"]},
        {**ann.block(canonical), "header": good["header"]},
        ann.claiming(kid=p256("bob").kid).block(canonical),
        {"signature": good["signature"], "protected": good["protected"]},
        other,
        ann.block(canonical.replace(b"amd64", b"i386")),
    ):
        for blocks in ([wrong], [good, wrong]):
            payload = pretty(canonical, *blocks)
            manifest = plain(payload, DOCKER_SCHEMA1_SIGNED, Digest.of(canonical))
            await refused_whole(namespace, manifest, ManifestUnverifiedError)
            # A media type that promises no signatures is no way around.
            manifest = plain(payload, DOCKER_SCHEMA1, Digest.of(canonical))
            await refused_whole(namespace, manifest, ManifestUnverifiedError)


@covers("ManifestService.put")
async def test_a_schema_1_manifest_goes_where_it_says(namespace: Namespace, repository: Repository) -> None:
    for name in ("acme/other", "other/web", "web", "A/b", "acme/web/"):
        await refused_whole(namespace, schema1_signed(name=name), NameInvalidError, ["v1"])
    await refused_whole(namespace, schema1_signed(name="", tag="v2"), ReferenceInvalidError, ["v1"])
    await refused_whole(namespace, schema1(name="", tag="v1"), ReferenceInvalidError, ["v1", "v2"])
    await repository.manifests.put(schema1_signed(tag="v2"))  # by its digest
    for silent in (schema1(**ANYWHERE), schema1(name=None, tag=None)):
        await repository.manifests.put(silent, ["v1", "v2"])
    short = namespace.repository("web")
    await push_blobs(short)
    for name in ("web", "library/web"):
        await short.manifests.put(schema1_signed(name=name), ["v1"])


@covers("ManifestService.put")
async def test_many_puts_of_the_same_manifest_at_once(repository: Repository, elsewhere: Namespace) -> None:
    await push_blobs(repository)
    manifest = oci_image()
    there = elsewhere.repository("acme/web")
    put = [each.manifests.put(manifest, [f"v{number % 3}"]) for number, each in enumerate([repository, there] * 6)]
    assert set(await asyncio.gather(*put)) == {manifest.digest}
    assert await tags_of(repository) == dict.fromkeys(["v0", "v1", "v2"], manifest.digest)
    for tag in ("v0", "v1", "v2"):
        assert len([move async for move in repository.tags.history(tag)]) == 1


@covers("ManifestService.put", "ManifestService.delete")
async def test_of_an_index_and_the_deletion_of_its_child_one_wins(namespace: Namespace, elsewhere: Namespace) -> None:
    repository, there = namespace.repository("acme/web"), elsewhere.repository("acme/web").manifests
    for _ in range(8):
        child = await push_image(repository, b"layer")
        parent = index(child)
        put, deleted = await asyncio.gather(
            repository.manifests.put(parent), there.delete(child.digest), return_exceptions=True
        )
        assert isinstance(put, Exception) != isinstance(deleted, Exception), (put, deleted)
        assert await there.exists(child.digest) == await there.exists(parent.digest)
        if not isinstance(put, Exception):
            await there.delete(parent.digest)
