"""Webhooks of tenants, and events on their way to them.

The previous version's servers write the same events, which this one's deliver.

Revises 0017.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")
CLOCK = sa.text("clock_timestamp()")
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
READERS = "distsql_auditor, distsql_reader"
# Without the secret, and without what an event says, which the audit has.
READABLE = {
    "webhooks": "tenant_id, id, url, format, events, created_at, created_by, queued_until",
    "webhook_deliveries": "tenant_id, webhook_id, event_at, event_id, repository, state, attempts, next_at, queued_at, "
    "ended_at, error",
}


def column(
    name: str, type_: sa.types.TypeEngine[Any], comment: str, default: sa.TextClause | None = None
) -> sa.Column[Any]:
    return sa.Column(name, type_, server_default=default, nullable=False, comment=comment)


def upgrade() -> None:
    """Makes the tables, for the owner: who serves has no right on them, and nobody reads a secret back."""
    op.create_table(
        "webhooks",
        column("tenant_id", sa.BigInteger(), "The tenant: tenants.id."),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="As commands name it."),
        column("url", sa.Text(), "Where its events are sent."),
        column("format", sa.Text(), "distribution or cloudevents."),
        column("events", sa.ARRAY(sa.Text()), "Which ones: push, delete, tag."),
        column("secret", sa.Text(), "What they are signed with; only the deliverer reads it."),
        column("created_at", INSTANT, "Earlier ones are not sent.", CLOCK),
        column("created_by", sa.Text(), "Who made it."),
        column("queued_until", INSTANT, "Up to here its events are in webhook_deliveries.", CLOCK),
        sa.CheckConstraint("format in ('distribution', 'cloudevents')", name=op.f("webhooks_format_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="webhooks_tenant_id_fkey", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="webhooks_pkey"),
        comment="Where a tenant's events are sent.",
    )
    op.create_table(
        "webhook_deliveries",
        column("tenant_id", sa.BigInteger(), "The tenant: tenants.id."),
        column("webhook_id", sa.BigInteger(), "The webhook: webhooks.id."),
        column("event_at", INSTANT, "The event: audit_events.at."),
        column("event_id", sa.BigInteger(), "The event: audit_events.id."),
        column("repository", sa.Text(collation="C"), "In each the order is kept."),
        column("event", JSONB(), "What happened, as the audit has it."),
        column("state", sa.Text(), "waiting, delivered, or dead: given up.", sa.text("'waiting'")),
        column("attempts", sa.BigInteger(), "How often it was sent.", sa.text("0")),
        column("next_at", INSTANT, "Nobody sends it before.", NOW),
        column("queued_at", INSTANT, "When it came in.", NOW),
        sa.Column("ended_at", INSTANT, nullable=True, comment="When it was delivered, or given up."),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it wasn't delivered the last time."),
        sa.CheckConstraint("state in ('waiting', 'delivered', 'dead')", name=op.f("webhook_deliveries_state_check")),
        sa.CheckConstraint("(state = 'waiting') = (ended_at is null)", name=op.f("webhook_deliveries_ended_at_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "webhook_id"],
            ["webhooks.tenant_id", "webhooks.id"],
            name="webhook_deliveries_tenant_id_webhook_id_fkey",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "webhook_id", "event_at", "event_id", name="webhook_deliveries_pkey"),
        comment="Events on their way to webhooks, and for a while those that came there or were given up.",
    )
    op.create_index(
        "webhook_deliveries_waiting_idx",
        "webhook_deliveries",
        ["tenant_id", "webhook_id", "repository", "event_at", "event_id"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("webhook_deliveries_ended_at_idx", "webhook_deliveries", ["ended_at"])
    for table, columns in READABLE.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using (tenant_id = {MINE})")
        op.execute(f"alter table {table} enable row level security, force row level security")
        op.execute(f"grant select ({columns}) on {table} to {READERS}")


def downgrade() -> None:
    """Drops them: nobody is told of anything any more."""
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
