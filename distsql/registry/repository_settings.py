"""Settings and names of repositories, for whoever runs the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distsql.errors import NameInvalidError, NameUnknownError, ReadOnlyError, RepositoryExistsError
from distsql.oci.names import RepositoryName
from distsql.registry.administration import Administration
from distsql.registry.admissions import admit
from distsql.registry.tenants import KEEP, check_patterns
from distsql.sql import admissions, audit, garbage_queue, repository_settings
from distsql.sql.database import Database, transactional
from distsql.sql.repository_settings import DescribedRepositoryRow, LockedRepositoryRow
from distsql.sql.transactions import Transaction
from distsql.values import Action, Caller


class RepositoryAdministration(Administration):
    """Every repository there is: a service of the owner's. All methods raise `NameUnknownError`."""

    __slots__ = ("_read_only",)

    def __init__(self, database: Database, caller: Caller, *, read_only: bool = False) -> None:
        """``read_only``: whether the registry is, as its settings say."""
        super().__init__(database, caller)
        self._read_only = read_only

    async def get(self, name: str) -> DescribedRepositoryRow:
        """A repository with its settings, and how much is in it."""
        row = await self._database.read(repository_settings.find_repository_description, RepositoryName.parse(name))
        if row is None:
            raise _unknown(name)
        return row

    @transactional
    async def set(self, tx: Transaction, name: str, changes: Mapping[str, Any]) -> None:
        """Changes some of `RepositorySettings`. Raises `SettingInvalidError`."""
        parsed = RepositoryName.parse(name)
        repository = await self._lock(tx, parsed)
        settings = repository.settings._replace(**changes)
        settings = settings._replace(immutable_tags=check_patterns(settings.immutable_tags))
        repository_settings.set_repository_settings(tx, repository, settings)
        if changes.get("untagged", KEEP) != KEEP:  # with None the tenant may collect what the repository kept
            garbage_queue.queue_untagged(tx, repository.tenant_id, repository.id)
        self._audit(tx, repository, parsed, "repository.set", *(f"{key}={value}" for key, value in changes.items()))

    async def rename(self, name: str, new_name: str) -> None:
        """Gives the repository and all below it other names within their tenant. No bytes are moved.

        Raises `NameInvalidError`, `RepositoryExistsError`, `ReadOnlyError`, `TenantSuspendedError`.
        """
        old, new = RepositoryName.parse(name), RepositoryName.parse(new_name)
        if old.tenant != new.tenant:
            raise NameInvalidError(f"{new} is of another tenant than {old}: content can be copied there, not renamed")
        if self._read_only:
            raise ReadOnlyError("The registry is read-only")
        # Before the transaction, as for every write: its locks are few.
        admit(old, await self._database.read(admissions.find_admission, old), Action.PUSH)
        await self._rename(old, new)

    @transactional
    async def _rename(self, tx: Transaction, old: RepositoryName, new: RepositoryName) -> None:
        repository = await self._lock(tx, old)
        left = await repository_settings.leave_paths(tx, repository.tenant_id, old.path, new_path=new.path)
        for row in left:
            if row.read_only:
                raise ReadOnlyError(f"{old}{row.path.removeprefix(new.path)} is read-only")
        paths = [row.path for row in left]
        for path in paths:
            RepositoryName.parse(f"{new.tenant}/{path}")  # not too long
        taken = await repository_settings.find_taken_path(tx, repository.tenant_id, paths)
        if taken is not None:
            raise RepositoryExistsError(f"There is a repository {new.tenant}/{taken} already")
        repository_settings.arrive_at_paths(tx, repository.tenant_id)
        self._audit(tx, repository, new, "repository.rename", f"{old}={new}")

    async def _lock(self, tx: Transaction, name: RepositoryName) -> LockedRepositoryRow:
        repository = await repository_settings.lock_repository(tx, name)
        if repository is None:
            raise _unknown(str(name))
        return repository

    def _audit(
        self, tx: Transaction, repository: LockedRepositoryRow, name: RepositoryName, action: str, *references: str
    ) -> None:
        audit.insert_audit_events(
            tx, repository.tenant_id, action, caller=self._caller, repository=str(name), references=references
        )


def _unknown(name: str) -> NameUnknownError:
    return NameUnknownError(f"There is no repository {name}", detail={"name": name})
