"""A repository's row tells when it got its name otherwise than by being made.

A token for a name that was free is for the first repository of that name, which may be on its way already while the
token is issued. One that was renamed or restored is never it. What an earlier version renames or restores, also while
this one is already there, isn't told: of those the time at which they were made is looked at, as before.

Revises 0036.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column without a default, which is instant."""
    op.add_column(
        "repositories",
        sa.Column(
            "named_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it got its name by being renamed or restored; null: it always had it.",
        ),
    )


def downgrade() -> None:
    """Takes it away."""
    op.drop_column("repositories", "named_at")
