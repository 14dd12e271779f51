from __future__ import annotations

from distsql.oci.digest import Digest
from distsql.sql import manifests, signatures, tags
from distsql.sql.database import Transaction
from distsql.sql.repositories import RepositoryRow
from tests.sql.rows import digest, look, make_manifest, make_repository

NOTATION = "application/vnd.cncf.notary.signature"


async def stored(tx: Transaction, repository: RepositoryRow, target: Digest) -> list[bytes]:
    return [row.payload for row in await signatures.list_signatures(tx, repository, target)]


async def test_signatures_come_in_the_order_of_their_arrival(tx: Transaction, repository: RepositoryRow) -> None:
    target = (await make_manifest(tx, repository)).digest
    signatures.insert_signatures(tx, repository, target, [b"z", b"a"])
    signatures.insert_signatures(tx, repository, target, [b"m"])
    assert await stored(tx, repository, target) == [b"z", b"a", b"m"]


async def test_a_signature_that_is_there_is_not_added_again(tx: Transaction, repository: RepositoryRow) -> None:
    target = (await make_manifest(tx, repository)).digest
    signatures.insert_signatures(tx, repository, target, [b"one", b"one"])
    signatures.insert_signatures(tx, repository, target, [b"two", b"one"])
    assert await stored(tx, repository, target) == [b"one", b"two"]


async def test_signatures_are_of_one_manifest_in_one_repository(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "acme/other")
    target = (await make_manifest(tx, repository)).digest
    await make_manifest(tx, other)
    signatures.insert_signatures(tx, repository, target, [b"here"])
    assert await stored(tx, other, target) == []
    assert await stored(tx, repository, digest("nothing")) == []


async def test_signatures_go_with_their_manifest(tx: Transaction, repository: RepositoryRow) -> None:
    target = (await make_manifest(tx, repository)).digest
    signatures.insert_signatures(tx, repository, target, [b"one"])
    manifests.delete_manifest(tx, repository, target)
    assert await stored(tx, repository, target) == []


async def test_relations_are_of_every_kind(tx: Transaction, repository: RepositoryRow) -> None:
    target = (await make_manifest(tx, repository, "signed")).digest
    signatures.insert_signatures(tx, repository, target, [b"jws"])
    cosign = (await make_manifest(tx, repository, "cosign")).digest
    tags.point_tags(tx, repository, [f"sha256-{target.encoded}.sig"], digest=cosign, actor="ann")
    notation = (await make_manifest(tx, repository, "notation", subject=target)).digest
    await make_manifest(tx, repository, "only about it", subject=target)
    await look(
        tx,
        "update manifests set artifact_type = %(type)s where digest = %(digest)s returning 1",
        type=NOTATION,
        digest=notation,
    )
    found = await signatures.list_signature_relations(tx, repository, target)
    assert sorted((row.kind, row.digest) for row in found) == [
        ("cosign", cosign),
        ("jws", Digest.of(b"jws")),
        ("referrer", notation),
    ]
    assert await signatures.list_signature_relations(tx, repository, cosign) == []
