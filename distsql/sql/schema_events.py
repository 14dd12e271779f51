"""Migrations in the audit: each revision's event is in the transaction of what it records, as any other's is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, MigrationInfo

    Applied = Callable[[MigrationContext, MigrationInfo, Collection[Any], Mapping[str, Any]], None]
    """What alembic calls in a revision's transaction, once it is done (`on_version_apply`)."""

# Of columns that the table has had from the first revision on.
_INSERT: Final = text(
    "insert into audit_events (tenant_id, id, actor, action, reference) "
    "values (0, (random() * 9007199254740991)::bigint, :actor, :action, :revision)"
)
_IS_THERE: Final = text("select to_regclass('audit_events') is not null")


def recorder(actor: str) -> Applied:
    """Writes who took the schema to which revision, where there is an audit to write it into."""

    def record(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
        del heads, run_args
        connection = ctx.connection
        if connection is None or not connection.scalar(_IS_THERE):  # the way back ends with no table at all
            return
        moved = {"actor": actor, "action": f"schema.{'upgrade' if step.is_upgrade else 'downgrade'}"}
        connection.execute(_INSERT, {**moved, "revision": step.up_revision_id})

    return record
