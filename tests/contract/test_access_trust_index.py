"""The facilities of a namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from distsql.contract import Namespace, Repository
from distsql.errors import NameInvalidError, NameUnknownError
from distsql.oci.digest import Digest
from distsql.values import Action
from tests.contract.conftest import PAGE
from tests.contract.covering import covers
from tests.contract.families import descriptor, oci_image, push_blobs
from tests.registry.pushing import push_blob, push_image

NAMES = ["a-b/x", "a.b/x", "a/y", "a/y-z", "a/y/z", "a/y0", "a0/x", "library/x", "other/web"]
NOWHERE = Digest.of(b"nowhere")


@covers("Namespace.access", "Access.allows")
async def test_nothing_is_allowed_outside_the_scope(namespace: Namespace, scoped: Callable[[str], Namespace]) -> None:
    for action in Action:
        assert await namespace.access.allows("acme/web", action)
        assert await namespace.access.allows("web", action)
        assert await scoped("acme").access.allows("acme/web", action)
        for name in ("other/web", "web", "acme-x/web", "A/b", "", "acme/\0"):
            assert not await scoped("acme").access.allows(name, action)
        assert not await namespace.access.allows("A/b", action)


@covers("Namespace.trust", "Trust.signatures")
async def test_signatures_of_every_kind_have_one_shape(namespace: Namespace, repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"])
    signature = await push_image(repository, b"sig", tags=[f"sha256-{manifest.digest.encoded}.sig"])
    await push_blobs(repository)
    referrer = oci_image(
        artifactType="application/vnd.dev.cosign.artifact.sig.v1+json",
        subject=descriptor(manifest.payload, manifest.media_type),
    )
    await repository.manifests.put(referrer)
    await repository.manifests.put(oci_image(subject=descriptor(manifest.payload, manifest.media_type)))
    await repository.signatures.put(manifest.digest, b"a JWS")
    found = await namespace.trust.signatures("acme/web", manifest.digest)
    assert {each.subject for each in found} == {manifest.digest}
    assert sorted((each.kind, each.digest) for each in found) == [
        ("cosign", signature.digest),
        ("jws", Digest.of(b"a JWS")),
        ("referrer", referrer.digest),
    ]


@covers("Trust.signatures")
async def test_what_isnt_signed_has_no_signatures(namespace: Namespace, repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await push_image(namespace.repository("acme/other"), b"layer")
    await namespace.repository("acme/other").signatures.put(manifest.digest, b"there")
    for name, digest in (("acme/web", manifest.digest), ("acme/web", NOWHERE), ("acme/nowhere", NOWHERE)):
        assert list(await namespace.trust.signatures(name, digest)) == []


@covers("Trust.signatures")
async def test_trust_knows_the_names_of_the_scope(scoped: Callable[[str], Namespace]) -> None:
    with pytest.raises(NameUnknownError):
        await scoped("acme").trust.signatures("other/web", NOWHERE)
    with pytest.raises(NameInvalidError):
        await scoped("acme").trust.signatures("A/b", NOWHERE)


async def listed(names: AsyncIterator[str]) -> list[str]:
    return [name async for name in names]


@covers("Namespace.index", "Index.holders")
async def test_holders_of_a_blob_come_in_byte_order(namespace: Namespace, scoped: Callable[[str], Namespace]) -> None:
    assert sorted(NAMES) == NAMES
    assert len(NAMES) > PAGE
    for name in reversed(NAMES):
        await push_blob(namespace.repository(name), b"blob")
    await push_blob(namespace.repository("a/without"), b"another")
    digest = Digest.of(b"blob")
    assert await listed(namespace.index.holders(digest)) == NAMES
    for after in [*NAMES, "a", "a/", "a/y/", "b", "é", "a\0"]:
        expected = [name for name in NAMES if name.encode() > after.encode()]
        assert await listed(namespace.index.holders(digest, after=after)) == expected, after
    assert await listed(scoped("a").index.holders(digest)) == NAMES[2:6]
    assert await listed(scoped("a").index.holders(digest, after="a/y")) == NAMES[3:6]
    assert await listed(scoped("nobody").index.holders(digest)) == []
    assert await listed(namespace.index.holders(NOWHERE)) == []


@covers("Index.holders")
async def test_holders_of_a_manifest(namespace: Namespace) -> None:
    for name in ("acme/web", "other/web"):
        manifest = await push_image(namespace.repository(name), b"layer")
    digest = manifest.digest
    assert await listed(namespace.index.holders(digest)) == ["acme/web", "other/web"]
    await namespace.repository("acme/web").manifests.delete(digest)
    assert await listed(namespace.index.holders(digest)) == ["other/web"]
    first, second = namespace.index.holders(Digest.of(b"layer")), namespace.index.holders(Digest.of(b"layer"))
    assert [(name, await anext(second)) async for name in first] == [(name, name) for name in ("acme/web", "other/web")]
