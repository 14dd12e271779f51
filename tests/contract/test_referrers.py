from __future__ import annotations

from collections.abc import AsyncIterator

from distsql.contract import Namespace, Repository
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_IMAGE, OCI_INDEX, ParsedManifest
from tests.contract.conftest import PAGE
from tests.contract.covering import covers
from tests.contract.families import descriptor, index, oci_image, push_blobs

SUBJECT = b"what they speak of"


def referrer(number: int, artifact_type: str = "application/vnd.example.sbom") -> ParsedManifest:
    return oci_image(
        artifactType=artifact_type,
        subject=descriptor(SUBJECT, OCI_IMAGE),
        annotations={"number": str(number), "ü": "\U0001f600"},
    )


async def push_referrers(repository: Repository, count: int) -> list[ParsedManifest]:
    """In the order of their digests."""
    await push_blobs(repository)
    pushed = [
        referrer(number, f"application/vnd.example.{'even' if number % 2 == 0 else 'odd'}") for number in range(count)
    ]
    for each in pushed:
        await repository.manifests.put(each)
    return sorted(pushed, key=lambda each: each.digest)


async def digests(found: AsyncIterator[Descriptor]) -> list[Digest]:
    return [each.digest async for each in found]


@covers("ManifestService.referrers")
async def test_they_are_found_whether_or_not_the_subject_exists(repository: Repository) -> None:
    await push_blobs(repository)
    subject = oci_image()
    about = oci_image(subject={"mediaType": OCI_IMAGE, "digest": str(subject.digest), "size": len(subject.payload)})
    await repository.manifests.put(about)
    assert await digests(repository.manifests.referrers(subject.digest)) == [about.digest]
    await repository.manifests.put(subject)
    assert await digests(repository.manifests.referrers(subject.digest)) == [about.digest]
    await repository.manifests.delete(subject.digest)
    assert await digests(repository.manifests.referrers(subject.digest)) == [about.digest]
    await repository.manifests.delete(about.digest)
    assert await digests(repository.manifests.referrers(subject.digest)) == []


@covers("ManifestService.referrers")
async def test_each_says_what_it_is(repository: Repository) -> None:
    await push_blobs(repository)
    sbom = referrer(1)
    await repository.manifests.put(sbom)
    plain = oci_image(subject=descriptor(SUBJECT, OCI_IMAGE))
    await repository.manifests.put(plain)
    of_index = index(sbom, subject=descriptor(SUBJECT, OCI_IMAGE), artifactType="application/vnd.example.set")
    await repository.manifests.put(of_index)
    found = {each.digest: each async for each in repository.manifests.referrers(Digest.of(SUBJECT))}
    assert len(found) == 3
    for pushed in (sbom, plain, of_index):
        each = found[pushed.digest]
        assert (each.media_type, each.length) == (pushed.media_type, len(pushed.payload))
        assert (each.artifact_type, dict(each.annotations)) == (pushed.artifact_type, dict(pushed.annotations))
    assert found[sbom.digest].annotations == {"number": "1", "ü": "\U0001f600"}
    assert found[plain.digest].artifact_type == "application/vnd.oci.image.config.v1+json"
    assert found[of_index.digest].media_type == OCI_INDEX


@covers("ManifestService.referrers")
async def test_pages_filters_and_limits(repository: Repository, elsewhere: Namespace) -> None:
    pushed = await push_referrers(repository, 2 * PAGE + 2)
    manifests = elsewhere.repository("acme/web").manifests
    expected = [each.digest for each in pushed]
    even = [each.digest for each in pushed if each.artifact_type == "application/vnd.example.even"]
    subject = Digest.of(SUBJECT)
    assert await digests(manifests.referrers(subject)) == expected
    assert await digests(manifests.referrers(subject, limit=3)) == expected[:3]
    assert await digests(manifests.referrers(subject, after=expected[2], limit=PAGE + 1)) == expected[3 : PAGE + 4]
    assert await digests(manifests.referrers(subject, artifact_type="application/vnd.example.even")) == even
    assert (
        await digests(
            manifests.referrers(subject, artifact_type="application/vnd.example.even", after=even[1], limit=2)
        )
        == even[2:4]
    )
    assert await digests(manifests.referrers(subject, artifact_type="application/vnd.example.other")) == []
    assert await digests(manifests.referrers(subject, limit=0)) == []


@covers("ManifestService.referrers")
async def test_listings_are_re_entrant(repository: Repository) -> None:
    pushed = await push_referrers(repository, 2 * PAGE + 1)
    subject = Digest.of(SUBJECT)
    first, second = repository.manifests.referrers(subject), repository.manifests.referrers(subject)
    pairs = [(one.digest, (await anext(second)).digest) async for one in first]
    assert pairs == [(each.digest, each.digest) for each in pushed]


@covers("ManifestService.referrers")
async def test_they_are_their_repositorys_own(namespace: Namespace, repository: Repository) -> None:
    await push_referrers(repository, 1)
    await push_blobs(namespace.repository("acme/other"))
    for name in ("acme/other", "acme/nowhere", "other/web"):
        assert await digests(namespace.repository(name).manifests.referrers(Digest.of(SUBJECT))) == []


@covers("ManifestService.referrers")
async def test_a_reference_alone_is_no_referrer(repository: Repository) -> None:
    await push_blobs(repository)
    child = oci_image()
    await repository.manifests.put(child)
    await repository.manifests.put(index(child))
    assert await digests(repository.manifests.referrers(child.digest)) == []
