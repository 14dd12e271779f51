"""A tenant's own role of PostgreSQL's: for reading its reports in SQL, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
from datetime import timedelta
from typing import Final, NamedTuple

from distsql.errors import TenantSuspendedError, TenantUnknownError
from distsql.registry.administration import Administration
from distsql.sql import audit, sql_roles, tenants
from distsql.sql.database import Database, transactional
from distsql.sql.tenants import LockedTenantRow
from distsql.sql.transactions import Transaction

TIMEOUT: Final = timedelta(seconds=30)
_log: Final = logging.getLogger("distsql")
_ITERATIONS: Final = 4096  # PostgreSQL's own; the password is random, and long


class SqlCredentials(NamedTuple):
    """What a tenant's own role logs in with; nobody can read the password again."""

    role: str
    password: str


class SqlAccess(Administration):
    """Tenants' own roles: a service of the owner's. All methods raise `TenantUnknownError`."""

    __slots__ = ()

    @transactional
    async def grant(self, tx: Transaction, name: str, *, longest: timedelta = TIMEOUT) -> SqlCredentials:
        """Gives the tenant a role, a new one each time: what was given before opens and shows nothing any more.

        ``longest`` is the time that a statement of it may take. Its name tells nobody whose it is, for PostgreSQL shows
        the names of all roles to everybody. Raises `TenantSuspendedError`, and `SettingsError` when the catalogue's
        user may not make roles.
        """
        tenant = await self._lock(tx, name)
        if tenant.suspended:
            raise TenantSuspendedError(f"{name} is suspended: `distsql tenant resume {name}` comes first")
        made = SqlCredentials(f"distsql_sql_{secrets.token_hex(8)}", secrets.token_urlsafe(24))
        verifier = scram_verifier(made.password)
        await sql_roles.replace_sql_role(tx, tenant.id, made.role, verifier=verifier, longest=longest)
        self._audit(tx, tenant.id, "tenant.sql-access", made.role)
        return made

    @transactional
    async def revoke(self, tx: Transaction, name: str) -> None:
        """Takes the tenant's role away, if it has one."""
        tenant = await self._lock(tx, name)
        if await sql_roles.remove_sql_role(tx, tenant.id):
            self._audit(tx, tenant.id, "tenant.sql-revoke", name)

    async def _lock(self, tx: Transaction, name: str) -> LockedTenantRow:
        tenant = await tenants.lock_tenant(tx, name)
        if tenant is None:
            raise TenantUnknownError(f"There is no tenant {name[:80]!r}: `distsql tenant create` makes it")
        return tenant

    def _audit(self, tx: Transaction, tenant_id: int, action: str, reference: str) -> None:
        audit.insert_audit_events(tx, tenant_id, action, caller=self._caller, repository=None, references=(reference,))


async def end_long_sessions(database: Database) -> None:
    """Ends sessions of tenants' own roles that lifted their timeouts, or keep locks that servers need."""
    for row in await database.transact(sql_roles.end_sql_sessions):
        _log.warning("A session of %s was ended: it took too long, or kept an advisory lock", row.role_name)


def scram_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5802): so the password itself never gets into a statement or a log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = [base64.b64encode(part).decode() for part in (salt, hashlib.sha256(client_key).digest(), server_key)]
    return f"SCRAM-SHA-256${_ITERATIONS}:{parts[0]}${parts[1]}:{parts[2]}"
