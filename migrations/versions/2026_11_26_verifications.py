"""A verification remembers how far it is and what it found, and servers when retention was last run.

Revises 0020.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
TABLES = ("verifications", "verification_findings", "retention_runs")
PHASES = ("blobs", "manifests", "usage", "orphans", "done")


def _server() -> sa.Column[int]:
    return sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="0: the server itself.")


def _number(name: str, comment: str, default: str = "0") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text(default), nullable=False, comment=comment)


def _make_verifications() -> None:
    op.create_table(
        "verifications",
        _server(),
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Joins with verification_id."
        ),
        sa.Column("rehashes", sa.Boolean(), nullable=False, comment="Whether all bytes are read."),
        sa.Column("started_at", INSTANT, server_default=NOW, nullable=False, comment="When it began."),
        sa.Column("saved_at", INSTANT, server_default=NOW, nullable=False, comment="This is as of then."),
        _number("version", "Counts who wrote: of two processes at once the first finds another one, and stops."),
        sa.Column("phase", sa.Text(), server_default=sa.text("'blobs'"), nullable=False, comment="What it is at."),
        _number("after_tenant_id", "Behind this key.", "-1"),
        _number("after_repository_id", "Behind this key.", "-1"),
        sa.Column("after_digest", sa.LargeBinary(), nullable=True, comment="Behind this key; none at the beginning."),
        _number("blobs", "Verified so far."),
        _number("manifests", "Verified so far."),
        _number("bytes", "Read so far."),
        sa.CheckConstraint(f"phase in ({', '.join(map(repr, PHASES))})", name=op.f("verifications_phase_check")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="verifications_pkey"),
        comment="The last verification of catalogue against store: one that was stopped goes on from here.",
    )


def _make_findings() -> None:
    op.create_table(
        "verification_findings",
        _server(),
        sa.Column("verification_id", sa.BigInteger(), nullable=False, comment="The verification: verifications.id."),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="What is wrong: missing, length, content, payload, reference ...",
        ),
        sa.Column("subject", sa.Text(), nullable=False, comment="With what."),
        sa.Column("explanation", sa.Text(), nullable=False, comment="In words."),
        sa.Column(
            "mended",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Whether it is right again.",
        ),
        sa.Column("blob_tenant_id", sa.BigInteger(), nullable=True, comment="Of a blob: its tenant, tenants.id."),
        sa.Column("digest", sa.LargeBinary(), nullable=True, comment="Of a blob."),
        sa.Column("found_at", INSTANT, server_default=NOW, nullable=False, comment="When."),
        sa.ForeignKeyConstraint(
            ["tenant_id", "verification_id"],
            ["verifications.tenant_id", "verifications.id"],
            name="verification_findings_tenant_id_verification_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "verification_id", "kind", "subject", name="verification_findings_pkey"),
        comment="What the last verification found.",
    )


def upgrade() -> None:
    """Makes the tables, which are the owner's only."""
    _make_verifications()
    _make_findings()
    op.create_table(
        "retention_runs",
        _server(),
        sa.Column("ran_at", INSTANT, nullable=False, comment="When some server last ran all policies."),
        sa.PrimaryKeyConstraint("tenant_id", name="retention_runs_pkey"),
        comment="When retention was last run; one row, of tenant 0.",
    )
    for table in TABLES:
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")


def downgrade() -> None:
    """Forgets them: a verification begins anew."""
    op.drop_table("retention_runs")
    op.drop_table("verification_findings")
    op.drop_table("verifications")
