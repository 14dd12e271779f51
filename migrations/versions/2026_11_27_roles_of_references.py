"""The index of what is referred to has the role too: whether something needs a blob is told without the rows.

Each GET of a blob that was pushed a while ago asks. The rows are the largest table, and each answer read a page of it
that nothing else needed just then. The index is a hundredth larger.

The primary key begins with tenant and repository, as what is asked has them too. Of the two columns together statistics
say what there is, from now on: else they lead to one row, and all of a repository may be read by the primary key.

Revises 0039.
"""

from __future__ import annotations

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

NAME, NEW, OLD = "descriptors_digest_idx", "descriptors_digest_new_idx", "descriptors_digest_old_idx"
STATISTICS = "descriptors_repository_stat"
COLUMNS = ["tenant_id", "digest", "repository_id", "manifest_digest"]


def upgrade() -> None:
    """Builds the index beside whoever works with the table; interrupted anywhere, it can be run again."""
    op.execute(
        f"create statistics if not exists {STATISTICS} (dependencies) on tenant_id, repository_id from descriptors"
    )
    op.execute("analyze descriptors")
    rebuild(include=["role"])


def downgrade() -> None:
    op.execute(f"drop statistics if exists {STATISTICS}")
    rebuild(include=[])


def rebuild(*, include: list[str]) -> None:
    with op.get_context().autocommit_block():
        drop(OLD)  # of a run that was interrupted, whose new one has its name already
        drop(NEW)  # of a build that was interrupted: it is invalid
        op.create_index(NEW, "descriptors", COLUMNS, postgresql_include=include, postgresql_concurrently=True)
        # Both at once, so that there is one of the name at any moment.
        op.execute(f"do $$ begin alter index {NAME} rename to {OLD}; alter index {NEW} rename to {NAME}; end $$")
        drop(OLD)


def drop(index: str) -> None:
    """Drops the index if there is one."""
    op.drop_index(index, table_name="descriptors", if_exists=True, postgresql_concurrently=True)
