"""Who asks: secrets and tokens, against the catalogue.

In the usual case a request with a token reads nothing: what was verified, accounts' states and keys are remembered for
a moment (`distsql.registry.remembering`, `distsql.registry.account_states`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from distsql.errors import AccountInvalidError, CredentialsInvalidError
from distsql.registry.account_states import AccountStates
from distsql.registry.accounts import Login
from distsql.registry.authorities import Account
from distsql.registry.credentials import is_secret
from distsql.registry.remembering import Remembered
from distsql.registry.signing_keys import KeyRing, SigningKeys
from distsql.registry.tokens import (
    ACCESS_LIFETIME,
    REFRESH_LIFETIME,
    Access,
    RefreshToken,
    Token,
    decode_refresh_token,
    decode_token,
    encode_refresh_token,
    encode_token,
)
from distsql.sql import accounts
from distsql.sql.database import Database
from distsql.values import Caller

# Each takes 19 MiB for tens of milliseconds: who tries many secrets waits in line.
_HASHES_AT_ONCE: Final = 2
_RIGHT_S: Final = 60
_SERVER: Final = Caller(actor="server")


class Authenticator:
    """Of one process. ``database`` shows one tenant at a time, ``everything`` is the owner's."""

    def __init__(self, database: Database, everything: Database, *, service: str) -> None:
        self.service = service
        self._database = database
        self._signing_keys = SigningKeys(everything, _SERVER)
        self._accounts = AccountStates(database, everything)
        self._rings: Remembered[str, KeyRing] = Remembered()
        self._tokens: Remembered[bytes, Token] = Remembered()
        # Secrets that were right, as a hash under a key of this process alone: argon2 takes too long for each request.
        self._right: Remembered[bytes, tuple[tuple[int, int], int]] = Remembered()
        self._loading = asyncio.Lock()
        self._pepper = secrets.token_bytes(32)
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)

    async def close(self) -> None:
        """Writes down who was here."""
        await self._accounts.close()

    async def keys(self) -> KeyRing:
        """The keys that sign and verify; the first is made on first use."""
        found = self._rings.find("")
        if found is not None:
            return found
        async with self._loading:  # one of those that want them at the same time
            found = self._rings.find("") or await self._signing_keys.load()
            self._rings.add("", found)
        return found

    async def log_in(self, login: str, secret: str) -> Account:
        """The account of this name and secret. Raises `CredentialsInvalidError`, whatever is wrong.

        Only whoever knows the secret hears `TenantSuspendedError`.
        """
        proof = hmac.digest(self._pepper, f"{login}\0{secret}".encode(errors="replace"), "sha256")
        known = self._right.find(proof)
        if known is not None:
            account = await self._accounts.get(known[0])
            if account.secret_generation == known[1] and account.login == login:
                return account
        key = await self._find_key(login, secret)
        if key is None:
            raise CredentialsInvalidError("No account has this name and secret, or it is disabled or has expired")
        account = await self._accounts.read(key)
        self._right.add(proof, (key, account.secret_generation), seconds=_RIGHT_S)
        return account

    async def _find_key(self, login: str, secret: str) -> tuple[int, int] | None:
        """The ids of the account; as long in coming when there is none, so that nobody learns who exists."""
        try:
            named = Login.parse(login)
        except AccountInvalidError:
            return None
        # By the id, which a suspended tenant has too: whoever has no right secret hears nothing of that.
        tenant_id = await self._database.read(accounts.find_tenant_id, named.tenant)
        row = await self._database.read_as(tenant_id, accounts.find_credential, named.tenant, named.name)
        async with self._hashing:
            right = await asyncio.to_thread(is_secret, secret, row.secret_hash if row else None)
        return (row.tenant_id, row.id) if row and right else None

    async def issue(
        self, account: Account | None, accesses: Mapping[str, Access], *, catalog: bool = False
    ) -> tuple[str, datetime]:
        """An access token as text, and when it ends."""
        now = datetime.now(UTC)
        expires_at = now + ACCESS_LIFETIME
        key, generation = (account.key, account.generation) if account else (None, 0)
        token = Token(key, generation, expires_at, accesses, catalog=catalog)
        return encode_token(token, await self.keys(), service=self.service, now=now), expires_at

    async def issue_refresh_token(self, account: Account) -> str:
        """What stands for the account's secret where access tokens are asked for."""
        now = datetime.now(UTC)
        token = RefreshToken(account.key, account.secret_generation, now + REFRESH_LIFETIME)
        return encode_refresh_token(token, await self.keys(), service=self.service, now=now)

    async def read_token(self, text: str) -> tuple[Token, Account | None]:
        """An access token that counts, and its account, with its grants as they are now.

        Raises `CredentialsInvalidError`, `TenantSuspendedError`.
        """
        token = await self._verified(text)
        if token.account is None:
            return token, None
        account = await self._accounts.get(token.account)
        if account.generation < token.generation:  # of a login elsewhere, after a change that isn't known here yet
            account = await self._accounts.read(token.account)
        if account.generation != token.generation:
            raise CredentialsInvalidError("The account's rights have changed: ask for another token")
        return token, account

    def counts(self, token: Token, account: Account | None) -> bool:
        """Whether what `read_token` gave earlier counts still, for the very same account, as far as is known here."""
        ring = self._rings.find("")
        key = ring.verifying.get(token.kid) if ring else None
        if key is None or account is None:
            return False
        now = datetime.now(UTC)
        if token.expires_at <= now or (key.expires_at is not None and key.expires_at <= now):
            return False
        return self._accounts.find(account.key) is account

    async def _verified(self, text: str) -> Token:
        """Remembered or not, a token ends with its time and with its key's."""
        keys, now = await self.keys(), datetime.now(UTC)
        fingerprint = hashlib.sha256(text.encode(errors="replace")).digest()
        token = self._tokens.find(fingerprint)
        key = keys.verifying.get(token.kid) if token else None
        ends = [each.expires_at for each in (token, key) if each is not None and each.expires_at is not None]
        if token is not None and key is not None and min(ends) > now:
            return token
        token = decode_token(text, keys, service=self.service, now=now)
        seconds = (token.expires_at - now).total_seconds()
        self._tokens.add(fingerprint, token, seconds=seconds, length=len(text))
        return token

    async def read_refresh_token(self, text: str) -> Account:
        """The account of a refresh token that counts. Raises `CredentialsInvalidError`."""
        token = decode_refresh_token(text, await self.keys(), service=self.service, now=datetime.now(UTC))
        account = await self._accounts.read(token.account)
        if account.secret_generation != token.generation:
            raise CredentialsInvalidError("The account's secret has changed: log in again")
        return account
