"""Days that are over are rolled up, for reports that look far back: what was stored, and what was pushed.

The previous version's servers roll nothing up: days without them are filled when one of this version runs.

Revises 0015.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
SERVED = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
READABLE = {
    "daily_usage": "tenant_id, day, tenant, stored_bytes",
    "daily_pushes": "tenant_id, day, repository, pushes, bytes",
}
VIEWS = ("pushes_by_day", "quota_forecast")
CHARGEBACK = "report.chargeback(date)"
NAME = sa.Text(collation="C")


def create(name: str, version: int) -> None:
    """Runs a file, which has several statements: not through SQLAlchemy, to which their colons would mean something."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"{name}.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def _tenant_id() -> sa.Column[int]:
    return sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id.")


def _day() -> sa.Column[object]:
    return sa.Column("day", sa.Date(), nullable=False, comment="In UTC.")


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment)


def upgrade() -> None:
    """Makes the tables and what asks them. The owner writes them; who serves has nothing to do with them."""
    op.create_table(
        "daily_usage",
        _tenant_id(),
        _day(),
        sa.Column("tenant", NAME, nullable=False, comment="What the tenant was called on that day."),
        _count("stored_bytes", "Bytes of blobs, each counted once, when it was last looked on that day."),
        sa.PrimaryKeyConstraint("tenant_id", "day", name="daily_usage_pkey"),
        comment="What each tenant stored, by day: until its newest day, what was pushed before it is in daily_pushes.",
    )
    op.create_table(
        "daily_pushes",
        _tenant_id(),
        _day(),
        sa.Column("repository", NAME, nullable=False, comment="Full name of the repository, as it was then."),
        _count("pushes", "Manifests that were pushed."),
        _count("bytes", "Of blobs that were uploaded."),
        sa.PrimaryKeyConstraint("tenant_id", "day", "repository", name="daily_pushes_pkey"),
        comment="What arrived, by day, of days that are over: counted from the audit, which doesn't stay.",
    )
    for table, columns in READABLE.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {SERVED})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using (tenant_id = {MINE})")
        op.execute(f"alter table {table} enable row level security, force row level security")
        op.execute(f"grant select ({columns}) on {table} to {READERS}")
    create("roll_up_days", 1)
    op.execute("revoke all on function roll_up_days() from public")
    for name in VIEWS:
        create(name, 1)
        op.execute(f"grant select on report.{name} to {READERS}")
    create("chargeback", 1)
    op.execute(f"revoke all on function {CHARGEBACK} from public")
    op.execute(f"grant execute on function {CHARGEBACK} to {READERS}")


def downgrade() -> None:
    """Drops them: what isn't in the audit any more is forgotten."""
    op.execute(f"drop function {CHARGEBACK}")
    for name in reversed(VIEWS):
        op.execute(f"drop view report.{name}")
    op.execute("drop function roll_up_days()")
    for table in reversed(READABLE):
        op.drop_table(table)
