"""A tenant may have a byte store of its own. A key says in front which store it is of; earlier ones say nothing.

The previous version's servers push to the settings' store whatever a tenant has, and can't read what is in others: give
tenants stores once the last of them is gone.

Revises 0022.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
# Moving back is the previous version's only way to the bytes.
MISPLACED = """
do $$ begin
    if exists (select from blobs where strpos(store_key, ':') > 0) then
        raise exception 'some blobs are in stores of their own: `distsql store move TENANT default` first';
    end if;
end $$
"""


def upgrade() -> None:
    """Adds the stores, and which one a tenant has: none is the one that the settings name."""
    op.create_table(
        "byte_stores",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="0: stores are the server's."),
        sa.Column("name", sa.Text(collation="C"), nullable=False, comment="In front of its keys in blobs and uploads."),
        sa.Column("url", sa.Text(), nullable=False, comment="Where it is, without any credentials."),
        sa.Column(
            "added_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was added.",
        ),
        sa.CheckConstraint("name ~ '^[a-z0-9][a-z0-9-]{0,39}$'", name=op.f("byte_stores_name_check")),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="byte_stores_pkey"),
        comment="Byte stores beside the one that the settings name.",
    )
    op.execute(f"create policy tenant on byte_stores to distsql_serve using (tenant_id = {TENANT})")
    op.execute("create policy owner on byte_stores to current_user using (true)")
    op.execute("alter table byte_stores enable row level security, force row level security")
    op.add_column(
        "tenants",
        sa.Column(
            "store", sa.Text(collation="C"), comment="Where its pushes go: byte_stores.name; null: the settings' store."
        ),
    )


def downgrade() -> None:
    """Refuses while something is in another store than that of the settings."""
    op.execute(MISPLACED)
    op.drop_column("tenants", "store")
    op.drop_table("byte_stores")
