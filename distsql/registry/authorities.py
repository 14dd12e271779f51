"""What callers may do: `distsql.values.Authority` of those who have to say who they are.

What a token allows is found in two steps. When it is issued (`Authorities.grant`), grants and visibility become ids
of repositories. When it is used (`Authorities.settle`), only what can have changed since is looked at: whether
something is still public, and who got a name that was free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from distsql.oci.names import RepositoryName
from distsql.registry.grants import Grant, granted_actions
from distsql.registry.remembering import Remembered
from distsql.registry.tokens import Access
from distsql.sql import accounts, grants
from distsql.sql.database import Database
from distsql.sql.grants import AccessRow
from distsql.values import ANONYMOUS, Action, ActorKind

ALL_ACTIONS: Final = frozenset(Action)
_NOTHING: Final[frozenset[Action]] = frozenset()
_PULL: Final = frozenset({Action.PULL})


@dataclass(frozen=True, slots=True)
class Account:
    """An account that counts, as it was a moment ago."""

    key: tuple[int, int]
    """The tenant's id and the account's."""
    tenant: str
    name: str
    expires_at: datetime | None
    generation: int
    secret_generation: int
    grants: tuple[Grant, ...]
    kind: str = "person"

    @property
    def login(self) -> str:
        """The name that it logs in by, which audit and tag history remember."""
        return f"{self.tenant}/{self.name}"


class Settled(NamedTuple):
    """What may be done under one name, in one request: in this repository, or in whichever has the name."""

    actions: frozenset[Action]
    repository_id: int | None = None


_REFUSED: Final = Settled(_NOTHING)
_NONE: Final[Mapping[str, Settled]] = {}


class GrantedAuthority:
    """Of an account, or without one of everybody, for the names of one request or of one token. It never changes."""

    # Each request asks for most of this, and the same one for thousands of requests.
    __slots__ = ("account", "account_id", "actor", "actor_kind", "readable_ids", "settled", "tenant")

    def __init__(
        self, account: Account | None, settled: Mapping[str, Settled] = _NONE, readable_ids: Collection[int] = ()
    ) -> None:
        self.account = account
        self.settled = settled
        """By the repository's full name: one that isn't here may not be touched."""
        self.readable_ids = readable_ids
        self.actor = account.login if account else ANONYMOUS
        """As audit and tag history remember it."""
        self.actor_kind = _kind(account)
        """As pulls are counted."""
        self.tenant = account.tenant if account else ""
        """The account's; everybody is shown nobody's."""
        self.account_id = account.key[1] if account else 0
        """The account's, which a later one of its name doesn't have; 0 is nobody's."""

    @property
    def listed(self) -> Sequence[str]:
        """Patterns of what the account may pull from, by its grants as they are now."""
        return [grant.pattern for grant in self.account.grants if Action.PULL in grant.actions] if self.account else []

    def allows(self, name: RepositoryName, action: Action) -> bool:
        """Whether that was settled for this request."""
        return action in self.settled.get(str(name), _REFUSED).actions

    def lists(self, name: RepositoryName) -> bool:
        """Whether the account may pull from it, by its grants as they are now."""
        return self.account is not None and Action.PULL in granted_actions(self.account.grants, name)

    def repository_id(self, name: RepositoryName) -> int | None:
        """The one that was settled for this request."""
        return self.settled.get(str(name), _REFUSED).repository_id

    def tenant_id(self, tenant: str) -> int | None:
        """That of the account's tenant: it was read with the account, and with it whether it is suspended."""
        account = self.account
        return account.key[0] if account is not None and account.tenant == tenant else None


class Authorities:
    """Makes them, from the catalogue as each tenant sees it."""

    __slots__ = ("_database", "_public")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._public: Remembered[int, bool] = Remembered()

    async def grant(
        self, account: Account | None, wanted: Mapping[RepositoryName, frozenset[Action]]
    ) -> dict[str, Access]:
        """The part of what is wanted that an account, or everybody, may have now; by the repository's full name."""
        paths: dict[str, list[str]] = {}
        for name in wanted:
            paths.setdefault(name.tenant, []).append(name.path)
        pages = await asyncio.gather(*(self._list_accesses(account, tenant, some) for tenant, some in paths.items()))
        found = {}
        for tenant, rows in zip(paths, pages, strict=True):
            for row in rows:
                name = RepositoryName(tenant, row.path)
                access = _access(account, name, wanted[name], row)
                if access is not None:
                    found[str(name)] = access
        return found

    async def _list_accesses(self, account: Account | None, tenant: str, paths: Sequence[str]) -> Sequence[AccessRow]:
        if account is not None and account.tenant == tenant:
            tenant_id: int | None = account.key[0]
        else:  # asked each time: what is remembered of some tenants would tell that they are there
            tenant_id = await self._database.read(accounts.find_tenant_id, tenant)
        return await self._database.read_as(tenant_id, grants.list_accesses, tenant, paths)

    async def settle(
        self, account: Account | None, accesses: Mapping[str, Access], names: Collection[RepositoryName]
    ) -> GrantedAuthority:
        """What was granted, as it counts now, under the names of a request. Reads nothing in the usual case."""
        settled = {str(name): await self._settle(accesses.get(str(name))) for name in names}
        return GrantedAuthority(account, settled, _readable(accesses))

    def settle_for_long(self, account: Account, accesses: Mapping[str, Access]) -> GrantedAuthority:
        """What was granted that is as true later: in repositories of known ids, and not for being public."""
        settled = {
            name: Settled(access.actions, access.repository_id)
            for name, access in accesses.items()
            if access.repository_id is not None and not access.public
        }
        return GrantedAuthority(account, settled, _readable(accesses))

    async def _settle(self, access: Access | None) -> Settled:
        if access is None:
            return _REFUSED
        if access.repository_id is not None:
            public = access.public and await self._is_public(access.tenant_id, access.repository_id)
            return Settled(access.actions | _PULL if public else access.actions, access.repository_id)
        if access.since is None:
            return _REFUSED
        first = await self._database.read_as(
            access.tenant_id, grants.find_first_repository, access.tenant_id, access.name, access.since
        )
        return _REFUSED if first.taken else Settled(access.actions, first.id)

    async def _is_public(self, tenant_id: int, repository_id: int) -> bool:
        public = self._public.find(repository_id)
        if public is None:
            row = await self._database.read_as(tenant_id, grants.find_public_repository, tenant_id, repository_id)
            public = row is not None
            self._public.add(repository_id, public)
        return public


def _kind(account: Account | None) -> ActorKind:
    if account is None:
        return "anonymous"
    return "account" if account.kind == "person" else "robot"


def _readable(accesses: Mapping[str, Access]) -> list[int]:
    return [each.repository_id for each in accesses.values() if each.repository_id and Action.PULL in each.actions]


def _access(account: Account | None, name: RepositoryName, wanted: frozenset[Action], row: AccessRow) -> Access | None:
    """What an account may do of what it wants. Its grants are for its own tenant's id, whoever has the name now."""
    own = account is not None and account.key[0] == row.tenant_id
    actions = wanted & granted_actions(account.grants, name) if own and account else _NOTHING
    public = row.public and Action.PULL in wanted - actions
    if row.repository_id is None:
        # A name that is free is nobody's but its tenant's.
        return Access(name, actions, None, row.tenant_id, since=row.at) if actions else None
    return Access(name, actions, row.repository_id, row.tenant_id, public=public) if actions or public else None
