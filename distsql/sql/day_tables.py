"""The catalogue's tables of days that are over: what was stored and pushed, rolled up from rows that don't stay."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Date, PrimaryKeyConstraint, Table

from distsql.sql.columns import INSTANT, NAME, counter, tenant_id
from distsql.sql.tables import metadata

# No foreign keys: what was stored is charged for, also when the tenant is gone.
daily_usage: Final = Table(
    "daily_usage",
    metadata,
    tenant_id(),
    Column("day", Date, nullable=False, comment="In UTC."),
    Column("tenant", NAME, nullable=False, comment="What the tenant was called on that day."),
    counter("stored_bytes", "Bytes of blobs, each counted once, when it was last looked on that day."),
    PrimaryKeyConstraint("tenant_id", "day"),
    comment="What each tenant stored, by day.",
)

daily_pushes: Final = Table(
    "daily_pushes",
    metadata,
    tenant_id(),
    Column("day", Date, nullable=False, comment="In UTC."),
    Column("repository", NAME, nullable=False, comment="Full name of the repository, as it was then."),
    counter("pushes", "Manifests that were pushed."),
    counter("bytes", "Of blobs that were uploaded."),
    PrimaryKeyConstraint("tenant_id", "day", "repository"),
    comment="What arrived, by day, as far as it is rolled up: counted from the audit, which doesn't stay.",
)

day_roll_ups: Final = Table(
    "day_roll_ups",
    metadata,
    tenant_id(),
    Column(
        "pushes_until",
        INSTANT,
        nullable=False,
        comment="What was pushed before is in daily_pushes; of tenant 0: when a server last rolled up.",
    ),
    PrimaryKeyConstraint("tenant_id"),
    comment="How far each tenant's days are rolled up.",
)
