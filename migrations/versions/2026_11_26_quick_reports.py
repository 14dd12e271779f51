"""Reports that took seconds at a million manifests: their next versions, with the same columns.

Revises 0019.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
VIEWS = ("never_pulled_repositories", "garbage", "signatures")


def create(name: str, version: int) -> None:
    """Runs a file, which has several statements: not through SQLAlchemy, to which their colons would mean something."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"{name}.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Puts them in the place of the ones before."""
    for name in VIEWS:
        create(name, 2)


def downgrade() -> None:
    """The versions before."""
    for name in reversed(VIEWS):
        op.execute(f"drop view report.{name}")
        create(name, 1)
        op.execute(f"grant select on report.{name} to {READERS}")
