from __future__ import annotations

from distsql.oci.digest import Digest
from distsql.sql import signatures
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from tests.sql.rows import digest, look, make_digests, make_manifest, make_repository, mark_deleted


def cosign_tag(signed: Digest) -> str:
    return f"sha256-{signed.encoded}.sig"


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
    await mark_deleted(tx, repository, target, actor="ann")
    assert await stored(tx, repository, target) == []


async def related(tx: Transaction, repository: RepositoryRow, target: Digest) -> list[tuple[str, Digest]]:
    found = await signatures.list_signature_relations(tx, repository, target)
    return sorted((row.kind, row.digest) for row in found)


async def test_relations_are_of_every_kind(tx: Transaction, repository: RepositoryRow) -> None:
    target = (await make_manifest(tx, repository, "signed")).digest
    signatures.insert_signatures(tx, repository, target, [b"jws"])
    cosign, notation = await make_digests(tx, repository, ["cosign", "notation"])
    signatures.point_cosign_tags(tx, repository, [cosign_tag(target)], digest=cosign)
    signatures.insert_signing_manifest(tx, repository, notation, subject=target)
    await make_manifest(tx, repository, "only about it", subject=target)
    assert await related(tx, repository, target) == [
        ("cosign", cosign),
        ("jws", Digest.of(b"jws")),
        ("referrer", notation),
    ]
    assert await related(tx, repository, cosign) == []


async def test_a_cosign_tag_leaves_what_it_pointed_to(tx: Transaction, repository: RepositoryRow) -> None:
    one, other = digest("one"), digest("other")
    first, second = await make_digests(tx, repository, [1, 2])
    signatures.point_cosign_tags(tx, repository, [cosign_tag(one), "v1", cosign_tag(other)], digest=first)
    signatures.point_cosign_tags(tx, repository, [cosign_tag(one)], digest=second, moved=True)
    signatures.point_cosign_tags(tx, repository, [cosign_tag(one)], digest=second, moved=True)
    assert await related(tx, repository, one) == [("cosign", second)]
    assert await related(tx, repository, other) == [("cosign", first)]
    signatures.delete_cosign_tags(tx, repository, ["v1", cosign_tag(one)])
    assert await related(tx, repository, one) == []
    assert await related(tx, repository, other) == [("cosign", first)]


async def test_relations_go_with_their_manifest(tx: Transaction, repository: RepositoryRow) -> None:
    one = digest("one")
    [first] = await make_digests(tx, repository, [1])
    signatures.point_cosign_tags(tx, repository, [cosign_tag(one)], digest=first, moved=True)
    signatures.insert_signing_manifest(tx, repository, first, subject=one)
    assert await related(tx, repository, one) == [("cosign", first), ("referrer", first)]
    await mark_deleted(tx, repository, first, actor="ann")
    assert await related(tx, repository, one) == []


async def test_other_tags_cost_no_statement(tx: Transaction, repository: RepositoryRow) -> None:
    await look(tx, "select 1")
    signatures.point_cosign_tags(tx, repository, ["latest", "sha256-1.sig"], digest=digest("x"))
    signatures.delete_cosign_tags(tx, repository, ["latest"])
    assert tx._pending == []
