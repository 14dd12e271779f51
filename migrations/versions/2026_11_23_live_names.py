"""The name of a deleted repository is free again.

The previous version's servers don't know of deletion marks: while they still run, they show what newer ones delete.

Revises 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD, NEW = "repositories_tenant_id_path_key", "repositories_live_key"
OF_DELETED_REPOSITORIES = """
delete from {table} t using repositories r
where r.deleted_at is not null and (r.tenant_id, r.id) = (t.tenant_id, t.repository_id)
"""


def upgrade() -> None:
    """Builds the index beside whoever works with the table; interrupted anywhere, it can be run again."""
    with op.get_context().autocommit_block():
        drop(NEW)  # a build that was interrupted has left an invalid one
        op.create_index(
            NEW,
            "repositories",
            ["tenant_id", "path"],
            unique=True,
            postgresql_where=sa.text("deleted_at is null"),
            postgresql_concurrently=True,
        )
        drop(OLD)


def drop(index: str) -> None:
    """Drops the index if there is one."""
    op.drop_index(index, table_name="repositories", if_exists=True, postgresql_concurrently=True)


def downgrade() -> None:
    """Takes the rows of deleted repositories along, whose names others may have now. Stops writers for a moment."""
    for table in ("tags", "manifests", "layers", "uploads"):
        op.execute(OF_DELETED_REPOSITORIES.format(table=table))
    op.execute("delete from repositories where deleted_at is not null")
    op.create_index(
        OLD,
        "repositories",
        ["tenant_id", "path"],
        unique=True,
        postgresql_where=sa.text("path is not null"),
    )
    op.drop_index(NEW, table_name="repositories")
