from __future__ import annotations

import asyncio

import pytest

from distsql.contract import Namespace, Repository
from distsql.errors import ManifestUnknownError, NameUnknownError
from distsql.oci.digest import Digest
from tests.contract.covering import covers
from tests.registry.pushing import push_blob, push_image

NOWHERE = Digest.of(b"nowhere")


@covers("SignatureService.put", "SignatureService.get")
async def test_signatures_come_back_in_the_order_of_arrival(repository: Repository, elsewhere: Namespace) -> None:
    manifest = await push_image(repository, b"layer")
    there = elsewhere.repository("acme/web").signatures
    assert list(await there.get(manifest.digest)) == []
    await repository.signatures.put(manifest.digest, b"z", b"", b"\0\xff")
    await repository.signatures.put(manifest.digest, b"a")
    await repository.signatures.put(manifest.digest)
    assert list(await there.get(manifest.digest)) == [b"z", b"", b"\0\xff", b"a"]


@covers("SignatureService.put", "SignatureService.get")
async def test_one_that_is_there_is_not_added_again(repository: Repository) -> None:
    manifest = await push_image(repository, b"layer")
    await repository.signatures.put(manifest.digest, b"1", b"2", b"1")
    await repository.signatures.put(manifest.digest, b"3", b"2")
    assert list(await repository.signatures.get(manifest.digest)) == [b"1", b"2", b"3"]


@covers("SignatureService.put")
async def test_signing_doesnt_change_what_is_signed(repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"])
    before = await repository.manifests.get(manifest.digest)
    await repository.signatures.put(manifest.digest, b"signed")
    assert await repository.manifests.get_by_tag("v1") == before


@covers("SignatureService.put")
async def test_only_what_the_repository_has_is_signed(namespace: Namespace, repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.signatures.put(NOWHERE, b"signed")
    assert not await repository.exists()
    other = await push_image(namespace.repository("acme/other"), b"layer")
    blob = await push_blob(repository, b"x")
    for digest in (NOWHERE, other.digest, blob):
        with pytest.raises(ManifestUnknownError):
            await repository.signatures.put(digest, b"signed")


@covers("SignatureService.get")
async def test_what_has_no_signatures(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.signatures.get(NOWHERE)
    await push_blob(repository, b"x")
    assert list(await repository.signatures.get(NOWHERE)) == []


@covers("SignatureService.put", "SignatureService.get")
async def test_many_signers_at_once(repository: Repository, elsewhere: Namespace) -> None:
    manifest = await push_image(repository, b"layer")
    both = [repository, elsewhere.repository("acme/web")] * 5
    signed = [f"signature {number // 2}".encode() for number in range(10)]
    await asyncio.gather(
        *(each.signatures.put(manifest.digest, payload) for each, payload in zip(both, signed, strict=True))
    )
    assert sorted(await repository.signatures.get(manifest.digest)) == sorted(set(signed))
