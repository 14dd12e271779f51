"""What is built on a base is looked for from the base, which took seconds the other way round.

Revises 0021.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"


def create(version: int) -> None:
    """Runs the file, which has several statements: not through SQLAlchemy, to which colons would mean something."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"base_images.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Puts it in the place of the one before."""
    create(2)


def downgrade() -> None:
    """The version before."""
    op.execute("drop view report.base_images")
    create(1)
    op.execute(f"grant select on report.base_images to {READERS}")
