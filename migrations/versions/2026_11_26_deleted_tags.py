"""A deleted manifest's row tells which tags ended with it, and what it keeps tells its subject.

So restoring finds both by keys. Of what an earlier version deleted, also while this one is already there, neither is
told: the column stays null, and restoring looks for them as before.

Revises 0035.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

COMMENTS = ("What it referred to, all but its subject.", "What it referred to, its subject too.")
# As this column was before: restoring would give a repository its subject as a blob.
FORGET = """
delete from kept_references k using manifests m
where (m.tenant_id, m.repository_id, m.digest) = (k.tenant_id, k.repository_id, k.manifest_digest)
and m.subject_digest = k.digest
"""


def upgrade() -> None:
    """A column without a default, which is instant."""
    op.add_column(
        "manifests",
        sa.Column(
            "deleted_tags",
            sa.ARRAY(sa.Text(collation="C")),
            nullable=True,
            comment="Tags that ended with it, while it is deleted; null: a version before this column deleted it.",
        ),
    )
    op.alter_column("kept_references", "digest", comment=COMMENTS[1], existing_comment=COMMENTS[0])


def downgrade() -> None:
    """Takes it away, and the subjects that were kept."""
    op.execute(FORGET)
    op.alter_column("kept_references", "digest", comment=COMMENTS[0], existing_comment=COMMENTS[1])
    op.drop_column("manifests", "deleted_tags")
