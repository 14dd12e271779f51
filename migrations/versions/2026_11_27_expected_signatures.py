"""PostgreSQL expects a repository to have several signatures, so that it looks for one by what is signed.

Two indexes begin with tenant and repository: that of what is signed, and the narrower one of what signs. Where most
repositories have one signature, statistics say that the two columns alone lead to one row, and the narrower index was
taken for everything: a signature was looked for among all that its repository has. The two columns' dependency is known
from now on, and of repositories that there are a tenth as many as rows; it still expects no more than the largest has.

Revises 0038.
"""

from __future__ import annotations

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

NAME = "signing_manifests_repository_stat"


def upgrade() -> None:
    """Stops nobody (SHARE UPDATE EXCLUSIVE), and reads a sample of the table."""
    op.execute(f"create statistics {NAME} (dependencies) on tenant_id, repository_id from signing_manifests")
    op.execute("alter table signing_manifests alter column repository_id set (n_distinct = -0.1)")
    op.execute("analyze signing_manifests")


def downgrade() -> None:
    op.execute("alter table signing_manifests alter column repository_id reset (n_distinct)")
    op.execute(f"drop statistics {NAME}")
    op.execute("analyze signing_manifests")
