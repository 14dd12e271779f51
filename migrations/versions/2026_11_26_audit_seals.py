"""The audit says which account and token it was, and why something was refused; seals prove that it is unchanged.

The previous version's servers write events without these, which is fine. New columns may be empty or have a constant
default, so no row is written.

Revises 0013.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
READERS = "distsql_auditor, distsql_reader"


# Only for the owner, who is the only one that may.
DROP_MONTH = """
create function drop_audit_month(wanted text) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
begin
    execute format('alter table audit_events detach partition %I', wanted);
    execute format('drop table %I', wanted);
end $$
"""


def upgrade() -> None:
    """Adds the columns and makes the table. The owner seals; everybody else looks at it at most."""
    op.execute(DROP_MONTH)
    op.execute(
        "comment on function drop_audit_month(text) is "
        "'A month of the audit, whose events are in a file, leaves the catalogue.'"
    )
    op.execute("revoke all on function drop_audit_month(text) from public")
    op.add_column(
        "audit_events",
        sa.Column(
            "account_id",
            sa.BigInteger(),
            nullable=True,
            comment="The actor's account: accounts.id; none of nobody's, or of a command.",
        ),
    )
    op.add_column(
        "audit_events",
        sa.Column("token_id", sa.Text(), nullable=True, comment="Tells tokens apart: the beginning of its SHA-256."),
    )
    op.add_column("audit_events", sa.Column("cause", sa.Text(), nullable=True, comment="Why it was refused."))
    op.add_column(
        "audit_events",
        sa.Column(
            "times",
            sa.BigInteger(),
            server_default=sa.text("1"),
            nullable=False,
            comment="How often, of refusals and logins that were alike within a few seconds.",
        ),
    )
    op.execute(f"grant select (account_id, token_id, cause, times) on audit_events to {READERS}")
    op.create_table(
        "audit_seals",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="1, 2, 3 ... in each tenant."),
        sa.Column(
            "from_at",
            INSTANT,
            nullable=True,
            comment="Behind this instant its events begin: where the seal before ends.",
        ),
        sa.Column("until_at", INSTANT, nullable=False, comment="Up to this instant."),
        sa.Column("events", sa.BigInteger(), nullable=False, comment="How many they are."),
        sa.Column(
            "content",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of their hashes, in the order of at and id.",
        ),
        sa.Column(
            "root",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the root before, what the seal says, and content.",
        ),
        sa.Column(
            "sealed_at",
            INSTANT,
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="When it was made.",
        ),
        sa.Column("exported_at", INSTANT, nullable=True, comment="When its events were written to a file and dropped."),
        sa.CheckConstraint("events > 0", name=op.f("audit_seals_events_check")),
        sa.PrimaryKeyConstraint("tenant_id", "number", name="audit_seals_pkey"),
        comment="A hash chain over each tenant's audit, made after the fact; docs/operating.md says how it is checked.",
    )
    op.create_index("audit_seals_sealed_at_idx", "audit_seals", ["sealed_at"])
    op.execute(f"create policy tenant on audit_seals to distsql_serve using (tenant_id = {TENANT})")
    op.execute("create policy owner on audit_seals to current_user using (true)")
    op.execute("create policy auditor on audit_seals for select to distsql_auditor using (true)")
    op.execute(f"create policy reader on audit_seals for select to distsql_reader using (tenant_id = {MINE})")
    op.execute("alter table audit_seals enable row level security, force row level security")
    op.execute(
        "grant select (tenant_id, number, from_at, until_at, events, content, root, sealed_at, exported_at) "
        f"on audit_seals to {READERS}"
    )


def downgrade() -> None:
    """Drops them: the audit stays, and can be sealed anew from its beginning."""
    op.execute("drop function drop_audit_month(text)")
    op.drop_table("audit_seals")
    for column in ("times", "cause", "token_id", "account_id"):
        op.drop_column("audit_events", column)
