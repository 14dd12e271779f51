"""What changed about who may do what is told to all servers: they read what is new once a second, and nothing else.

The previous version's servers change no account; its commands refuse to run once this is there.

Revises 0024.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"


def upgrade() -> None:
    """Makes the table, which is the owner's only."""
    op.create_table(
        "access_changes",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Tells changes apart."),
        sa.Column(
            "account_id", sa.BigInteger(), nullable=True, comment="The account: accounts.id; null: all of the tenant's."
        ),
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
            comment="Whose change it is: what is read again until all before it are over.",
        ),
        sa.Column("at", INSTANT, server_default=sa.text("now()"), nullable=False, comment="When."),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="access_changes_pkey"),
        comment="Whose rights have changed, of the last day: servers forget what they know of them.",
    )
    op.create_index("access_changes_transaction_id_idx", "access_changes", ["transaction_id"])
    op.execute(f"create policy tenant on access_changes to distsql_serve using (tenant_id = {TENANT})")
    op.execute("create policy owner on access_changes to current_user using (true)")
    op.execute("alter table access_changes enable row level security, force row level security")


def downgrade() -> None:
    """Servers ask account by account again."""
    op.drop_table("access_changes")
