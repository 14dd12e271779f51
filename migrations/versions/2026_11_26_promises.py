"""Who is told that a manifest is there can refer to it: garbage collection counts its grace from that moment.

Servers of the previous version make no promises, and their collections know of none.

Revises 0028.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, which is null until somebody asks for what nothing holds."""
    comment = "When somebody was told that it is there although nothing holds it: collection waits from here."
    op.add_column("manifests", sa.Column("promised_at", sa.DateTime(timezone=True), nullable=True, comment=comment))


def downgrade() -> None:
    """Manifests are as old as their push."""
    op.drop_column("manifests", "promised_at")
