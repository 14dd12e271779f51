"""One repository: its services, and its life."""

from __future__ import annotations

from distsql.registry.admissions import Admission, as_like
from distsql.registry.context import RepositoryService
from distsql.registry.layers import Layers
from distsql.registry.manifests import Manifests
from distsql.registry.restorations import Restorations
from distsql.registry.signatures import Signatures
from distsql.registry.tags import Tags
from distsql.sql import admissions, garbage_queue, grants, repositories
from distsql.sql.database import transactional
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.values import Action


class StoredRepository(RepositoryService):
    """`distsql.contract.Repository` over the catalogue and a byte store."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The full name, tenant included."""
        return str(self._context.name)

    @property
    def manifests(self) -> Manifests:
        """Its manifests."""
        return Manifests(self._context)

    @property
    def tags(self) -> Tags:
        """Its tags."""
        return Tags(self._context)

    @property
    def layers(self) -> Layers:
        """Its blobs."""
        return Layers(self._context)

    @property
    def signatures(self) -> Signatures:
        """Its manifests' signatures."""
        return Signatures(self._context)

    @property
    def restorations(self) -> Restorations:
        """What was deleted of it."""
        return Restorations(self._context)

    async def exists(self) -> bool:
        """Whether anything was ever written to it."""
        return await self._context.find() is not None

    async def remove(self) -> None:
        """Removes the repository with everything in it."""
        await self._remove(*await self._context.admit_existing(Action.DELETE))

    @transactional
    async def _remove(self, tx: Transaction, repository: RepositoryRow, admission: Admission) -> None:
        if admission.immutable_tags:
            fixed = await admissions.find_tag_like(tx, repository, [as_like(each) for each in admission.immutable_tags])
            admission.check_fixed([fixed] if fixed else ())
        if not await repositories.mark_repository_deleted(tx, repository, actor=self._context.caller.actor):
            raise self._context.unknown()
        garbage_queue.queue_repository(tx, repository.tenant_id, repository.id)
        self._context.audit(tx, repository.tenant_id, "repository.delete")

    async def set_public(self, *, public: bool) -> None:
        """Lets everybody pull from the repository, or only those who may."""
        await self._set_public(await self._context.get(), public=public)

    @transactional
    async def _set_public(self, tx: Transaction, repository: RepositoryRow, *, public: bool) -> None:
        grants.set_repository_public(tx, repository.tenant_id, repository.id, public=public)
        self._context.audit(tx, repository.tenant_id, "repository.set", references=[f"public={public}"])
