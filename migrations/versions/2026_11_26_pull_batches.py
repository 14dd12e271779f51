"""What servers count is written as one row, and added up by one of them; and a table of whose turn it is.

The previous version's servers write the rows themselves, as before.

Revises 0034.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

SERVED = "nullif(current_setting('app.tenant_id', true), '')::bigint"
COMPACT = ("tenants", "paths", "asked_places", "asked_tags", "asked_digests", "asked_pulls")
LAST_PULLED = {
    True: "To a few seconds; to a minute while a great many different things are pulled.",
    False: "To a few seconds.",
}


def _list(name: str, type_: sa.types.TypeEngine[Any], comment: str) -> sa.Column[object]:
    return sa.Column(name, sa.ARRAY(type_), nullable=False, comment=comment)


def upgrade() -> None:
    """Makes the tables. They are the owner's: who serves one tenant has nothing to do with them."""
    op.create_table(
        "pull_batches",
        sa.Column(
            "tenant_id", sa.BigInteger(), nullable=False, comment="0: the server itself, for pulls of all tenants."
        ),
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="In the order of writing, about.",
        ),
        sa.Column(
            "written_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When; what is in it was asked for a few seconds before.",
        ),
        _list("tenants", sa.Text(), "Of what a kind of actor was given out of a repository on a day: its tenant."),
        _list("paths", sa.Text(), "And its path below that."),
        _list("days", sa.Date(), "And the day."),
        _list("actor_kinds", sa.Text(), "And of whom."),
        _list("requests", sa.BigInteger(), "What is to be added to daily_pulls.requests."),
        _list("pulls", sa.BigInteger(), "To its pulls."),
        _list("sent", sa.BigInteger(), "To its sent_bytes."),
        _list("redirected", sa.BigInteger(), "To its redirected_bytes."),
        _list(
            "asked_places",
            sa.BigInteger(),
            "Of each thing that was asked for: its place in the lists above, from 1.",
        ),
        _list("asked_tags", sa.Text(), "And its tag; null: by digest."),
        _list("asked_digests", sa.LargeBinary(), "And the manifest that was given out; null: none was."),
        _list("asked_pulls", sa.BigInteger(), "How often."),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pull_batches_pkey"),
        comment="What servers counted and nobody has added up yet; each row is what one of them wrote at once.",
    )
    op.create_table(
        "turns",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="0: the server itself."),
        sa.Column("name", sa.Text(collation="C"), nullable=False, comment="What is done by one server at a time."),
        sa.Column(
            "next_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Until when nobody else begins: while it is done, and until it is due again.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name="turns_pkey"),
        comment="Whose turn it is, of all servers and their workers, to do what one of them does for all.",
    )
    for column in COMPACT:
        # To try whether it gets shorter takes four times as long as to write it; it is gone in a moment.
        op.execute(f"alter table pull_batches alter {column} set storage external")
    for table in ("pull_batches", "turns"):
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {SERVED})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")
    _comment(after=True)


def downgrade() -> None:
    """What nobody has added up yet is lost: servers that stopped have."""
    _comment(after=False)
    op.drop_table("turns")
    op.drop_table("pull_batches")


def _comment(*, after: bool) -> None:
    for table in ("manifest_pulls", "tag_pulls"):
        op.execute(f"comment on column {table}.last_pulled_at is '{LAST_PULLED[after]}'")
