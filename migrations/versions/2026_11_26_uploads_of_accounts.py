"""Upload sessions belong to accounts by their ids, and not by a name that a later account may have.

The previous version's servers write no id: what they begin is known by name, to accounts that are older than it. They
go on with any session by name, as they did.

Revises 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A name is one account's at a time: who has it now began the session, if the account is older than it.
OWNERS = """
update uploads u set account_id = a.id
from accounts a join tenants t on t.id = a.tenant_id
where a.tenant_id = u.tenant_id and u.actor = t.name || '/' || a.name and a.created_at <= u.started_at
"""
LACKS = {
    "tenants": (
        "Whether indexes may have children that their repository lacks.",
        "Whether manifests may refer to children and layers that their repository lacks.",
    ),
    "repositories": (
        "Whether indexes may have children that the repository lacks.",
        "Whether manifests may refer to children and layers that the repository lacks.",
    ),
}


def upgrade() -> None:
    """Adds the column, which is null for those that nobody had to log in for."""
    comment = "The account that began it: accounts.id; null: nobody had to log in."
    op.add_column("uploads", sa.Column("account_id", sa.BigInteger(), nullable=True, comment=comment))
    op.execute(OWNERS)
    for table, (before, after) in LACKS.items():
        op.alter_column(table, "sparse", existing_type=sa.Boolean(), comment=after, existing_comment=before)


def downgrade() -> None:
    """Sessions are known by their actors' names again."""
    for table, (before, after) in LACKS.items():
        op.alter_column(table, "sparse", existing_type=sa.Boolean(), comment=before, existing_comment=after)
    op.drop_column("uploads", "account_id")
