"""Reports of the audit tell what it tells since it hears of refusals: why, how often, which account and token.

Revises 0016.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
ACTIVITY = "report.actor_activity(timestamptz, timestamptz)"


def create(name: str, version: int) -> None:
    """Runs a file, which has several statements: not through SQLAlchemy, to which their colons would mean something."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"{name}.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Puts the next versions in the place of the ones before: columns are added, none changes."""
    create("audit", 2)
    create("actor_activity", 2)
    create("denied", 1)
    op.execute(f"grant select on report.denied to {READERS}")


def downgrade() -> None:
    """The versions before."""
    op.execute("drop view report.denied")
    op.execute("drop view report.audit")
    op.execute(f"drop function {ACTIVITY}")
    create("audit", 1)
    op.execute(f"grant select on report.audit to {READERS}")
    create("actor_activity", 1)
    op.execute(f"revoke all on function {ACTIVITY} from public")
    op.execute(f"grant execute on function {ACTIVITY} to {READERS}")
