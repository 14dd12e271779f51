"""Deleting marks: what is deleted is there for nobody at once, and its rows go later, with the garbage.

Revises 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MARKED = {
    "repositories": "When it was deleted: it is there for nobody, and its rows go later.",
    "manifests": "When it was deleted: it is there for nobody, and the row goes later.",
}
DESCRIPTORS = "What manifests refer to, in their order. A subject may be absent from the registry."
LIVE_DESCRIPTORS = DESCRIPTORS.replace("manifests", "manifests that aren't deleted")


def upgrade() -> None:
    """Adds the columns, which is instant."""
    for table, deleted_at in MARKED.items():
        op.add_column(table, sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True, comment=deleted_at))
        op.add_column(table, sa.Column("deleted_by", sa.Text(), nullable=True, comment="Who deleted it."))
    op.create_table_comment("descriptors", LIVE_DESCRIPTORS, existing_comment=DESCRIPTORS)


def downgrade() -> None:
    """Takes the rows of deleted manifests along, which the previous version would show."""
    op.execute("delete from manifests where deleted_at is not null")
    op.create_table_comment("descriptors", DESCRIPTORS, existing_comment=LIVE_DESCRIPTORS)
    for table in MARKED:
        op.drop_column(table, "deleted_by")
        op.drop_column(table, "deleted_at")
