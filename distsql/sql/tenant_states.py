"""Whether a tenant is there and may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import BigInteger, Boolean, column, func, select

from distsql.sql.statements import TENANT, statement

if TYPE_CHECKING:
    from distsql.sql.transactions import Transaction


class TenantStateRow(NamedTuple):
    """A tenant's id, None when there is no such tenant, and whether it is suspended."""

    id: int | None
    suspended: bool | None


_state = func.tenant_of(TENANT).table_valued(column("id", BigInteger), column("suspended", Boolean), name="tenant")

FIND_TENANT_STATE: Final = statement(
    "find_tenant_state",
    "The id behind a tenant's name, asked before anything of the tenant can be seen, and whether it may be used.",
    select(_state.c.id, _state.c.suspended),
    TenantStateRow,
)
_NO_TENANT: Final = TenantStateRow(None, None)


async def find_tenant_state(tx: Transaction, tenant: str) -> TenantStateRow:
    """As it is now; of one that isn't there nothing is known."""
    return await tx.one(FIND_TENANT_STATE, tenant=tenant) or _NO_TENANT
