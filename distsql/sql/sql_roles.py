"""Roles of PostgreSQL's own that read reports: all tenants' auditors, and one role for each tenant that wants it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import BigInteger, Boolean, Text, case, delete, func, null, select, text, update
from sqlalchemy.dialects.postgresql import insert

from distsql.errors import SettingsError
from distsql.sql.access_tables import sql_roles
from distsql.sql.retries import first_line
from distsql.sql.statements import TENANT_ID, Nothing, parameter, statement
from distsql.sql.transactions import Transaction

AUDITOR_ROLE: Final = "distsql_auditor"
"""Reads every tenant's rows, and nothing that is secret. Nobody logs in as it: people's roles are made members."""

READER_ROLE: Final = "distsql_reader"
"""What tenants' own roles are members of. It sees what belongs to the tenant of the role that asks."""

_ROLE: Final = parameter("role", Text())
_URL_PARTS: Final = {"user", "password", "passfile", "dbname", "options", "application_name"}


class SqlRoleRow(NamedTuple):
    """A tenant's own role."""

    role_name: str


class _DoneRow(NamedTuple):
    nothing: object


FIND_SQL_ROLE: Final = statement(
    "find_sql_role",
    "A tenant's own role of PostgreSQL's.",
    select(sql_roles.c.role_name).where(sql_roles.c.tenant_id == TENANT_ID),
    SqlRoleRow,
)

MAKE_SQL_ROLE: Final = statement(
    "make_sql_role",
    "A role of PostgreSQL's that logs in and reads reports; of whom, the binding says.",
    select(func.make_sql_role(_ROLE, parameter("verifier", Text()), parameter("timeout_ms", BigInteger()))),
    _DoneRow,
)

DROP_SQL_ROLE: Final = statement(
    "drop_sql_role", "A tenant's own role is no more.", select(func.drop_sql_role(_ROLE)), _DoneRow
)

OPEN_SQL_ROLE: Final = statement(
    "open_sql_role",
    "Whether a tenant's own role may log in.",
    select(func.open_sql_role(_ROLE, parameter("opened", Boolean()))),
    _DoneRow,
)

_TIMEOUT: Final = parameter("timeout_ms", BigInteger())
_bound = insert(sql_roles).values(tenant_id=TENANT_ID, role_name=_ROLE, timeout_ms=_TIMEOUT)

BIND_SQL_ROLE: Final = statement(
    "bind_sql_role",
    "A tenant's rows are shown to this role, and to no earlier one any more.",
    _bound.on_conflict_do_update(
        index_elements=[sql_roles.c.tenant_id],
        set_={
            "role_name": _bound.excluded.role_name,
            "created_at": func.now(),
            "closed_at": null(),
            "timeout_ms": _bound.excluded.timeout_ms,
        },
    ),
    Nothing,
)

UNBIND_SQL_ROLE: Final = statement(
    "unbind_sql_role",
    "A tenant's rows are shown to no role of its own any more.",
    delete(sql_roles).where(sql_roles.c.tenant_id == TENANT_ID).returning(sql_roles.c.role_name),
    SqlRoleRow,
)

CLOSE_SQL_ROLE: Final = statement(
    "close_sql_role",
    "A tenant's own role sees nothing, or sees its rows again.",
    update(sql_roles)
    .where(sql_roles.c.tenant_id == TENANT_ID)
    .values(closed_at=case((parameter("closed", Boolean()), func.now()), else_=null()))
    .returning(sql_roles.c.role_name),
    SqlRoleRow,
)


async def replace_sql_role(tx: Transaction, tenant_id: int, role: str, *, verifier: str, longest: timedelta) -> None:
    """Makes the role the tenant's; an earlier one is dropped. `SettingsError` when the owner may not make roles."""
    earlier = await tx.one(FIND_SQL_ROLE, tenant_id=tenant_id)
    timeout_ms = int(longest.total_seconds() * 1000)
    try:
        await tx.one(MAKE_SQL_ROLE, role=role, verifier=verifier, timeout_ms=timeout_ms)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsError(
            f"The catalogue's user may not make roles ({first_line(error)}): let an administrator of its PostgreSQL "
            f"run `alter role ... createrole` and `grant {READER_ROLE} to ... with admin option`"
        ) from error
    tx.queue(BIND_SQL_ROLE, tenant_id=tenant_id, role=role, timeout_ms=timeout_ms)
    if earlier is not None:
        tx.queue(DROP_SQL_ROLE, role=earlier.role_name)


async def remove_sql_role(tx: Transaction, tenant_id: int) -> bool:
    """Drops the tenant's own role; whether there was one."""
    row = await tx.one(UNBIND_SQL_ROLE, tenant_id=tenant_id)
    if row is not None:
        tx.queue(DROP_SQL_ROLE, role=row.role_name)
    return row is not None


async def close_sql_role(tx: Transaction, tenant_id: int, *, closed: bool) -> None:
    """Shows the tenant's own role nothing, sessions that are open included, or its rows again."""
    row = await tx.one(CLOSE_SQL_ROLE, tenant_id=tenant_id, closed=closed)
    if row is not None:
        tx.queue(OPEN_SQL_ROLE, role=row.role_name, opened=not closed)


END_SQL_SESSIONS: Final = statement(
    "end_sql_sessions",
    "Sessions of tenants' own roles end that have worked for too long, or keep what our servers lock.",
    # Roles may lift their own timeouts, and everybody may take advisory locks: PostgreSQL has no right for either.
    # Materialized: else the planner may end every session that there is, and then look whose it was.
    text(
        """
with found as materialized (
    select r.role_name, a.pid
    from sql_roles r
    join pg_stat_activity a on a.usename = r.role_name and a.datname = current_database()
    where a.state <> 'idle' and coalesce(a.xact_start, a.query_start) < now() - r.timeout_ms * interval '1 millisecond'
    or exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory')
), ended as materialized (
    select role_name, pg_terminate_backend(pid) as is_ended from found
)
select role_name from ended where is_ended
"""
    ),
    SqlRoleRow,
)


async def end_sql_sessions(tx: Transaction) -> list[SqlRoleRow]:
    """The roles whose sessions were ended. None, where the catalogue's user may not see or end them."""
    return await tx.all(END_SQL_SESSIONS)


def role_url(owner_url: str, role: str, password: str) -> str:
    """The URL of the same database for another role. Its secret is nowhere else."""
    parts = {name: str(value) for name, value in conninfo_to_dict(owner_url).items() if value is not None}
    more = {name: value for name, value in parts.items() if name not in _URL_PARTS}
    place = ""
    host = more.get("host", "")
    if host and not host.startswith("/") and "," not in host:
        port = more.pop("port", "")
        place = f"[{host}]" if ":" in host else host
        place += f":{port}" if port else ""
        del more["host"]
    query = f"?{urlencode(more, quote_via=quote, safe='/,')}" if more else ""
    return f"postgresql://{role}:{quote(password, safe='')}@{place}/{quote(parts.get('dbname', ''), safe='')}{query}"
