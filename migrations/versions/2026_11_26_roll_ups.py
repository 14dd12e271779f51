"""Reports that took long are quicker: pushes are rolled up during the day too; names are made before they are compared.

`roll_up_days()` of the version before is called without its new argument, and goes on.

Revises 0025.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
SERVED = "nullif(current_setting('app.tenant_id', true), '')::bigint"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
TABLE = "day_roll_ups"
VIEWS = {"artifacts_without_sbom": 1, "pushes_by_day": 1, "audit": 2, "denied": 1, "never_pulled_repositories": 2}
COMMENTS = {
    "daily_usage": (
        "What each tenant stored, by day: until its newest day, what was pushed before it is in daily_pushes.",
        "What each tenant stored, by day.",
    ),
    "daily_pushes": (
        "What arrived, by day, of days that are over: counted from the audit, which doesn''t stay.",
        "What arrived, by day, as far as it is rolled up: counted from the audit, which doesn''t stay.",
    ),
}


def create(name: str, version: int) -> None:
    """Runs a file, which has several statements: not through SQLAlchemy, to which their colons would mean something."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"{name}.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def _own(function: str) -> None:
    op.execute(f"revoke all on function {function} from public")


def upgrade() -> None:
    """How far a tenant's pushes are rolled up was the beginning of its newest day."""
    op.create_table(
        TABLE,
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column(
            "pushes_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="What was pushed before is in daily_pushes; of tenant 0: when a server last rolled up.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", name="day_roll_ups_pkey"),
        comment="How far each tenant's days are rolled up.",
    )
    op.execute(f"create policy tenant on {TABLE} to distsql_serve using (tenant_id = {SERVED})")
    op.execute(f"create policy owner on {TABLE} to current_user using (true)")
    op.execute(f"create policy auditor on {TABLE} for select to distsql_auditor using (true)")
    op.execute(f"create policy reader on {TABLE} for select to distsql_reader using (tenant_id = {MINE})")
    op.execute(f"alter table {TABLE} enable row level security, force row level security")
    op.execute(f"grant select (tenant_id, pushes_until) on {TABLE} to {READERS}")
    op.execute(
        "insert into day_roll_ups (tenant_id, pushes_until) "
        "select tenant_id, max(day)::timestamp at time zone 'UTC' from daily_usage group by tenant_id"
    )
    for table, (_, comment) in COMMENTS.items():
        op.execute(f"comment on table {table} is '{comment}'")
    op.execute("drop function roll_up_days()")
    create("roll_up_days", 2)
    _own("roll_up_days(interval)")
    for name, before in VIEWS.items():
        create(name, before + 1)


def downgrade() -> None:
    """The version before rolls up from the newest day on, and counts what it finds there itself."""
    for name, before in reversed(VIEWS.items()):
        op.execute(f"drop view report.{name}")
        for version in range(1, before + 1):
            create(name, version)
        op.execute(f"grant select on report.{name} to {READERS}")
    op.execute("drop function roll_up_days(interval)")
    create("roll_up_days", 1)
    _own("roll_up_days()")
    op.execute(
        "delete from daily_pushes p using (select tenant_id, max(day) as day from daily_usage group by tenant_id) u "
        "where u.tenant_id = p.tenant_id and p.day >= u.day"
    )
    for table, (comment, _) in COMMENTS.items():
        op.execute(f"comment on table {table} is '{comment}'")
    op.drop_table(TABLE)
