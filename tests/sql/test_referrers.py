from __future__ import annotations

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql import manifests, referrers, tags
from distsql.sql.referrers import ReferrerRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from tests.registry.pushing import index
from tests.sql.rows import digest, make_manifest, make_repository


async def listed(
    tx: Transaction,
    repository: RepositoryRow,
    subject: Digest,
    *,
    artifact_type: str | None = None,
    after: Digest | None = None,
    limit: int = 100,
) -> list[ReferrerRow]:
    return await referrers.list_referrers(
        tx, RepositoryName("acme", "web", repository.id), subject, artifact_type=artifact_type, after=after, limit=limit
    )


async def test_referrers_are_found_in_any_order_of_pushing(tx: Transaction, repository: RepositoryRow) -> None:
    subject = digest("not pushed")
    referrer = await make_manifest(tx, repository, "about it", subject=subject)
    [row] = await listed(tx, repository, subject)
    assert (row.digest, row.media_type, row.length) == (referrer.digest, referrer.media_type, len(referrer.payload))
    assert row.artifact_type == referrer.artifact_type
    assert row.annotations == {"what": "about it"}


async def test_referrers_come_by_digest_in_pages(tx: Transaction, repository: RepositoryRow) -> None:
    subject = (await make_manifest(tx, repository, "subject")).digest
    made = sorted([(await make_manifest(tx, repository, number, subject=subject)).digest for number in range(7)])
    found: list[Digest] = []
    after = None
    while page := await listed(tx, repository, subject, after=after, limit=3):
        found += [row.digest for row in page]
        after = found[-1]
    assert found == made


async def test_only_those_of_a_type(tx: Transaction, repository: RepositoryRow) -> None:
    subject = digest("subject")
    made = await make_manifest(tx, repository, 1, subject=subject)
    assert len(await listed(tx, repository, subject, artifact_type=made.artifact_type)) == 1
    assert await listed(tx, repository, subject, artifact_type="other/type") == []


async def test_another_repository_s_referrers_are_its_own(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "acme/other")
    await make_manifest(tx, other, 1, subject=digest("subject"))
    assert await listed(tx, repository, digest("subject")) == []


async def test_a_parent_is_no_referrer(tx: Transaction, repository: RepositoryRow) -> None:
    child = await make_manifest(tx, repository, "child")
    manifests.insert_manifests(tx, repository, [(index(child), "ann")])
    assert await listed(tx, repository, child.digest) == []


async def test_those_in_the_index_under_the_fallback_tag(tx: Transaction, repository: RepositoryRow) -> None:
    subject = digest("subject")
    direct = await make_manifest(tx, repository, "direct", subject=subject)
    indexed = await make_manifest(tx, repository, "indexed")
    fallback = index(direct, indexed)
    manifests.insert_manifests(tx, repository, [(fallback, "ann")])
    tags.point_tags(tx, repository, tags.targets([f"sha256-{subject.encoded}"], digest=fallback.digest, actor="ann"))
    assert [row.digest for row in await listed(tx, repository, subject)] == sorted([direct.digest, indexed.digest])


async def test_a_page_has_annotations_for_as_long_as_they_are_small_together(
    tx: Transaction, repository: RepositoryRow
) -> None:
    """Three megabytes, and what is beyond that without; the first one always has its own."""
    subject = digest("subject")
    made = [await make_manifest(tx, repository, f"{number}{'x' * 1_800_000}", subject=subject) for number in range(4)]
    rows = await listed(tx, repository, subject)
    assert [row.digest for row in rows] == sorted(each.digest for each in made)
    assert [(row.beyond, row.annotations is None) for row in rows] == [(False, False)] * 2 + [(True, True)] * 2
    [first, *_] = await listed(tx, repository, subject, after=rows[1].digest)
    assert (first.digest, first.beyond, first.annotations is None) == (rows[2].digest, False, False)
