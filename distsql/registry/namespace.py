"""A collection of repositories, addressable by name, and the facilities that belong to all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from distsql.contract import Scope
from distsql.errors import NameUnknownError
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.registry.context import Backend, RepositoryContext
from distsql.registry.grants import spans
from distsql.registry.paging import full_name_bound, iterate
from distsql.registry.repositories import StoredRepository
from distsql.sql import layers, repositories, signatures
from distsql.sql.layers import HolderRow
from distsql.sql.repositories import NameRow
from distsql.values import GLOBAL_SCOPE, Action, Authority, Caller, SignatureRelation


class StoredNamespace:
    """`distsql.contract.Namespace` over the catalogue and a byte store."""

    __slots__ = ("_backend", "_caller", "_scope")

    def __init__(self, backend: Backend, caller: Caller, scope: Scope = GLOBAL_SCOPE) -> None:
        self._backend = backend
        self._caller = caller
        self._scope = scope

    def scope(self) -> Scope:
        """Which names belong to it."""
        return self._scope

    def acting_as(self, caller: Caller) -> StoredNamespace:
        """The same namespace on behalf of another caller."""
        return StoredNamespace(self._backend, caller, self._scope)

    def repository(self, name: str) -> StoredRepository:
        """A reference to a repository that need not exist."""
        return StoredRepository(self._context(name))

    def _context(self, name: str) -> RepositoryContext:
        parsed = RepositoryName.parse(name)
        if self._scope is not GLOBAL_SCOPE and not self._scope.contains(name):
            raise NameUnknownError(f"There is no repository {parsed}", detail={"name": name})
        only_id = self._caller.authority.repository_id(parsed)
        meant = parsed if only_id is None else RepositoryName(parsed.tenant, parsed.path, only_id)
        return RepositoryContext(self._backend, meant, self._caller)

    async def repositories(self, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Full names of the repositories in the scope."""
        backend, listed, tenant = self._backend, self._caller.authority.listed, self._listed_tenant()
        if tenant is None:
            return
        database = backend.database.of(tenant) if tenant else backend.everything
        shown = None if listed is None else spans(listed)

        async def fetch(last: tuple[str, str], size: int) -> list[NameRow]:
            if shown is None:
                return await database.read(repositories.list_repositories, tenant=tenant, after=last, limit=size)
            return await database.read(
                repositories.list_repositories_in_spans, shown, tenant=tenant, after=last, limit=size
            )

        bound = full_name_bound(after)
        async for row in iterate(fetch, lambda row: (row.tenant, row.path), after=bound, limit=limit):
            yield f"{row.tenant}/{row.path}"

    def _listed_tenant(self) -> str | None:
        """The tenant of which repositories are listed, empty for all of them; None when the caller sees none."""
        allowed, wanted = self._caller.authority.tenant, self._scope.name
        if allowed is None:
            return wanted
        return allowed if allowed and wanted in {"", allowed} else None

    @property
    def access(self) -> CallersAccess:
        """What the caller may do."""
        return CallersAccess(self._scope, self._caller.authority)

    @property
    def trust(self) -> StoredTrust:
        """Which signatures there are."""
        return StoredTrust(self)

    @property
    def index(self) -> StoredIndex:
        """Where content is."""
        return StoredIndex(self)


class CallersAccess:
    """`distsql.contract.Access`: what the caller may do within the scope."""

    __slots__ = ("_authority", "_scope")

    def __init__(self, scope: Scope, authority: Authority) -> None:
        self._scope = scope
        self._authority = authority

    async def allows(self, name: str, action: Action) -> bool:
        """Whether the scope has the name, and the caller the right."""
        return self._scope.contains(name) and self._authority.allows(RepositoryName.parse(name), action)


class StoredTrust:
    """`distsql.contract.Trust` over the catalogue."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: StoredNamespace) -> None:
        self._namespace = namespace

    async def signatures(self, name: str, digest: Digest) -> Sequence[SignatureRelation]:
        """Every signature that the repository has of the content."""
        context = self._namespace._context(name)  # noqa: SLF001  # one module, one thing
        repository = await context.find()
        if repository is None:
            return []
        rows = await context.database.pull(signatures.list_signature_relations, repository, digest)
        return [SignatureRelation(row.kind, digest, row.digest, row.created_at) for row in rows]


class StoredIndex:
    """`distsql.contract.Index` over the catalogue."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: StoredNamespace) -> None:
        self._namespace = namespace

    async def holders(self, digest: Digest, *, after: str = "") -> AsyncIterator[str]:
        """Full names of the repositories in the scope that hold the content."""
        backend = self._namespace._backend  # noqa: SLF001  # one module, one thing
        authority = self._namespace._caller.authority  # noqa: SLF001
        tenant = self._namespace._listed_tenant()  # noqa: SLF001
        if tenant is None:
            return
        database = backend.database.of(tenant) if tenant else backend.everything

        async def fetch(last: tuple[str, str], size: int) -> list[HolderRow]:
            return await database.read(layers.list_holders, digest, tenant=tenant or None, after=last, limit=size)

        bound = full_name_bound(after)
        async for row in iterate(fetch, lambda row: (row.tenant, row.path), after=bound, limit=None):
            if authority.lists(RepositoryName(row.tenant, row.path)):
                yield f"{row.tenant}/{row.path}"
