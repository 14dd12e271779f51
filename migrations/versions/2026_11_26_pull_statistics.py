"""What is pulled: by day, and when manifests and tags were last pulled.

The previous version's servers go on as they are, and count nothing.

Revises 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NAME = sa.Text(collation="C")
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
READERS = "distsql_auditor, distsql_reader"
TABLES = {
    "daily_pulls": "tenant_id, day, repository_id, actor_kind, requests, pulls, sent_bytes, redirected_bytes",
    "manifest_pulls": "tenant_id, repository_id, digest, pulls, last_pulled_at",
    "tag_pulls": "tenant_id, repository_id, name, pulls, last_pulled_at",
}


def key(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)


def count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment)


def tenant_id() -> sa.Column[int]:
    return key("tenant_id", "The tenant: tenants.id.")


def repository_id() -> sa.Column[int]:
    return key("repository_id", "The repository: repositories.id.")


def last_pulled_at() -> sa.Column[object]:
    return sa.Column("last_pulled_at", INSTANT, nullable=False, comment="To a few seconds.")


def upgrade() -> None:
    """Makes the tables. The owner writes them, for all tenants at once; who serves only reads."""
    op.create_table(
        "daily_pulls",
        tenant_id(),
        sa.Column("day", sa.Date(), nullable=False, comment="In UTC."),
        repository_id(),
        sa.Column("actor_kind", sa.Text(), nullable=False, comment="Of who asked: anonymous, account or robot."),
        count("requests", "Requests about the repository that were answered well, of any kind."),
        count("pulls", "Manifests that were given out."),
        count("sent_bytes", "Of manifests and blobs, given out by the registry itself."),
        count("redirected_bytes", "Of blobs that clients were sent to the byte store for."),
        sa.CheckConstraint(
            "actor_kind in ('anonymous', 'account', 'robot')", name=op.f("daily_pulls_actor_kind_check")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "day", "repository_id", "actor_kind", name="daily_pulls_pkey"),
        comment="What was given out, by day; it stays when the repository goes.",
    )
    op.create_table(
        "manifest_pulls",
        tenant_id(),
        repository_id(),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="The manifest: manifests.digest."),
        count("pulls", "How often it was given out, by tag or by digest."),
        last_pulled_at(),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id", "digest"],
            ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
            name="manifest_pulls_tenant_id_repository_id_digest_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "digest", name="manifest_pulls_pkey"),
        comment="When manifests were last pulled; none that never was.",
    )
    op.create_table(
        "tag_pulls",
        tenant_id(),
        repository_id(),
        sa.Column("name", NAME, nullable=False, comment="The tag, whatever it points to."),
        count("pulls", "How often a manifest was given out by it."),
        last_pulled_at(),
        sa.ForeignKeyConstraint(
            ["tenant_id", "repository_id"],
            ["repositories.tenant_id", "repositories.id"],
            name="tag_pulls_tenant_id_repository_id_fkey",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "name", name="tag_pulls_pkey"),
        comment="When tags were last asked for; a HEAD counts here too, for clients then pull by digest.",
    )
    for table, columns in TABLES.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")
        op.execute(f"grant select on {table} to distsql_serve")
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using (tenant_id = {MINE})")
        op.execute(f"grant select ({columns}) on {table} to {READERS}")


def downgrade() -> None:
    """Drops them: what was pulled before is forgotten."""
    for table in TABLES:
        op.drop_table(table)
