"""A blob's row names the byte store that has its content, for those who may not see keys: `report.blob_placement`.

The key said so already, and still decides. Nothing is null but what the settings' store has, so only blobs of tenants
with a store of their own are written to here; the previous version's servers leave the column out, for those tenants
until they are gone.

Revises 0027.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

READERS = "distsql_auditor, distsql_reader"
VIEW = Path(__file__).parent.parent / "reports/blob_placement.1.sql"
# A key that is lost says so in front of all.
FILL = """
update blobs set store = split_part(regexp_replace(store_key, '^lost:', ''), ':', 1)
where tenant_id = :tenant_id and store is null and strpos(regexp_replace(store_key, '^lost:', ''), ':') > 0
"""


def upgrade() -> None:
    """Adds the column, fills it tenant by tenant beside whoever works, and adds the report that shows it.

    Interrupted anywhere, it can be run again.
    """
    with op.get_context().autocommit_block():
        op.add_column(
            "blobs",
            sa.Column(
                "store", sa.Text(), comment="Which byte store has it: byte_stores.name; null: the settings' store."
            ),
            if_not_exists=True,
        )
        connection = op.get_bind()
        for tenant_id in connection.scalars(sa.text("select id from tenants order by id")).all():
            connection.execute(sa.text(FILL), {"tenant_id": tenant_id})
    op.execute(f"grant select (store) on blobs to {READERS}")
    cursor = op.get_bind().connection.cursor()
    cursor.execute(VIEW.read_text(encoding="utf-8"))
    cursor.close()
    op.execute(f"grant select on report.blob_placement to {READERS}")


def downgrade() -> None:
    """Keys say it too."""
    op.execute("drop view report.blob_placement")
    op.drop_column("blobs", "store")
