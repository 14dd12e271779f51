"""Labels of images are rows: read out of their configs after the push, and of older images by a server's daily round.

The previous version's servers read none; what is pushed to them is found by that round.

Revises 0031.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
SERVED = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
READABLE = {
    "image_configs": "tenant_id, digest, read_at, problem",
    "image_labels": "tenant_id, digest, key, value",
}


def _run(file: str) -> None:
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / file).read_text(encoding="utf-8"))
    cursor.close()


def _key() -> list[sa.Column[object]]:
    return [
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="The config: blobs.digest."),
    ]


def upgrade() -> None:
    """Makes the tables. The owner writes them; who serves has nothing to do with them."""
    op.create_table(
        "image_configs",
        *_key(),
        sa.Column(
            "read_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was read.",
        ),
        sa.Column(
            "problem",
            sa.Text(),
            nullable=True,
            comment="Why nothing was learned from it; null: its labels are in image_labels.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "digest", name="image_configs_pkey"),
        comment="Configs of images that were read.",
    )
    op.create_table(
        "image_labels",
        *_key(),
        sa.Column("key", sa.Text(collation="C"), nullable=False, comment="Name of the label."),
        sa.Column("value", sa.Text(), nullable=False, comment="Its text."),
        sa.PrimaryKeyConstraint("tenant_id", "digest", "key", name="image_labels_pkey"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "digest"],
            ["image_configs.tenant_id", "image_configs.digest"],
            name="image_labels_tenant_id_digest_fkey",
            ondelete="CASCADE",
        ),
        comment="Labels in the configs of images.",
    )
    for table, columns in READABLE.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {SERVED})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using (tenant_id = {MINE})")
        op.execute(f"alter table {table} enable row level security, force row level security")
        op.execute(f"grant select ({columns}) on {table} to {READERS}")
    _run("labels.2.sql")


def downgrade() -> None:
    """Labels can be read again."""
    op.execute("drop view report.labels")
    _run("labels.1.sql")
    op.execute(f"grant select on report.labels to {READERS}")
    for table in reversed(READABLE):
        op.drop_table(table)
