from __future__ import annotations

from datetime import timedelta

from distsql.oci.digest import Digest
from distsql.oci.manifest import parse
from distsql.oci.names import RepositoryName
from distsql.sql import manifest_deletions, manifest_marks, manifests, tags
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from tests.registry.pushing import image, index
from tests.sql.rows import digest, look, make_layer, make_manifest, make_repository, mark_deleted

HERE = RepositoryName("acme", "web")
HOUR = timedelta(hours=1)


async def test_a_manifest_is_served_as_it_was_pushed(tx: Transaction, repository: RepositoryRow) -> None:
    manifest = await make_manifest(tx, repository)
    tags.point_tags(tx, repository, tags.targets(["latest"], digest=manifest.digest, actor="ann"))
    row = (manifest.digest, manifest.media_type, manifest.payload)
    assert await manifests.find_manifest(tx, HERE, manifest.digest, fresh=HOUR) == (*row, False)
    assert await manifests.find_tagged_manifest(tx, HERE, "latest") == row


async def test_only_what_the_repository_has_is_found(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "acme/other")
    manifest = await make_manifest(tx, other)
    tags.point_tags(tx, other, tags.targets(["latest"], digest=manifest.digest, actor="ann"))
    assert await manifests.find_manifest(tx, HERE, manifest.digest, fresh=HOUR) is None
    assert await manifests.find_tagged_manifest(tx, HERE, "latest") is None


async def test_an_ended_tag_finds_nothing(tx: Transaction, repository: RepositoryRow) -> None:
    manifest = await make_manifest(tx, repository)
    tags.point_tags(tx, repository, tags.targets(["latest"], digest=manifest.digest, actor="ann"))
    await tags.end_tag(tx, repository, "latest", actor="ann")
    assert await manifests.find_tagged_manifest(tx, HERE, "latest") is None


async def test_everything_a_manifest_says_is_in_rows(tx: Transaction, repository: RepositoryRow) -> None:
    about = digest("something")
    manifest = image(b"one", b"two", b"one", subject=about, title="a 'quoted' \\ title", empty="")
    manifests.insert_manifests(tx, repository, [(manifest, "ann")])
    rows = await look(tx, "select position, role, digest, length, required from descriptors order by position")
    expected = [
        (at, part.role.value, part.descriptor.digest.packed, part.descriptor.length, True)
        for at, part in enumerate(manifest.parts)
    ]
    assert rows == [*expected, (4, "subject", about.packed, 2, False)]
    annotations = await look(tx, "select key, value from annotations order by key")
    assert annotations == [("empty", ""), ("title", "a 'quoted' \\ title")]
    [(subject, config, actor)] = await look(tx, "select subject_digest, config_media_type, pushed_by from manifests")
    assert (subject, config, actor) == (about.packed, "application/vnd.oci.image.config.v1+json", "ann")


async def test_an_index_without_children(tx: Transaction, repository: RepositoryRow) -> None:
    empty = index()
    manifests.insert_manifests(tx, repository, [(empty, "ann")])
    assert await manifests.find_manifest(tx, HERE, empty.digest, fresh=HOUR) is not None
    assert await look(tx, "select 1 from descriptors") == []


async def test_lock_references_finds_exactly_what_is_there(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "acme/other")
    layers = {await make_layer(tx, repository, number) for number in range(3)}
    held = {(await make_manifest(tx, repository, number)).digest for number in range(3)}
    elsewhere = await make_layer(tx, other, "elsewhere")
    absent = {digest("absent"), elsewhere}

    async def found(manifest_digests: set[Digest], blob_digests: set[Digest]) -> set[Digest]:
        return await manifests.lock_references(tx, repository, manifests=manifest_digests, blobs=blob_digests)

    assert await found(held | absent, layers | absent) == held | layers
    assert await found(set(), layers) == layers
    assert await found(held, set()) == held
    assert await found(set(), set()) == set()
    assert await found(layers, held) == set()


async def test_lock_references_of_a_large_manifest(tx: Transaction, repository: RepositoryRow) -> None:
    wanted = {digest(number) for number in range(5000)}
    held = {await make_layer(tx, repository, number) for number in range(0, 5000, 500)}
    assert await manifests.lock_references(tx, repository, manifests=wanted, blobs=wanted) == held


async def test_manifests_are_listed_by_digest(tx: Transaction, repository: RepositoryRow) -> None:
    made = sorted([(await make_manifest(tx, repository, number)).digest for number in range(7)])
    listed: list[Digest] = []
    after = None
    while page := await manifests.list_manifests(tx, repository, after=after, limit=3):
        listed += [row.digest for row in page]
        after = listed[-1]
    assert listed == made


async def test_a_subject_is_no_parent(tx: Transaction, repository: RepositoryRow) -> None:
    child = await make_manifest(tx, repository, "child")
    assert await manifests.find_parent(tx, repository, child.digest) is None
    await make_manifest(tx, repository, "signature", subject=child.digest)
    assert await manifests.find_parent(tx, repository, child.digest) is None
    parent = index(child)
    manifests.insert_manifests(tx, repository, [(parent, "ann")])
    assert await manifests.find_parent(tx, repository, child.digest) == parent.digest
    other = await make_repository(tx, "acme/other")
    assert await manifests.find_parent(tx, other, child.digest) is None


async def test_a_deleted_manifest_is_there_for_nobody(tx: Transaction, repository: RepositoryRow) -> None:
    gone = await make_manifest(tx, repository, "gone")
    kept = await make_manifest(tx, repository, "kept")
    await delete_manifest(tx, repository, gone.digest)
    assert await manifest_marks.lock_manifest(tx, repository, gone.digest) is None
    assert await manifests.find_manifest(tx, HERE, gone.digest, fresh=HOUR) is None
    found = await manifests.list_manifests(tx, repository, after=None, limit=10)
    assert [row.digest for row in found] == [kept.digest]
    both = {gone.digest, kept.digest}
    assert await manifests.lock_references(tx, repository, manifests=both, blobs=()) == {kept.digest}
    assert set(await look(tx, "select manifest_digest from descriptors")) == {(kept.digest.packed,)}
    assert await look(tx, "select deleted_by from manifests order by deleted_at nulls last") == [("ann",), (None,)]


async def test_a_deleted_manifest_is_pushed_again_as_a_new_one(tx: Transaction, repository: RepositoryRow) -> None:
    manifest = await make_manifest(tx, repository)
    before = await look(tx, "select * from descriptors order by position")
    await delete_manifest(tx, repository, manifest.digest)
    manifests.insert_manifests(tx, repository, [(manifest, "bob")])
    assert await manifests.find_manifest(tx, HERE, manifest.digest, fresh=HOUR) is not None
    assert await look(tx, "select pushed_by, deleted_at, deleted_by from manifests") == [("bob", None, None)]
    assert await look(tx, "select * from descriptors order by position") == before


async def delete_manifest(tx: Transaction, repository: RepositoryRow, target: Digest) -> None:
    assert await mark_deleted(tx, repository, target, actor="ann") == []
    manifest_deletions.delete_references(tx, repository, target)


async def test_digests_of_sha512(tx: Transaction, repository: RepositoryRow) -> None:
    payload = image(b"layer").payload
    manifest = parse(payload, digest=Digest.of(payload, "sha512"))
    manifests.insert_manifests(tx, repository, [(manifest, "ann")])
    row = await manifests.find_manifest(tx, HERE, manifest.digest, fresh=HOUR)
    assert row is not None
    assert row.digest.algorithm == "sha512"
