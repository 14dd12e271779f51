"""Which manifests sign which content: by cosign's tags, and by their subject and artifact type."""

from __future__ import annotations

import asyncio

import pytest

from distsql.contract import Namespace, Repository
from distsql.oci.digest import Digest
from tests.contract.covering import covers
from tests.contract.families import descriptor, index, oci_image, push_blobs
from tests.registry.pushing import push_image

NOTATION = "application/vnd.cncf.notary.signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SUBJECT = b"what is signed"
SIGNED = Digest.of(SUBJECT)
TAG = f"sha256-{SIGNED.encoded}.sig"


async def signatures(namespace: Namespace, digest: Digest = SIGNED) -> list[tuple[str, Digest]]:
    found = await namespace.trust.signatures("acme/web", digest)
    assert {each.subject for each in found} <= {digest}
    return sorted((each.kind, each.digest) for each in found)


@covers("Trust.signatures", "ManifestService.put", "TagService.untag")
async def test_a_cosign_tag_signs_while_it_is_live(namespace: Namespace, repository: Repository) -> None:
    first = await push_image(repository, b"layer", tags=[TAG, "v1"], number="first")
    assert await signatures(namespace) == [("cosign", first.digest)]
    # Signing again moves the tag.
    second = await push_image(repository, b"layer", tags=[TAG], number="second")
    assert await signatures(namespace) == [("cosign", second.digest)]
    await repository.manifests.put(second, [TAG])
    assert await signatures(namespace) == [("cosign", second.digest)]
    await repository.tags.untag(TAG)
    assert await signatures(namespace) == []
    await repository.tags.untag("v1")
    await repository.manifests.put(first, [TAG])
    assert await signatures(namespace) == [("cosign", first.digest)]


@covers("Trust.signatures", "TagService.tag")
async def test_tagging_signs_as_pushing_does(namespace: Namespace, repository: Repository) -> None:
    first = await push_image(repository, b"layer", number="first")
    second = await push_image(repository, b"layer", number="second")
    await repository.tags.tag(TAG, first.digest, None)
    assert await signatures(namespace) == [("cosign", first.digest)]
    await repository.tags.tag(TAG, second.digest, first.digest)
    assert await signatures(namespace) == [("cosign", second.digest)]
    await repository.tags.tag(TAG, first.digest)
    assert await signatures(namespace) == [("cosign", first.digest)]


@covers("Trust.signatures", "ManifestService.delete")
async def test_a_deleted_signature_signs_no_more(namespace: Namespace, repository: Repository) -> None:
    """Of what is signed nothing has to be there, before or after."""
    cosign = await push_image(repository, b"layer", tags=[TAG])
    referrer = oci_image(artifactType=NOTATION, subject=descriptor(SUBJECT))
    await push_blobs(repository)
    await repository.manifests.put(referrer)
    assert await signatures(namespace) == [("cosign", cosign.digest), ("referrer", referrer.digest)]
    await repository.manifests.delete(cosign.digest)
    assert await signatures(namespace) == [("referrer", referrer.digest)]
    await repository.manifests.delete(referrer.digest)
    assert await signatures(namespace) == []
    await repository.manifests.put(referrer)
    assert await signatures(namespace) == [("referrer", referrer.digest)]


@covers("Trust.signatures")
async def test_the_subject_may_come_and_go(namespace: Namespace, repository: Repository) -> None:
    subject = oci_image()
    signature = oci_image(artifactType=BUNDLE, subject=descriptor(subject.payload))
    await push_blobs(repository)
    await repository.manifests.put(signature)
    for _ in range(2):
        assert await signatures(namespace, subject.digest) == [("referrer", signature.digest)]
        await repository.manifests.put(subject)
        assert await signatures(namespace, subject.digest) == [("referrer", signature.digest)]
        await repository.manifests.delete(subject.digest)


@covers("Trust.signatures")
@pytest.mark.parametrize(
    ("artifact_type", "signs"),
    [
        (NOTATION, True),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", True),
        (BUNDLE, True),
        ("application/vnd.dev.sigstore.bundle.v1.0+json", True),
        ("application/vnd.dev.sigstore.bundle.v0.3+json2", False),
        ("application/vnd.dev.cosign.artifact.sbom.v1+json", False),
        ("application/vnd.example.signature", False),
        (None, False),
    ],
)
async def test_artifact_types_of_signatures(
    namespace: Namespace, repository: Repository, artifact_type: str | None, signs: bool
) -> None:
    await push_blobs(repository)
    kind = {"artifactType": artifact_type} if artifact_type else {}
    image, other = oci_image(**kind, subject=descriptor(SUBJECT)), oci_image(**kind)
    whole = index(image, **kind, subject=descriptor(SUBJECT))
    for each in (image, other, whole):
        await repository.manifests.put(each)
    found = sorted(("referrer", each.digest) for each in (image, whole))
    assert await signatures(namespace) == (found if signs else [])


@covers("Trust.signatures")
async def test_names_that_are_only_like_cosigns(namespace: Namespace, repository: Repository) -> None:
    hexes = SIGNED.encoded
    likes = [hexes[1:], hexes.upper(), f"{hexes}0", f"{hexes}.att", f"{hexes}.sbom", f"{hexes}.sig.sig", f"{hexes}sig"]
    names = [f"sha256-{like}" if "." in like else f"sha256-{like}.sig" for like in likes]
    await push_image(repository, b"layer", tags=[*names, f"sha512-{hexes}.sig", f"x-{TAG}", TAG.replace("-", "_")])
    assert await signatures(namespace) == []


@covers("Trust.signatures")
async def test_content_in_sha512_is_signed_by_referrers(namespace: Namespace, repository: Repository) -> None:
    """Cosign's tag for it would be 139 characters long, and no tag."""
    digest = Digest.of(SUBJECT, "sha512")
    signature = oci_image(artifactType=BUNDLE, subject={**descriptor(SUBJECT), "digest": str(digest)})
    await push_blobs(repository)
    await repository.manifests.put(signature)
    assert await signatures(namespace, digest) == [("referrer", signature.digest)]
    assert await signatures(namespace) == []


@covers("Trust.signatures")
async def test_one_manifest_may_sign_in_many_ways(namespace: Namespace, repository: Repository) -> None:
    other = Digest.of(b"other")
    signature = oci_image(artifactType=BUNDLE, subject=descriptor(SUBJECT))
    await push_blobs(repository)
    await repository.manifests.put(signature, [TAG, f"sha256-{other.encoded}.sig"])
    assert await signatures(namespace) == [("cosign", signature.digest), ("referrer", signature.digest)]
    assert await signatures(namespace, other) == [("cosign", signature.digest)]
    await repository.tags.untag(TAG)
    assert await signatures(namespace) == [("referrer", signature.digest)]
    assert await signatures(namespace, other) == [("cosign", signature.digest)]


@covers("Trust.signatures", "Repository.remove")
async def test_a_removed_repository_takes_its_signatures_along(namespace: Namespace, repository: Repository) -> None:
    await push_image(repository, b"layer", tags=[TAG])
    await push_image(namespace.repository("acme/other"), b"layer", tags=[TAG])
    await repository.remove()
    await push_image(repository, b"layer")
    assert await signatures(namespace) == []
    assert len(await namespace.trust.signatures("acme/other", SIGNED)) == 1


@covers("Trust.signatures", "TagService.tag", "TagService.untag", "ManifestService.delete")
async def test_what_signs_is_what_the_tag_points_to_in_the_end(
    namespace: Namespace, elsewhere: Namespace, repository: Repository
) -> None:
    there = elsewhere.repository("acme/web")
    for _ in range(4):
        images = [await push_image(repository, b"layer", number=str(number)) for number in range(4)]
        await asyncio.gather(
            *(each.tags.tag(TAG, image.digest) for each, image in zip([repository, there] * 2, images, strict=True)),
            there.tags.untag(TAG),
            repository.manifests.delete(images[3].digest),
            return_exceptions=True,
        )
        live = [("cosign", (await repository.tags.get(name)).digest) async for name in repository.tags.list()]
        assert await signatures(namespace) == live
