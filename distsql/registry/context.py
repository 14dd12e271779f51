"""What the services of one repository share: the process's machinery, the repository's name, and who asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from distsql.bytestore.contract import ByteStore
from distsql.errors import NameUnknownError
from distsql.oci.names import RepositoryName
from distsql.registry.hashes import RunningHashes
from distsql.sql import audit, repositories
from distsql.sql.database import Database, Transaction
from distsql.sql.repositories import RepositoryRow
from distsql.values import ASGIApplication, ASGIScope, Caller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distsql.oci.digest import Digest
    from distsql.registry.stored_layer import StoredLayer

ServeLayer = Callable[["StoredLayer", ASGIScope], ASGIApplication]


@dataclass(frozen=True, slots=True)
class Backend:
    """The machinery of one process, shared by all its namespaces. ``serve_layer`` gives a layer its HTTP face."""

    database: Database
    store: ByteStore
    serve_layer: ServeLayer
    upload_lifetime: timedelta = timedelta(hours=24)
    hashes: RunningHashes = field(default_factory=RunningHashes)


@dataclass(frozen=True, slots=True)
class RepositoryContext:
    """One repository, as the services see it."""

    backend: Backend
    name: RepositoryName
    caller: Caller

    @property
    def database(self) -> Database:
        """The catalogue."""
        return self.backend.database

    async def find(self) -> RepositoryRow | None:
        """The repository's ids, or None when it doesn't exist.

        Read before a transaction rather than in it: that keeps the locks of a transaction few. The foreign keys tell
        when the repository is removed meanwhile.
        """
        return await self.database.read(repositories.find_repository, self.name)

    async def get(self) -> RepositoryRow:
        """The repository's ids, or `NameUnknownError`."""
        row = await self.find()
        if row is None:
            raise self.unknown()
        return row

    async def ensure(self, tx: Transaction, known: RepositoryRow | None) -> RepositoryRow:
        """The repository's ids; it comes to be when it was not known."""
        if known is not None:
            return known
        row, created = await repositories.insert_repository(tx, self.name)
        if created:
            self.audit(tx, row.tenant_id, "repository.create")
        return row

    def audit(
        self,
        tx: Transaction,
        tenant_id: int,
        action: str,
        *,
        references: Sequence[str | None] = (None,),
        digest: Digest | None = None,
    ) -> None:
        """Remembers what the caller did to this repository."""
        audit.insert_audit_events(
            tx,
            tenant_id,
            action,
            caller=self.caller,
            repository=str(self.name),
            references=references,
            digest=digest,
        )

    def unknown(self) -> NameUnknownError:
        """There is no such repository."""
        return NameUnknownError(f"There is no repository {self.name}", detail={"name": str(self.name)})
