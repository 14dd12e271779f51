"""Tenants' own roles keep their timeouts although they may lift them: servers end what takes longer.

Roles that are made from now on can be looked after by the catalogue's user also where that is no superuser, and make
no large objects where it is one. Those that were made before may take 30 seconds.

Revises 0033.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

BEFORE: str = runpy.run_path(str(Path(__file__).with_name("2026_11_26_report_roles.py")))["MAKE_SQL_ROLE"].replace(
    "create function", "create or replace function"
)
LOOKED_AFTER = """
    -- Who may end a session of it, and see how long that has worked: members of the role. A superuser is.
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant %I to %I', wanted, current_user);
    end if;
    -- Large objects would let a tenant fill the disk, as temporary tables would. They are a superuser's to forbid.
    begin
        revoke execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) from public;
    exception when insufficient_privilege then null;
    end;
end $$
"""
AFTER = BEFORE.rstrip().removesuffix("end $$") + LOOKED_AFTER.removeprefix("\n")
ALLOW = """
do $$ begin
    grant execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) to public;
exception when insufficient_privilege then null;
end $$
"""


def upgrade() -> None:
    """A column with a constant default, which is instant, and the function."""
    op.add_column(
        "sql_roles",
        sa.Column(
            "timeout_ms",
            sa.BigInteger(),
            server_default=sa.text("30000"),
            nullable=False,
            comment="How long a statement or transaction of it may take, whatever the role sets itself.",
        ),
    )
    op.execute(AFTER)


def downgrade() -> None:
    """The function before; large objects are everybody's again."""
    op.execute(BEFORE)
    op.execute(ALLOW)
    op.drop_column("sql_roles", "timeout_ms")
