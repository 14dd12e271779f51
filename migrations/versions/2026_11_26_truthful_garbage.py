"""What waits for collection and what a deletion would free, as collections judge it.

`report.garbage` told other instants than they go by, and deletions were said to free what stays without a tag, where
untagged manifests are kept.

Revises 0029.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
BEFORE: str = runpy.run_path(str(Path(__file__).with_name("2026_11_26_deletion_effects.py")))[
    "DELETION_EFFECTS"
].replace("create function", "create or replace function")


def _run(file: str) -> None:
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / file).read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Puts them in the place of the ones before; who may use them stays."""
    _run("garbage.3.sql")
    _run("deletion_effects.2.sql")


def downgrade() -> None:
    """The versions before."""
    op.execute(BEFORE)
    _run("garbage.2.sql")
