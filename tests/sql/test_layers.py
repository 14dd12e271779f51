from __future__ import annotations

import pytest

from distsql.oci.names import RepositoryName
from distsql.sql import layers
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from tests.sql.rows import digest, look, make_layer, make_manifest, make_repository

HERE = RepositoryName("acme", "web")


async def condemn(tx: Transaction) -> None:
    await look(tx, "update blobs set state = 'condemned', condemned_at = now() returning 1")


async def test_a_new_blob_has_the_key_that_was_given(tx: Transaction, repository: RepositoryRow) -> None:
    row = await layers.insert_blob(tx, repository.tenant_id, digest(1), length=3, store_key="new")
    assert (row.digest, row.length, row.store_key) == (digest(1), 3, "new")


async def test_a_live_blob_keeps_its_key(tx: Transaction, repository: RepositoryRow) -> None:
    first = await layers.insert_blob(tx, repository.tenant_id, digest(1), length=3, store_key="old")
    assert await layers.insert_blob(tx, repository.tenant_id, digest(1), length=3, store_key="new") == first


@pytest.mark.parametrize("state", ["condemned", "deleted"])
async def test_a_condemned_blob_lives_on_with_the_new_key(
    tx: Transaction, repository: RepositoryRow, state: str
) -> None:
    await layers.insert_blob(tx, repository.tenant_id, digest(1), length=3, store_key="old")
    await look(tx, "update blobs set state = %(state)s, condemned_at = now() returning 1", state=state)
    row = await layers.insert_blob(tx, repository.tenant_id, digest(1), length=3, store_key="new")
    assert row.store_key == "new"
    assert await look(tx, "select state, condemned_at, store_key from blobs") == [("live", None, "new")]


async def test_tenants_have_blobs_of_their_own(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "other/web")
    await make_layer(tx, repository, "content", store_key="ours")
    await make_layer(tx, other, "content", store_key="theirs")
    found = [
        await layers.find_layer(tx, RepositoryName(tenant, "web"), digest("content")) for tenant in ("acme", "other")
    ]
    assert [row and row.store_key for row in found] == ["ours", "theirs"]


async def test_only_what_the_repository_has_is_found(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "acme/other")
    held = await make_layer(tx, repository, "here")
    elsewhere = await make_layer(tx, other, "there")
    found = await layers.find_layer(tx, HERE, held)
    assert found is not None
    assert found.digest == held
    assert await layers.find_layer(tx, HERE, elsewhere) is None
    assert await layers.find_layer(tx, HERE, digest("nowhere")) is None
    assert await layers.find_layer(tx, RepositoryName("acme", "nothing"), held) is None


async def test_a_condemned_blob_is_not_found(tx: Transaction, repository: RepositoryRow) -> None:
    held = await make_layer(tx, repository, "content")
    await condemn(tx)
    assert await layers.find_layer(tx, HERE, held) is None


async def test_mounting_finds_what_the_source_has(tx: Transaction, repository: RepositoryRow) -> None:
    held = await make_layer(tx, repository, "content")
    await make_repository(tx, "acme/empty")
    tenant = repository.tenant_id
    for path, found in (("web", True), (None, True), ("empty", False), ("nothing", False)):
        row = await layers.lock_mountable_blob(tx, tenant, held, source_path=path)
        assert (row is not None) == found, path
    assert await layers.lock_mountable_blob(tx, tenant, digest("nothing"), source_path=None) is None


async def test_nothing_is_mounted_from_another_tenant(tx: Transaction, repository: RepositoryRow) -> None:
    held = await make_layer(tx, repository, "content")
    other = await make_repository(tx, "other/web")
    for path in ("web", None):
        assert await layers.lock_mountable_blob(tx, other.tenant_id, held, source_path=path) is None


async def test_a_blob_that_no_repository_has_is_not_mounted(tx: Transaction, repository: RepositoryRow) -> None:
    await layers.insert_blob(tx, repository.tenant_id, digest(1), length=3, store_key="key")
    assert await layers.lock_mountable_blob(tx, repository.tenant_id, digest(1), source_path=None) is None


async def test_a_condemned_blob_is_not_mounted(tx: Transaction, repository: RepositoryRow) -> None:
    held = await make_layer(tx, repository, "content")
    await condemn(tx)
    for path in ("web", None):
        assert await layers.lock_mountable_blob(tx, repository.tenant_id, held, source_path=path) is None


async def test_pushing_again_begins_the_grace_again(tx: Transaction, repository: RepositoryRow) -> None:
    await make_layer(tx, repository, "content")
    await look(tx, "update layers set needed_at = 'epoch' returning 1")
    await make_layer(tx, repository, "content")
    assert await look(tx, "select needed_at = now() from layers") == [(True,)]


async def test_a_deleted_layer_is_gone_here_only(tx: Transaction, repository: RepositoryRow) -> None:
    other = await make_repository(tx, "acme/other")
    held = await make_layer(tx, repository, "content")
    await make_layer(tx, other, "content")
    assert await layers.lock_layer(tx, repository, held)
    layers.delete_layer(tx, repository, held)
    assert not await layers.lock_layer(tx, repository, held)
    assert await layers.find_layer(tx, HERE, held) is None
    assert await layers.find_layer(tx, RepositoryName("acme", "other"), held) is not None


async def test_bytes_are_replaced_once(tx: Transaction, repository: RepositoryRow) -> None:
    held = await make_layer(tx, repository, "content", store_key="lost")
    tenant = repository.tenant_id
    healed = await layers.replace_bytes(tx, tenant, held, lost_key="lost", store_key="found")
    assert healed is not None
    assert healed.store_key == "found"
    assert await layers.replace_bytes(tx, tenant, held, lost_key="lost", store_key="other") is None


async def test_holders_are_repositories_with_the_blob_or_the_manifest(
    tx: Transaction, repository: RepositoryRow
) -> None:
    manifest = await make_manifest(tx, repository)
    for name in ("acme/web", "acme/web-2", "acme-2/web", "b/c", "b/d"):
        made = await make_repository(tx, name)
        await layers.insert_blob(tx, made.tenant_id, manifest.digest, length=1, store_key="key")
        if name != "acme/web":
            layers.insert_layer(tx, made, manifest.digest, length=1)

    async def names(tenant: str | None, after: str = "", limit: int = 10) -> list[str]:
        first, _, second = after.partition("/")
        rows = await layers.list_holders(tx, manifest.digest, tenant=tenant, after=(first, second), limit=limit)
        return [f"{row.tenant}/{row.path}" for row in rows]

    assert await names(None) == ["acme-2/web", "acme/web", "acme/web-2", "b/c", "b/d"]
    assert await names(None, after="acme/web", limit=2) == ["acme/web-2", "b/c"]
    assert await names("b") == ["b/c", "b/d"]
    assert await names("nobody") == []
