"""A registry's repositories by name, and the facilities that belong to all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import httpx

from distsql.contract import Scope
from distsql.errors import NameInvalidError, NameUnknownError
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.remote.connection import Address, Connection
from distsql.remote.repositories import RemoteRepository
from distsql.values import GLOBAL_SCOPE, Action, Caller, SignatureRelation


class RemoteNamespace:
    """`distsql.contract.Namespace` over HTTP. The client brings the registry's address and the credentials."""

    __slots__ = ("_connection", "_scope")

    def __init__(self, connection: Connection, scope: Scope = GLOBAL_SCOPE) -> None:
        self._connection = connection
        self._scope = scope

    def scope(self) -> Scope:
        """Which names belong to it."""
        return self._scope

    def acting_as(self, caller: Caller) -> RemoteNamespace:
        """The same on behalf of another caller. The registry believes it only from a gate that it trusts."""
        return RemoteNamespace(self._connection.acting_as(caller), self._scope)

    def repository(self, name: str) -> RemoteRepository:
        """A reference to a repository that need not exist."""
        return RemoteRepository(self._address(name))

    def _address(self, name: str) -> Address:
        RepositoryName.parse(name)
        if not self._scope.contains(name):
            raise NameUnknownError(f"There is no repository {name}", detail={"name": name})
        return Address(self._connection, name)

    def repositories(self, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the repositories in the scope, as the registry lists them."""
        return self._names("/v2/_catalog", after=after, limit=limit)

    async def _names(self, path: str, *, after: str, limit: int | None) -> AsyncIterator[str]:
        """The names in the scope: a tenant's stand together, behind its own name with a slash."""
        prefix = f"{self._scope.name}/" if self._scope.name else ""
        left = limit
        async for name in self._connection.names(path, "repositories", after=max(after, prefix), limit=limit):
            if left == 0 or not name.startswith(prefix):
                return
            yield name
            left = None if left is None else left - 1

    @property
    def access(self) -> RemoteAccess:
        """What the caller may do."""
        return RemoteAccess(self)

    @property
    def trust(self) -> RemoteTrust:
        """Which signatures there are."""
        return RemoteTrust(self)

    @property
    def index(self) -> RemoteIndex:
        """Where content is."""
        return RemoteIndex(self)


class RemoteAccess:
    """`distsql.contract.Access` over HTTP."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: RemoteNamespace) -> None:
        self._namespace = namespace

    async def allows(self, name: str, action: Action) -> bool:
        """Whether the caller may do this in the repository."""
        try:
            address = self._namespace._address(name)  # noqa: SLF001  # one module, one thing
        except (NameInvalidError, NameUnknownError):
            return False
        answer = await address.connection.get(await address.extension("access"))
        return action.value in answer.names("actions")


class RemoteTrust:
    """`distsql.contract.Trust` over HTTP."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: RemoteNamespace) -> None:
        self._namespace = namespace

    async def signatures(self, name: str, digest: Digest) -> Sequence[SignatureRelation]:
        """Every signature that the repository has of the content."""
        address = self._namespace._address(name)  # noqa: SLF001  # one module, one thing
        answer = await address.connection.get(await address.extension("manifests", str(digest), "trust"))
        with answer.understood() as told:
            return [
                SignatureRelation(
                    each["kind"], digest, Digest.parse(each["digest"]), datetime.fromisoformat(each["created_at"])
                )
                for each in told["signatures"]
            ]


class RemoteIndex:
    """`distsql.contract.Index` over HTTP."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: RemoteNamespace) -> None:
        self._namespace = namespace

    async def holders(self, digest: Digest, *, after: str = "") -> AsyncIterator[str]:
        """Full names of the repositories in the scope that hold the content."""
        namespace = self._namespace
        await namespace._connection.require_extension()  # noqa: SLF001  # one module, one thing
        async for name in namespace._names(f"/v2/_distsql/holders/{digest}", after=after, limit=None):  # noqa: SLF001
            yield name


@asynccontextmanager
async def connect(url: str, *, auth: httpx.Auth | tuple[str, str] | None = None) -> AsyncIterator[RemoteNamespace]:
    """The registry at this address, such as ``http://127.0.0.1:5000``."""
    async with httpx.AsyncClient(base_url=url, auth=auth, timeout=60) as client:
        yield RemoteNamespace(Connection(client, Caller()))
