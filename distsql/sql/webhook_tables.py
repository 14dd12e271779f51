"""The catalogue's tables of webhooks: who is told of events, and what each was told."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from distsql.sql.columns import INSTANT, NAME, NOW, tenant_id
from distsql.sql.tables import metadata

_CLOCK = func.clock_timestamp()


webhooks: Final = Table(
    "webhooks",
    metadata,
    tenant_id(),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="As commands name it."),
    Column("url", Text, nullable=False, comment="Where its events are sent."),
    Column("format", Text, nullable=False, comment="distribution or cloudevents."),
    Column("events", ARRAY(Text), nullable=False, comment="Which ones: push, delete, tag."),
    Column("secret", Text, nullable=False, comment="What they are signed with; only the deliverer reads it."),
    Column(
        "created_at",
        INSTANT,
        nullable=False,
        server_default=func.clock_timestamp(),
        comment="Earlier ones are not sent.",
    ),
    Column("created_by", Text, nullable=False, comment="Who made it."),
    Column(
        "queued_until",
        INSTANT,
        nullable=False,
        server_default=func.clock_timestamp(),
        comment="Up to here its events are in webhook_deliveries.",
    ),
    PrimaryKeyConstraint("tenant_id", "id"),
    ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
    CheckConstraint("format in ('distribution', 'cloudevents')", name="format"),
    comment="Where a tenant's events are sent.",
)

webhook_deliveries: Final = Table(
    "webhook_deliveries",
    metadata,
    tenant_id(),
    Column("webhook_id", BigInteger, nullable=False, comment="The webhook: webhooks.id."),
    Column("event_at", INSTANT, nullable=False, comment="The event: audit_events.at."),
    Column("event_id", BigInteger, nullable=False, comment="The event: audit_events.id."),
    Column("repository", NAME, nullable=False, comment="In each the order is kept."),
    Column("event", JSONB, nullable=False, comment="What happened, as the audit has it."),
    Column(
        "state",
        Text,
        nullable=False,
        server_default=text("'waiting'"),
        comment="waiting, delivered, or dead: given up.",
    ),
    Column("attempts", BigInteger, nullable=False, server_default=text("0"), comment="How often it was sent."),
    Column("next_at", INSTANT, nullable=False, server_default=NOW, comment="Nobody sends it before."),
    Column("queued_at", INSTANT, nullable=False, server_default=NOW, comment="When it came in."),
    Column("ended_at", INSTANT, comment="When it was delivered, or given up."),
    Column("error", Text, comment="Why it wasn't delivered the last time."),
    PrimaryKeyConstraint("tenant_id", "webhook_id", "event_at", "event_id"),
    ForeignKeyConstraint(["tenant_id", "webhook_id"], ["webhooks.tenant_id", "webhooks.id"], ondelete="CASCADE"),
    CheckConstraint("state in ('waiting', 'delivered', 'dead')", name="state"),
    CheckConstraint("(state = 'waiting') = (ended_at is null)", name="ended_at"),
    Index(
        "webhook_deliveries_waiting_idx",
        "tenant_id",
        "webhook_id",
        "repository",
        "event_at",
        "event_id",
        postgresql_where=text("state = 'waiting'"),
    ),
    Index("webhook_deliveries_ended_at_idx", "ended_at"),
    comment="Events on their way to webhooks, and for a while those that came there or were given up.",
)
