from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql import uploads
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.uploads import Uploader, UploadRow
from tests.sql.rows import make_repository

HERE = RepositoryName("acme", "web")
HOUR = timedelta(hours=1)


async def make_upload(
    tx: Transaction, repository: RepositoryRow, *, uuid: UUID | None = None, lifetime: timedelta = HOUR
) -> UploadRow:
    return await uploads.insert_upload(
        tx,
        repository,
        uuid or uuid4(),
        algorithm="sha256",
        store_key="staged/1",
        store_state={"parts": [1, 2], "note": "é"},
        uploader=Uploader("ann", None),
        lifetime=lifetime,
    )


async def advance(tx: Transaction, upload: UploadRow, offset: int, *, digest: Digest | None = None) -> int | None:
    return await uploads.advance_upload(
        tx,
        upload,
        offset_bytes=offset,
        store_key="staged/2",
        store_state={"parts": [3]},
        digest=digest,
        lifetime=2 * HOUR,
    )


async def test_a_session_is_found_whole(tx: Transaction, repository: RepositoryRow) -> None:
    made = await make_upload(tx, repository)
    assert made.store_state == {"parts": [1, 2], "note": "é"}
    assert (made.offset_bytes, made.version) == (0, 0)
    assert made.expires_at - made.started_at == HOUR
    assert await uploads.find_upload(tx, HERE, made.uuid) == made


async def test_a_session_is_its_repository_s_only(tx: Transaction, repository: RepositoryRow) -> None:
    made = await make_upload(tx, repository)
    await make_repository(tx, "acme/other")
    await make_repository(tx, "other/web")
    for tenant, path in (("acme", "other"), ("other", "web"), ("acme", "nothing")):
        assert await uploads.find_upload(tx, RepositoryName(tenant, path), made.uuid) is None


async def test_an_expired_session_is_not_found(tx: Transaction, repository: RepositoryRow) -> None:
    made = await make_upload(tx, repository, lifetime=timedelta(0))
    assert await uploads.find_upload(tx, HERE, made.uuid) is None


async def test_of_two_writers_the_second_finds_another_version(tx: Transaction, repository: RepositoryRow) -> None:
    made = await make_upload(tx, repository)
    assert await advance(tx, made, 10) == 1
    assert await advance(tx, made, 20) is None
    found = await uploads.find_upload(tx, HERE, made.uuid)
    assert found is not None
    assert (found.offset_bytes, found.version, found.store_key, found.store_state) == (
        10,
        1,
        "staged/2",
        {"parts": [3]},
    )
    assert found.expires_at - found.started_at == 2 * HOUR
    assert await advance(tx, found, 30) == 2


async def test_only_the_last_writer_ends_a_session(tx: Transaction, repository: RepositoryRow) -> None:
    made = await make_upload(tx, repository)
    version = await advance(tx, made, 10)
    assert version is not None
    assert not await uploads.delete_upload(tx, made)
    assert await uploads.delete_upload(tx, made._replace(version=version))
    assert not await uploads.delete_upload(tx, made._replace(version=version))


async def test_a_digest_is_of_the_bytes_that_there_were(tx: Transaction, repository: RepositoryRow) -> None:
    """Who doesn't know it tells none, and a server of the version before 0042 leaves that of fewer bytes."""
    made = await make_upload(tx, repository)
    assert made.digest_so_far is None
    digest = Digest.of(b"0123456789")
    assert await advance(tx, made, 10, digest=digest) == 1
    found = await uploads.find_upload(tx, HERE, made.uuid)
    assert found is not None
    assert found.digest_so_far == digest
    of_the_version_before = found._replace(offset_bytes=11)
    assert (of_the_version_before.digest, of_the_version_before.digest_so_far) == (digest, None)
    assert await advance(tx, found, 30) == 2
    last = await uploads.find_upload(tx, HERE, made.uuid)
    assert last is not None
    assert last.digest is None


async def test_offsets_beyond_four_gigabytes(tx: Transaction, repository: RepositoryRow) -> None:
    made = await make_upload(tx, repository)
    await advance(tx, made, 2**40)
    found = await uploads.find_upload(tx, HERE, made.uuid)
    assert found is not None
    assert found.offset_bytes == 2**40
