"""What the services of one repository share: the process's machinery, the repository's name, and who asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from distsql.bytestore.contract import ByteStore
from distsql.bytestore.placement import PlacedStores
from distsql.bytestore.small_objects import SmallObjects
from distsql.errors import CreationRefusedError, NameUnknownError, ReadOnlyError, StoreUnavailableError
from distsql.oci.names import RepositoryName
from distsql.registry.admissions import Admission, admit, suspension, warnings
from distsql.registry.batches import BatchMemory
from distsql.registry.group_commit import GroupCommit
from distsql.registry.hashes import RunningHashes
from distsql.registry.image_labels import ImageLabels
from distsql.sql import admissions, audit, repositories
from distsql.sql.database import Database, TenantDatabase
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.uploads import Uploader
from distsql.values import Action, ASGIApplication, ASGIScope, Caller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distsql.oci.digest import Digest
    from distsql.registry.pushes import Push
    from distsql.registry.stored_layer import StoredLayer

ServeLayer = Callable[["StoredLayer", ASGIScope], ASGIApplication]


@dataclass(frozen=True, slots=True)
class Backend:
    """The machinery of one process, shared by all its namespaces. ``serve_layer`` gives a layer its HTTP face.

    ``database`` shows the rows of one tenant at a time, ``everything`` all of them: for administration, and for
    questions about the whole registry.
    """

    database: Database
    everything: Database
    store: ByteStore
    serve_layer: ServeLayer
    upload_lifetime: timedelta = timedelta(hours=24)
    hashes: RunningHashes = field(default_factory=RunningHashes)
    batches: BatchMemory = field(default_factory=BatchMemory)
    small_objects: SmallObjects = field(default_factory=SmallObjects)
    pushes: GroupCommit[Push, bool] = field(default_factory=GroupCommit)
    read_only: bool = False
    redirect: bool = True
    """Whether clients are sent to the store for bytes, where it has addresses."""
    grace: timedelta = timedelta(hours=1)
    """How long content that nothing refers to stays, counted from when somebody last asked for it in order to push."""
    restore_period: timedelta = timedelta(days=7)
    """How long what was deleted can be restored."""
    recovery_window: timedelta = timedelta(0)
    """How long bytes stay that no row needs any more, for a database that is restored to a point in it."""
    makes_tenants: bool = True
    """Whether a push makes the tenant that it is for; otherwise `distsql tenant create` does."""
    image_labels: ImageLabels | None = None
    """Who reads labels out of configs that are pushed."""

    @property
    def fresh(self) -> timedelta:
        """How long who was told that content is there needn't be promised it anew: half of the grace."""
        return self.grace / 2

    async def store_named(self, name: str | None) -> ByteStore:
        """The store of this name; None: that of the settings."""
        if isinstance(self.store, PlacedStores):
            return await self.store.named(name)
        if name is not None:
            raise StoreUnavailableError(f"this registry has one byte store, and not {name!r}")
        return self.store

    async def store_of(self, key: str) -> ByteStore:
        """The store that the key is of."""
        return await self.store.of(key) if isinstance(self.store, PlacedStores) else self.store


@dataclass(slots=True, eq=False)  # not frozen: that takes each request a microsecond
class RepositoryContext:
    """One repository, as the services see it."""

    backend: Backend
    name: RepositoryName
    caller: Caller

    @property
    def database(self) -> TenantDatabase:
        """The catalogue, as the repository's tenant sees it."""
        tenant = self.name.tenant
        return self.backend.database.of(tenant, self.caller.authority.tenant_id(tenant))

    async def find(self) -> RepositoryRow | None:
        """The repository's ids, or None when it doesn't exist.

        Read before a transaction rather than in it: that keeps the locks of a transaction few. The foreign keys tell
        when the repository is removed meanwhile.
        """
        return await self.database.pull(repositories.find_repository, self.name)

    async def get(self) -> RepositoryRow:
        """The repository's ids, or `NameUnknownError`."""
        row = await self.find()
        if row is None:
            raise self.unknown()
        return row

    async def admit(self, action: Action = Action.PUSH) -> Admission:
        """Asks whether something may be written just now, and within which limits, in one read before the transaction.

        Raises `ReadOnlyError`, `TenantSuspendedError`, `DeletionRefusedError`.
        """
        self.check_writable()
        row = await self.database.read(admissions.find_admission, self.name)
        if row is not None and row.use is not None:
            for warning in warnings(self.name.tenant, row):
                self.caller.warn(warning)
        return admit(self.name, row, action)

    def check_writable(self, *, read_only: bool = False, suspended: bool = False) -> None:
        """Raises `ReadOnlyError` if the registry is so, or what was found to be; or `TenantSuspendedError`."""
        if suspended:
            raise suspension(self.name.tenant)
        if self.backend.read_only or read_only:
            raise ReadOnlyError(f"{self.name if read_only else 'The registry'} is read-only")

    async def admit_existing(self, action: Action = Action.PUSH) -> tuple[RepositoryRow, Admission]:
        """The repository's ids, and what `admit` gives; also `NameUnknownError`."""
        admission = await self.admit(action)
        if admission.repository is None:
            raise self.unknown()
        return admission.repository, admission

    async def ensure(self, tx: Transaction, admission: Admission) -> RepositoryRow:
        """The repository's ids; it comes to be when it was not there."""
        if admission.repository is not None:
            return admission.repository
        if admission.tenant_id is None and not self.backend.makes_tenants:
            raise self.unknown()
        if not self.caller.authority.allows(self.name, admission.creators):
            raise CreationRefusedError(
                f"{self.name} isn't there, and only administrators of {self.name.tenant} make it"
            )
        if self.name.repository_id is not None:  # it was removed: what gets the name now is another repository
            raise self.unknown()
        row, created = await repositories.insert_repository(tx, self.name, tenant_id=admission.tenant_id)
        if created:
            self.audit(tx, row.tenant_id, "repository.create")
        return row._replace(sparse=admission.sparse or row.sparse)

    @property
    def uploader(self) -> Uploader:
        """Whose upload sessions the caller begins, and goes on with."""
        return Uploader(self.caller.actor, self.caller.authority.account_id)

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


class RepositoryService:
    """What may be done with one repository, of some kind."""

    __slots__ = ("_context",)

    def __init__(self, context: RepositoryContext) -> None:
        self._context = context

    @property
    def database(self) -> TenantDatabase:
        """The catalogue, as the repository's tenant sees it."""
        return self._context.database
