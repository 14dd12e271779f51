"""Tenants, for whoever runs the registry."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from distsql.errors import NameInvalidError, SettingInvalidError, TenantExistsError, TenantUnknownError
from distsql.oci.names import MAX_NAME_LENGTH, RepositoryName
from distsql.registry.administration import Administration
from distsql.registry.paging import iterate
from distsql.sql import access_changes, audit, garbage_queue, repositories, sql_roles, stores, tenants, usage
from distsql.sql.database import transactional
from distsql.sql.tenants import DescribedTenantRow, LockedTenantRow, TenantSettings
from distsql.sql.transactions import Transaction

_PATTERN: Final = re.compile(r"[A-Za-z0-9_.*?-]{1,128}\Z", re.ASCII)

COLLECT: Final = "collect"
KEEP: Final = "keep"
"""What may become of manifests without tag, parent and subject."""


class Tenants(Administration):
    """Every tenant there is: a service of the owner's. All methods raise `TenantUnknownError`."""

    __slots__ = ()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def all(self) -> AsyncIterator[DescribedTenantRow]:
        """All of them, by name."""

        async def fetch(last: str, size: int) -> list[DescribedTenantRow]:
            return await self._database.read(tenants.list_tenants, after=last, limit=size)

        async for row in iterate(fetch, lambda row: row.name, after="", limit=None):
            yield row

    async def get(self, name: str) -> DescribedTenantRow:
        """A tenant with its settings, and what it uses."""
        row = await self._database.read(tenants.find_tenant_description, name)
        if row is None:
            raise _unknown(name)
        return row

    # -- settings -----------------------------------------------------------------------------------------------------

    @transactional
    async def set(self, tx: Transaction, name: str, changes: Mapping[str, Any]) -> None:
        """Changes some of `TenantSettings`; a quota below what is used already lets nothing more in.

        Raises `SettingInvalidError`.
        """
        tenant = await self._lock(tx, name)
        store = changes.get("store")
        if store is not None and store not in {row.name for row in await stores.list_stores(tx)}:
            raise SettingInvalidError(f"There is no store {store!r}: `distsql store add` makes it known")
        tenants.set_tenant_settings(tx, tenant.id, _changed(tenant.settings, changes))
        if changes.get("untagged") == COLLECT:
            garbage_queue.queue_untagged(tx, tenant.id)
        await usage.share_out(tx, tenant.id, to_one=False)
        self._audit(tx, tenant.id, "tenant.set", *(f"{key}={value}" for key, value in changes.items()))

    @transactional
    async def set_public(self, tx: Transaction, name: str, *, public: bool) -> None:
        """Lets everybody pull from all of the tenant's repositories, or only from those that are public themselves."""
        tenant_id = await tenants.set_tenant_public(tx, name, public=public)
        if tenant_id is None:
            raise _unknown(name)
        self._audit(tx, tenant_id, "tenant.set", f"public={public}")

    # -- life ---------------------------------------------------------------------------------------------------------

    @transactional
    async def create(self, tx: Transaction, name: str) -> None:
        """Makes a tenant. Raises `NameInvalidError`, `TenantExistsError`."""
        check_tenant_name(name)
        tenant_id = await tenants.insert_tenant(tx, name)
        if tenant_id is None:
            raise TenantExistsError(f"There is a tenant {name} already")
        self._audit(tx, tenant_id, "tenant.create", name)

    @transactional
    async def rename(self, tx: Transaction, name: str, new_name: str) -> None:
        """Gives the tenant, and with it all of its repositories, another name. No bytes are moved.

        Raises `NameInvalidError`, `TenantExistsError`.
        """
        check_tenant_name(new_name)
        tenant = await self._lock(tx, name)
        if await repositories.find_tenant(tx, new_name) is not None:
            raise TenantExistsError(f"There is a tenant {new_name} already")
        if len(new_name) + 1 + await tenants.find_longest_path(tx, tenant.id) > MAX_NAME_LENGTH:
            raise NameInvalidError(f"Some repository's name would be longer than {MAX_NAME_LENGTH} characters")
        tenants.rename_tenant(tx, tenant.id, new_name)
        access_changes.insert_access_change(tx, tenant.id)
        self._audit(tx, tenant.id, "tenant.rename", f"{name}={new_name}")

    @transactional
    async def suspend(self, tx: Transaction, name: str) -> None:
        """From a second later on everybody hears that the tenant is suspended, and nothing else of it."""
        tenant = await self._lock(tx, name)
        tenants.suspend_tenant(tx, tenant.id, suspended=True)
        access_changes.insert_access_change(tx, tenant.id)
        await sql_roles.close_sql_role(tx, tenant.id, closed=True)
        self._audit(tx, tenant.id, "tenant.suspend", name)

    @transactional
    async def resume(self, tx: Transaction, name: str) -> None:
        """Lets a suspended tenant go on."""
        tenant = await self._lock(tx, name)
        tenants.suspend_tenant(tx, tenant.id, suspended=False)
        await sql_roles.close_sql_role(tx, tenant.id, closed=False)
        self._audit(tx, tenant.id, "tenant.resume", name)

    @transactional
    async def delete(self, tx: Transaction, name: str) -> None:
        """Deletes the tenant with everything in it, for everybody at once; rows and bytes go with the garbage."""
        tenant = await self._lock(tx, name)
        tenants.mark_tenant_deleted(tx, tenant.id)
        access_changes.insert_access_change(tx, tenant.id)
        await sql_roles.remove_sql_role(tx, tenant.id)
        garbage_queue.queue_tenant(tx, tenant.id)
        self._audit(tx, tenant.id, "tenant.delete", name)

    async def _lock(self, tx: Transaction, name: str) -> LockedTenantRow:
        tenant = await tenants.lock_tenant(tx, name)
        if tenant is None:
            raise _unknown(name)
        return tenant

    def _audit(self, tx: Transaction, tenant_id: int, action: str, *references: str) -> None:
        audit.insert_audit_events(
            tx, tenant_id, action, caller=self._caller, repository=None, references=references or (None,)
        )


def check_tenant_name(name: str) -> None:
    """Raises `NameInvalidError` unless the name can be the first component of a repository's."""
    if "/" in name or str(RepositoryName.parse(f"{name}/x")) != f"{name}/x":
        raise NameInvalidError(f"{name[:80]!r} is no tenant's name: it is the first component of a repository's")


def check_patterns(patterns: Sequence[str]) -> list[str]:
    """The patterns of tags, or `SettingInvalidError`."""
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise SettingInvalidError(
                f"{pattern[:80]!r} is no pattern of tags: a tag's characters, * for any text, ? for any character"
            )
    return sorted(set(patterns))


def _changed(settings: TenantSettings, changes: Mapping[str, Any]) -> TenantSettings:
    changed = settings._replace(**changes)
    return changed._replace(immutable_tags=check_patterns(changed.immutable_tags))


def _unknown(name: str) -> TenantUnknownError:
    return TenantUnknownError(f"There is no tenant {name[:80]!r}: `distsql tenant create` makes it")
