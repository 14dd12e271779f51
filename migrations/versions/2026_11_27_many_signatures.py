"""PostgreSQL expects a repository to have very many signatures.

Ten, as it expected since 0039, were few enough to read all of a repository's where cosign's tags end: what deletes them
has no room for a statement that looks for them first, as a push has (twenty locks are the most).

Revises 0040.
"""

from __future__ import annotations

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Stops nobody (SHARE UPDATE EXCLUSIVE), and reads a sample of the table."""
    expect(-0.001)


def downgrade() -> None:
    expect(-0.1)


def expect(distinct: float) -> None:
    """So many repositories for each row, negated, as PostgreSQL writes it."""
    op.execute(f"alter table signing_manifests alter column repository_id set (n_distinct = {distinct})")
    op.execute("analyze signing_manifests")
