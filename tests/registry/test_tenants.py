"""The life of tenants and the names of repositories, by whoever runs the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from distsql.contract import Namespace
from distsql.errors import (
    CreationRefusedError,
    ManifestTooLargeError,
    NameInvalidError,
    NameUnknownError,
    RepositoryExistsError,
    SettingInvalidError,
    TenantExistsError,
    TenantSuspendedError,
    TenantUnknownError,
)
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.registry.accounts import Accounts
from distsql.registry.context import Backend
from distsql.registry.garbage import Collected, GarbageCollector
from distsql.registry.grants import Grant
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.sql import recounts, tenant_setting
from distsql.sql.usage import UseRow
from distsql.values import Action, Caller, Unlimited
from tests.registry.pushing import image, index, push_blob, push_image
from tests.registry.recounts import use_of
from tests.registry.soundness import findings, namespace_of, opened

ADMINISTRATOR = Caller(actor="administrator")


@pytest.fixture
async def backend(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backend]:
    monkeypatch.setattr(tenant_setting, "FRESH_S", 0)
    async with opened(database_url) as machinery:
        yield machinery


@pytest.fixture
def namespace(backend: Backend) -> Namespace:
    return namespace_of(backend)


@pytest.fixture
def tenants(backend: Backend) -> Tenants:
    return Tenants(backend.everything, ADMINISTRATOR)


@pytest.fixture
def repositories(backend: Backend) -> RepositoryAdministration:
    return RepositoryAdministration(backend.everything, ADMINISTRATOR)


async def names(namespace: Namespace) -> list[str]:
    return [name async for name in namespace.repositories()]


async def collect(backend: Backend, *, dry: bool = False) -> Collected:
    collector = GarbageCollector(
        backend, ADMINISTRATOR, periods=Periods(timedelta(0), timedelta(0)), notify=lambda what, count: None
    )
    return await (collector.dry_run() if dry else collector.run())


async def test_a_tenant_is_made_once(tenants: Tenants) -> None:
    await tenants.create("acme")
    with pytest.raises(TenantExistsError):
        await tenants.create("acme")
    for name in ("acme/web", "Acme", "", "-"):
        with pytest.raises(NameInvalidError):
            await tenants.create(name)
    assert [row.name async for row in tenants.all()] == ["acme"]


async def test_what_isnt_there(tenants: Tenants, repositories: RepositoryAdministration) -> None:
    for call in (tenants.get, tenants.suspend, tenants.resume, tenants.delete):
        with pytest.raises(TenantUnknownError):
            await call("acme")
    for changed in (tenants.set("acme", {}), tenants.rename("acme", "apex"), tenants.set_public("acme", public=True)):
        with pytest.raises(TenantUnknownError):
            await changed
    for settled in (
        repositories.get("acme/web"),
        repositories.set("acme/web", {}),
        repositories.rename("acme/web", "acme/site"),
    ):
        with pytest.raises(NameUnknownError):
            await settled


async def test_settings_are_kept_and_told(tenants: Tenants) -> None:
    await tenants.create("acme")
    await tenants.set("acme", {"quota_bytes": 10, "immutable_tags": ["v*", "v*", "release-?"]})
    await tenants.set("acme", {"read_only": True})
    row = await tenants.get("acme")
    assert (row.quota_bytes, row.immutable_tags, row.read_only) == (10, ["release-?", "v*"], True)
    with pytest.raises(SettingInvalidError):
        await tenants.set("acme", {"immutable_tags": ["v*", "%"]})


async def test_renaming_a_tenant_moves_no_bytes(backend: Backend, namespace: Namespace, tenants: Tenants) -> None:
    manifest = await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    upload = await namespace.repository("acme/web").layers.upload()
    await tenants.create("taken")
    with pytest.raises(TenantExistsError):
        await tenants.rename("acme", "taken")
    with pytest.raises(NameInvalidError):
        await tenants.rename("acme", "x" * 252)
    await tenants.rename("acme", "apex")
    assert await names(namespace) == ["apex/web"]
    web = namespace.repository("apex/web")
    assert (await web.manifests.get_by_tag("v1")).digest == manifest.digest
    async with await web.layers.fetch(Digest.of(b"layer")) as layer:
        assert await layer.read() == b"layer"
    await (await web.layers.resume(upload.uuid)).cancel()
    assert not await namespace.repository("acme/web").exists()
    assert await findings(backend) == []


async def test_renaming_a_repository_takes_what_is_below_it(
    backend: Backend, namespace: Namespace, repositories: RepositoryAdministration
) -> None:
    for name in ("a", "a/b", "a/b/c", "a-b", "ab", "x"):
        await push_image(namespace.repository(f"acme/{name}"), name.encode(), tags=["v1"])
    await repositories.rename("acme/a", "acme/a/b")
    assert await names(namespace) == ["acme/a-b", "acme/a/b", "acme/a/b/b", "acme/a/b/b/c", "acme/ab", "acme/x"]
    await repositories.rename("acme/a/b", "acme/a")
    assert await names(namespace) == ["acme/a", "acme/a-b", "acme/a/b", "acme/a/b/c", "acme/ab", "acme/x"]
    for taken in ("acme/x", "acme/ab"):
        with pytest.raises(RepositoryExistsError, match=taken):
            await repositories.rename("acme/a", taken)
    with pytest.raises(NameInvalidError):
        await repositories.rename("acme/a", "other/a")
    with pytest.raises(NameInvalidError):
        await repositories.rename("acme/a", "acme/" + "y" * 248)
    await namespace.repository("acme/x").remove()
    await repositories.rename("acme/a", "acme/x")
    assert await namespace.repository("acme/x/b/c").manifests.exists_by_tag("v1")
    assert (await repositories.get("acme/x/b")).path == "x/b"
    assert await findings(backend) == []


async def test_a_suspended_tenant_hears_it_everywhere(namespace: Namespace, tenants: Tenants) -> None:
    web = namespace.repository("acme/web")
    await push_image(web, b"layer", tags=["v1"])
    await tenants.suspend("acme")
    with pytest.raises(TenantSuspendedError):
        await web.manifests.get_by_tag("v1")
    with pytest.raises(TenantSuspendedError):
        await push_blob(web, b"more")
    await push_blob(namespace.repository("other/web"), b"others go on")
    await tenants.resume("acme")
    assert await web.manifests.exists_by_tag("v1")


async def test_a_deleted_tenant_is_there_for_nobody_and_goes_with_the_garbage(
    backend: Backend, database_url: str, namespace: Namespace, tenants: Tenants
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    await push_image(namespace.repository("acme/other"), b"other", tags=["v1"])
    await namespace.repository("acme/other").layers.upload()
    await push_image(namespace.repository("neighbour/web"), b"layer", tags=["v1"])
    accounts = Accounts(backend.everything, ADMINISTRATOR)
    await accounts.create("acme/ci", kind="robot", granted=[Grant.parse("acme/web:pull")], lifetime=None)
    await tenants.delete("acme")
    with pytest.raises(TenantUnknownError):
        await tenants.delete("acme")
    assert await names(namespace) == ["neighbour/web"]
    assert not await namespace.repository("acme/web").exists()
    assert [name async for name in namespace.index.holders(Digest.of(b"layer"))] == ["neighbour/web"]
    await push_image(namespace.repository("acme/web"), b"new", tags=["v2"])
    assert [tag async for tag in namespace.repository("acme/web").tags.list()] == ["v2"]
    assert (await collect(backend, dry=True)).repositories == 2
    collected = await collect(backend)
    assert (collected.tenants, collected.repositories, collected.blobs) == (1, 2, 3)
    assert await names(namespace) == ["acme/web", "neighbour/web"]
    assert await findings(backend) == []
    await use_of(backend, "acme")
    with psycopg.connect(database_url) as connection:
        kept = connection.execute("select count(*) from tenants where name is null").fetchone()
        assert kept == (0,)
    assert (await collect(backend)).tenants == 0


async def test_larger_manifests_than_the_tenant_takes(namespace: Namespace, tenants: Tenants) -> None:
    web = namespace.repository("acme/web")
    manifest = await push_image(web, b"layer")
    await tenants.set("acme", {"manifest_limit_bytes": len(manifest.payload)})
    await web.manifests.put(manifest)
    with pytest.raises(ManifestTooLargeError):
        await web.manifests.put(image(b"layer", longer="than before"))


async def test_sparse_by_the_tenant(namespace: Namespace, tenants: Tenants) -> None:
    await tenants.create("acme")
    await tenants.set("acme", {"sparse": True})
    absent = image(b"nowhere")
    await namespace.repository("acme/web").manifests.put(index(absent))


class MayPush(Unlimited):
    def allows(self, name: RepositoryName, action: Action) -> bool:
        return action is not Action.ADMIN


async def test_only_administrators_make_repositories(backend: Backend, tenants: Tenants) -> None:
    await tenants.create("acme")
    await tenants.set("acme", {"creators": "admin"})
    pusher = StoredNamespace(backend, Caller(actor="ann", authority=MayPush()))
    with pytest.raises(CreationRefusedError):
        await push_blob(pusher.repository("acme/web"), b"x")
    await push_blob(namespace_of(backend).repository("acme/web"), b"x")
    await push_blob(pusher.repository("acme/web"), b"y")


async def test_where_people_log_in_no_push_makes_a_tenant(backend: Backend, tenants: Tenants) -> None:
    object.__setattr__(backend, "makes_tenants", False)
    web = namespace_of(backend).repository("acme/web")
    with pytest.raises(NameUnknownError):
        await push_blob(web, b"x")
    await tenants.create("acme")
    await push_blob(web, b"x")


async def test_a_wrong_count_is_found_and_mended(backend: Backend, database_url: str, namespace: Namespace) -> None:
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    with psycopg.connect(database_url) as connection:
        connection.execute("update tenant_usage set manifests = manifests + 7, stored_bytes = stored_bytes - 1")
    assert len(await findings(backend)) == 1
    assert len(await backend.everything.transact(recounts.mend_uses)) == 1
    assert await findings(backend) == []
    assert (await use_of(backend, "acme")).manifests == 1


async def test_callers_hear_when_a_quota_is_nearly_used(backend: Backend, tenants: Tenants) -> None:
    heard: list[str] = []
    web = StoredNamespace(backend, Caller(actor="ann", warn=heard.append)).repository("acme/web")
    await push_blob(web, b"x" * 90)
    await tenants.set("acme", {"quota_bytes": 100})
    await push_blob(web, b"y")
    assert heard == []
    await push_blob(web, b"z")
    assert heard == ["acme uses 91 of the 100 bytes of blobs in its quota"]
    assert await use_of(backend, "acme") == UseRow(92, 1, 0, 0)
