"""Upload sessions know the digest of what they have, so that another server that ends one needn't read it again.

Servers of the previous version tell none, and leave what was told before: it says of how many bytes it is.

Revises 0041.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

COLUMNS = (
    (
        "digest",
        sa.LargeBinary(),
        "Of the first digest_bytes bytes, as who wrote them saw them; null: unknown.",
    ),
    ("digest_bytes", sa.BigInteger(), "How many bytes digest is of: of all where this is offset_bytes."),
)


def upgrade() -> None:
    """Adds the columns, which are null for sessions that there are."""
    for name, kind, comment in COLUMNS:
        op.add_column("uploads", sa.Column(name, kind, nullable=True, comment=comment))


def downgrade() -> None:
    for name, _, _ in COLUMNS:
        op.drop_column("uploads", name)
