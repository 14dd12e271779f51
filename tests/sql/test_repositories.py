from __future__ import annotations

from datetime import timedelta

import pytest

from distsql.oci.names import RepositoryName
from distsql.sql import audit, deletions, repositories, repository_settings, tags, upload_expiry, uploads
from distsql.sql.deletions import DeletedRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.values import Caller
from tests.sql.rows import look, make_layer, make_manifest, make_repository
from tests.sql.test_uploads import make_upload

NAMES = ["a/b", "a/b-c", "a/b/c", "a/bc", "a-a/b", "a.a/b", "a0/b", "aa/b", "ab/a", "library/x", "z/z/z"]


async def test_a_repository_comes_with_its_tenant(tx: Transaction) -> None:
    name = RepositoryName.parse("acme/team/web")
    assert await repositories.find_repository(tx, name) is None
    assert await repositories.find_tenant(tx, "acme") is None
    made, created = await repositories.insert_repository(tx, name)
    assert created
    assert await repositories.find_repository(tx, name) == made
    assert await repositories.find_tenant(tx, "acme") == made.tenant_id
    assert await repositories.insert_repository(tx, name) == (made, False)


async def test_tenant_0_has_no_name_that_a_repository_could_have(tx: Transaction) -> None:
    assert await look(tx, "select name from tenants where id = 0") == [("",)]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_names_are_listed_in_the_byte_order_of_the_full_name(tx: Transaction, limit: int) -> None:
    for name in reversed(NAMES):
        await make_repository(tx, name)
    listed: list[str] = []
    after = ("", "")
    while page := await repositories.list_repositories(tx, tenant="", after=after, limit=limit):
        assert len(page) <= limit
        listed += [f"{row.tenant}/{row.path}" for row in page]
        after = (page[-1].tenant, page[-1].path)
    assert listed == sorted(NAMES)


@pytest.mark.parametrize("after", ["", "0", "a", "a/", "a/b", "a/b0", "a-", "aa/zz", "m/m", "z/z/z", "zz"])
async def test_a_listing_may_begin_behind_a_name_that_is_not_there(tx: Transaction, after: str) -> None:
    for name in NAMES:
        await make_repository(tx, name)
    tenant, _, path = after.partition("/")
    page = await repositories.list_repositories(tx, tenant="", after=(tenant, path), limit=100)
    expected = [name for name in sorted(NAMES) if name > f"{tenant}/{path}"]
    assert [f"{row.tenant}/{row.path}" for row in page] == expected


async def test_one_tenant_s_listing_has_no_other_s(tx: Transaction) -> None:
    for name in NAMES:
        await make_repository(tx, name)

    async def paths(tenant: str, *after: str) -> list[str]:
        tenant_after, path_after = after or ("", "")
        page = await repositories.list_repositories(tx, tenant=tenant, after=(tenant_after, path_after), limit=10)
        return [row.path for row in page]

    assert await paths("a") == ["b", "b-c", "b/c", "bc"]
    assert await paths("a", "a", "b-c") == ["b/c", "bc"]
    assert await paths("ab", "aa", "z") == ["a"]
    assert await paths("aa", "ab", "a") == []
    assert await paths("nobody") == []


HOUR = timedelta(hours=1)
NOTHING = (-1, 0)


async def test_a_deleted_repository_leaves_its_blobs_and_its_audit(tx: Transaction, repository: RepositoryRow) -> None:
    digest = await make_layer(tx, repository, "content")
    manifest = await make_manifest(tx, repository)
    tags.point_tags(tx, repository, tags.targets(["a", "b"], digest=manifest.digest, actor="ann"))
    await tags.end_tag(tx, repository, "a", actor="ann")
    upload = await make_upload(tx, repository)
    neighbour = await make_repository(tx, "acme/neighbour")
    await make_layer(tx, neighbour, "content")
    audit.insert_audit_events(tx, repository.tenant_id, "test", caller=Caller(), repository="acme/web")

    assert await repositories.mark_repository_deleted(tx, repository, actor="ann")

    assert not await repositories.mark_repository_deleted(tx, repository, actor="ann")
    assert await repositories.find_repository(tx, RepositoryName("acme", "web")) is None
    assert await uploads.find_upload(tx, RepositoryName("acme", "web"), upload.uuid) is None
    assert await names(tx) == ["acme/neighbour"]

    gone = DeletedRow(repository.tenant_id, repository.id)
    key = {"tenant_id": gone.tenant_id, "repository_id": gone.id}
    assert await deletions.begin_purge(tx, **key, restore_period=HOUR) is None
    assert await deletions.begin_purge(tx, **key, restore_period=-HOUR) == gone
    assert len(await upload_expiry.purge_repository_uploads(tx, **key, limit=9)) == 1
    for purge in deletions.PURGED_FIRST:
        while await deletions.purge_repository_rows(tx, purge, gone, limit=1):
            pass
    while keys := await deletions.list_purged_manifests(tx, gone, after=None, limit=1):
        await deletions.purge_repository_manifests(tx, keys)
    for purge in deletions.PURGED_LAST:
        while await deletions.purge_repository_rows(tx, purge, gone, limit=1):
            pass
    await deletions.purge_repository(tx, gone)

    for table in ("tags", "manifests", "descriptors", "annotations", "signatures", "uploads"):
        assert await look(tx, f"select 1 from {table}") == [], table
    assert await look(tx, "select digest from blobs") == [(digest.packed,)]
    assert await look(tx, "select repository_id from layers") == [(neighbour.id,)]
    assert await look(tx, "select id from repositories") == [(neighbour.id,)]
    assert await look(tx, "select action from audit_events") == [("test",)]


async def test_a_name_may_be_used_again(tx: Transaction, repository: RepositoryRow) -> None:
    assert await repositories.mark_repository_deleted(tx, repository, actor="ann")
    again = await make_repository(tx, "acme/web")
    assert again.tenant_id == repository.tenant_id
    assert again.id != repository.id


async def names(tx: Transaction) -> list[str]:
    rows = await repositories.list_repositories(tx, tenant="", after=("", ""), limit=9)
    return [f"{row.tenant}/{row.path}" for row in rows]


async def test_sparse_is_kept(tx: Transaction, repository: RepositoryRow) -> None:
    name = RepositoryName("acme", "web")
    locked = await repository_settings.lock_repository(tx, name)
    assert locked is not None
    repository_settings.set_repository_settings(tx, locked, locked.settings._replace(sparse=True))
    found = await repositories.find_repository(tx, name)
    assert found == repository._replace(sparse=True)
