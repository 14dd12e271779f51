"""Who asks: secrets and tokens, against the catalogue.

In the usual case a request with a token reads nothing: what was verified, accounts' states and keys are remembered for
a moment (`distsql.registry.remembering`, `distsql.registry.account_states`).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from distsql.errors import AccountInvalidError, CredentialsInvalidError
from distsql.registry.account_states import AccountStates
from distsql.registry.accounts import Login
from distsql.registry.authorities import Account, GrantedAuthority
from distsql.registry.credentials import is_secret
from distsql.registry.remembering import Remembered
from distsql.registry.signing_keys import KeyRing, SigningKeys
from distsql.registry.standings import Standing
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


class Shown:
    """A token that was shown, verified, and all that tells whether it counts still."""

    __slots__ = ("authority", "ends", "keys", "standing", "token")

    def __init__(self, token: Token, keys: KeyRing, standing: Standing | None) -> None:
        self.token = token
        self.keys = keys
        self.standing = standing
        ends = [each.timestamp() for each in (token.expires_at, keys.verifying[token.kid].expires_at) if each]
        self.ends = min([*ends, standing.ends] if standing else ends)
        """When all that was verified has to be looked at again, in seconds since 1970."""
        self.authority: GrantedAuthority | None = None
        """What it allows whenever it counts."""

    @property
    def account(self) -> Account | None:
        """Whose it is, with its grants as they were a moment ago; None: everybody's."""
        return self.standing.account if self.standing else None


class Authenticator:
    """Of one process. ``database`` shows one tenant at a time, ``everything`` is the owner's."""

    def __init__(self, database: Database, everything: Database, *, service: str) -> None:
        self.service = service
        self._database = database
        self._signing_keys = SigningKeys(everything, _SERVER)
        self._accounts = AccountStates(database, everything)
        self._rings: Remembered[str, KeyRing] = Remembered()
        self._ring: KeyRing | None = None
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
            if self._ring is not None and found.says_as(self._ring):
                found = self._ring  # so that what was verified by it needn't be looked at again
            self._ring = found
            self._rings.add("", found)
        return found

    async def log_in(self, login: str, secret: str) -> Account:
        """The account of this name and secret. Raises `CredentialsInvalidError`, whatever is wrong.

        Only whoever knows the secret hears `TenantSuspendedError`.
        """
        proof = hmac.digest(self._pepper, f"{login}\0{secret}".encode(errors="replace"), "sha256")
        known = self._right.find(proof)
        if known is not None:
            account = (await self._accounts.get(known[0])).account
            if account.secret_generation == known[1] and account.login == login:
                return account
        key = await self._find_key(login, secret)
        if key is None:
            raise CredentialsInvalidError("No account has this name and secret, or it is disabled or has expired")
        account = (await self._accounts.read(key)).account
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

    async def read_token(self, text: str, *, before: Shown | None = None) -> Shown:
        """An access token that counts, and its account, with its grants as they are now.

        ``before`` is what this gave for the same text earlier: its signature needn't be verified again.
        Raises `CredentialsInvalidError`, `TenantSuspendedError`.
        """
        keys, now = await self.keys(), datetime.now(UTC)
        if before is not None and _lasts(keys, before.token, now):
            token = before.token
        else:
            token = decode_token(text, keys, service=self.service, now=now)
        standing = None if token.account is None else await self._stand(token.account, token.generation)
        if before is None or before.token is not token or before.keys is not keys or before.standing is not standing:
            return Shown(token, keys, standing)
        return before

    async def _stand(self, key: tuple[int, int], generation: int) -> Standing:
        standing = await self._accounts.get(key)
        if standing.account.generation < generation:  # of a login elsewhere, after a change that isn't known here yet
            standing = await self._accounts.read(key)
        if standing.account.generation != generation:
            raise CredentialsInvalidError("The account's rights have changed: ask for another token")
        return standing

    def counts(self, shown: Shown) -> bool:
        """Whether a token that was shown earlier is known to count still, for the very same account."""
        standing, now = shown.standing, time.time()
        return (
            standing is not None
            and shown.ends > now
            and shown.keys is self._rings.find("")
            and self._accounts.vouches(standing, now)
        )

    async def read_refresh_token(self, text: str) -> Account:
        """The account of a refresh token that counts. Raises `CredentialsInvalidError`."""
        token = decode_refresh_token(text, await self.keys(), service=self.service, now=datetime.now(UTC))
        account = (await self._accounts.read(token.account)).account
        if account.secret_generation != token.generation:
            raise CredentialsInvalidError("The account's secret has changed: log in again")
        return account


def _lasts(keys: KeyRing, token: Token, now: datetime) -> bool:
    """Whether a token that was verified ends neither with its time nor with its key's."""
    key = keys.verifying.get(token.kid)
    if key is None or token.expires_at <= now:
        return False
    return key.expires_at is None or key.expires_at > now
