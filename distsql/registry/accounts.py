"""Accounts and their grants, for whoever runs the registry. A secret is given once, when it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from distsql.errors import (
    AccountExistsError,
    AccountInvalidError,
    AccountUnknownError,
    GrantInvalidError,
    NameInvalidError,
    TenantUnknownError,
)
from distsql.oci.names import RepositoryName
from distsql.registry.administration import Administration
from distsql.registry.credentials import hash_secret, new_secret
from distsql.registry.grants import Grant, gather
from distsql.sql import access_changes, accounts, audit, grants, repositories
from distsql.sql.accounts import AccountRow
from distsql.sql.database import transactional
from distsql.sql.transactions import Transaction

KINDS: Final = ("person", "robot", "token")


class Login(NamedTuple):
    """A login name in its two parts."""

    tenant: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Login:
        """Reads ``TENANT/NAME``, two components of a repository's name; else `AccountInvalidError`."""
        tenant, _, name = text.partition("/")
        try:
            if "/" not in name and str(RepositoryName.parse(text)) == text:
                return cls(tenant, name)
        except NameInvalidError:
            pass
        raise AccountInvalidError(f"{text[:80]!r} is no login name: write TENANT/NAME, in lower case")

    def __str__(self) -> str:
        """As people log in."""
        return f"{self.tenant}/{self.name}"


class Accounts(Administration):
    """Every account there is: a service of the owner's."""

    __slots__ = ()

    async def create(
        self, login: str, *, kind: str, granted: Sequence[Grant] = (), lifetime: timedelta | None = None
    ) -> str:
        """Makes an account and gives its secret, which nobody can read again.

        Raises `AccountInvalidError`, `AccountExistsError`, `TenantUnknownError`, `GrantInvalidError`.
        """
        named = Login.parse(login)
        for grant in granted:
            _check_tenant(named, grant)
        secret = new_secret()
        secret_hash = await asyncio.to_thread(hash_secret, secret)
        await self._create(named, kind, secret_hash, granted, lifetime)
        return secret

    @transactional
    async def _create(
        self,
        tx: Transaction,
        login: Login,
        kind: str,
        secret_hash: str,
        granted: Sequence[Grant],
        lifetime: timedelta | None,
    ) -> None:
        tenant_id = await repositories.find_tenant(tx, login.tenant)
        if tenant_id is None:
            raise TenantUnknownError(
                f"There is no tenant {login.tenant}: `distsql tenant create {login.tenant}` makes it"
            )
        account_id = await accounts.insert_account(
            tx, tenant_id, login.name, kind=kind, secret_hash=secret_hash, lifetime=lifetime
        )
        if account_id is None:
            raise AccountExistsError(
                f"There is an account {login} already: `distsql account rotate` gives a new secret"
            )
        for grant in granted:
            grants.insert_grants(tx, tenant_id, account_id, grant.pattern, sorted(grant.actions))
        self._audit(tx, tenant_id, "account.create", login, *map(str, granted))

    async def list(self, tenant: str = "") -> list[AccountRow]:
        """The accounts of a tenant, or of all."""
        return await self.database.read(accounts.list_accounts, tenant=tenant)

    async def get(self, login: str) -> AccountRow:
        """One account. Raises `AccountUnknownError`."""
        named = Login.parse(login)
        row = await self.database.read(accounts.find_account, named.tenant, named.name)
        if row is None:
            raise AccountUnknownError(f"There is no account {named}")
        return row

    async def grants(self, login: str) -> Sequence[Grant]:
        """What the account may do. Raises `AccountUnknownError`."""
        account = await self.get(login)
        return gather(account.tenant, await self.database.read(grants.list_grants, account))

    async def rotate(self, login: str) -> str:
        """Gives the account another secret: the one before and every token that came of it are void."""
        account, secret = await self.get(login), new_secret()
        await self._rotate(account, await asyncio.to_thread(hash_secret, secret))
        return secret

    @transactional
    async def _rotate(self, tx: Transaction, account: AccountRow, secret_hash: str) -> None:
        accounts.set_secret(tx, account, secret_hash)
        access_changes.insert_access_change(tx, account.tenant_id, account.id)
        self._audit(tx, account.tenant_id, "account.rotate", _login(account))

    async def set_disabled(self, login: str, *, off: bool) -> None:
        """Switches the account off, with all its tokens, or on again: for a new login."""
        await self._set_disabled(await self.get(login), off=off)

    @transactional
    async def _set_disabled(self, tx: Transaction, account: AccountRow, *, off: bool) -> None:
        accounts.set_disabled(tx, account, off=off)
        access_changes.insert_access_change(tx, account.tenant_id, account.id)
        self._audit(tx, account.tenant_id, "account.disable" if off else "account.enable", _login(account))

    async def delete(self, login: str) -> None:
        """Removes the account with its grants. One that gets its name later has nothing of it."""
        await self._delete(await self.get(login))

    @transactional
    async def _delete(self, tx: Transaction, account: AccountRow) -> None:
        accounts.delete_account(tx, account)
        access_changes.insert_access_change(tx, account.tenant_id, account.id)
        self._audit(tx, account.tenant_id, "account.delete", _login(account))

    async def grant(self, login: str, grant: Grant) -> None:
        """Allows the account more. Raises `AccountUnknownError`, `GrantInvalidError`."""
        account = await self.get(login)
        _check_tenant(_login(account), grant)
        await self._grant(account, grant)

    @transactional
    async def _grant(self, tx: Transaction, account: AccountRow, grant: Grant) -> None:
        grants.insert_grants(tx, account.tenant_id, account.id, grant.pattern, sorted(grant.actions))
        access_changes.insert_access_change(tx, account.tenant_id, account.id)
        self._audit(tx, account.tenant_id, "grant.add", _login(account), str(grant))

    async def revoke(self, login: str, grant: Grant) -> None:
        """Takes back what was granted with this very pattern; access tokens that may name it are void.

        Raises `AccountUnknownError`, `GrantInvalidError` when nothing of it was granted.
        """
        account = await self.get(login)
        _check_tenant(_login(account), grant)
        await self._revoke(account, grant)

    @transactional
    async def _revoke(self, tx: Transaction, account: AccountRow, grant: Grant) -> None:
        if not await grants.delete_grants(tx, account, grant.pattern, sorted(grant.actions)):
            raise GrantInvalidError(f"{_login(account)} has no grant {grant}: `distsql grant list` has what there is")
        accounts.raise_generation(tx, account)
        access_changes.insert_access_change(tx, account.tenant_id, account.id)
        self._audit(tx, account.tenant_id, "grant.remove", _login(account), str(grant))

    def _audit(self, tx: Transaction, tenant_id: int, action: str, login: Login, *granted: str) -> None:
        references = [" ".join((str(login), each)) for each in granted] or [str(login)]
        audit.insert_audit_events(tx, tenant_id, action, caller=self._caller, repository=None, references=references)


def _login(account: AccountRow) -> Login:
    return Login(account.tenant, account.name)


def _check_tenant(login: Login, grant: Grant) -> None:
    if grant.tenant != login.tenant:
        raise GrantInvalidError(
            f"{grant} is about another tenant than {login}'s: an account has rights in its own only"
        )
