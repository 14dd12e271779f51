"""A manifest that is pushed again and deleted again is kept for each deletion by itself: nothing is looked up for that.

Revises 0018.
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NAME = "kept_references_pkey"
OLD = ["tenant_id", "repository_id", "manifest_digest", "digest"]
TWICE = """
delete from kept_references k using kept_references l
where (k.tenant_id, k.repository_id, k.manifest_digest, k.digest)
    = (l.tenant_id, l.repository_id, l.manifest_digest, l.digest) and k.deleted_at < l.deleted_at
"""


def upgrade() -> None:
    """The table is new, and has what was deleted since."""
    op.drop_constraint(NAME, "kept_references")
    op.create_primary_key(NAME, "kept_references", [*OLD, "deleted_at"])


def downgrade() -> None:
    """Keeps what was deleted last."""
    op.execute(TWICE)
    op.drop_constraint(NAME, "kept_references")
    op.create_primary_key(NAME, "kept_references", OLD)
