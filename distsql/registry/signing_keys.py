"""Keys that sign tokens: made on first start, kept in the catalogue, rotated by whoever runs the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from joserfc.jwk import ECKey

from distsql.errors import SettingsError
from distsql.registry.administration import Administration
from distsql.sql import audit, signing_keys
from distsql.sql.database import transactional
from distsql.sql.signing_keys import SigningKeyRow
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction

ALGORITHM: Final = "ES256"
GRACE: Final = timedelta(days=31)
"""How long a retired key's tokens count, unless told otherwise: refresh tokens live up to 30 days."""


class SigningKey(NamedTuple):
    """A key in use; ``expires_at`` when it was retired."""

    kid: str
    key: ECKey
    expires_at: datetime | None


class KeyRing(NamedTuple):
    """The key that signs, and all that verify, by their names."""

    signing: SigningKey
    verifying: dict[str, SigningKey]

    @classmethod
    def of(cls, keys: Sequence[SigningKey]) -> KeyRing:
        """The keys together. Raises `SettingsError` when none of them signs."""
        signing = next((key for key in keys if key.expires_at is None), None)
        if signing is None:
            raise SettingsError("No key signs tokens: `distsql key rotate` makes one")
        return cls(signing, {key.kid: key for key in keys})

    def says_as(self, other: KeyRing) -> bool:
        """Whether the same keys sign and verify, for as long."""
        return self._said() == other._said()

    def _said(self) -> tuple[str, Mapping[str, datetime | None]]:
        return self.signing.kid, {kid: key.expires_at for kid, key in self.verifying.items()}


def new_key() -> SigningKey:
    """A key on P-256, called after its thumbprint (RFC 7638)."""
    key = ECKey.generate_key("P-256")
    return SigningKey(key.thumbprint(), key, None)


class SigningKeys(Administration):
    """The registry's keys: a service of the owner's. No role that serves may read them."""

    __slots__ = ()

    async def load(self) -> KeyRing:
        """The keys that count now; the first is made here."""
        rows = await self.list()
        if all(row.retired_at for row in rows):
            await self._add()
            rows = await self.list()
        return KeyRing.of([_key(row) for row in rows])

    async def list(self) -> Sequence[SigningKeyRow]:
        """The newest first."""
        return await self.database.read(signing_keys.list_signing_keys)

    @transactional
    async def _add(self, tx: Transaction) -> None:
        self._insert(tx)
        self._audit(tx, "key.create")

    @transactional
    async def rotate(self, tx: Transaction, *, grace: timedelta = GRACE) -> None:
        """Makes a key that signs from now on. What the one before has signed counts for the grace."""
        signing_keys.retire_signing_keys(tx, grace=grace)
        self._insert(tx)
        self._audit(tx, "key.rotate")

    def _insert(self, tx: Transaction) -> None:
        made = new_key()
        private_key = made.key.as_pem(private=True).decode()
        signing_keys.insert_signing_key(tx, kid=made.kid, algorithm=ALGORITHM, private_key=private_key)

    def _audit(self, tx: Transaction, action: str) -> None:
        audit.insert_audit_events(tx, SERVER_TENANT_ID, action, caller=self._caller, repository=None)


def _key(row: SigningKeyRow) -> SigningKey:
    return SigningKey(row.kid, ECKey.import_key(row.private_key), row.expires_at)
