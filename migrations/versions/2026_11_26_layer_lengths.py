"""A repository's blobs say how long they are where they are linked: reports add up one range of one index.

The previous version's servers leave the column out; reports ask the blob then.

Revises 0030.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
VIEWS = {"blob_placement": 1, "never_pulled_repositories": 3, "repository_usage": 1, "tenant_usage": 1}
BATCH = 2000
# In the order in which pushes lock them; what was linked since says it already.
FILL = sa.text(
    """
with page as (
    select l.tenant_id, l.repository_id, l.digest from layers l
    where (l.tenant_id, l.repository_id, l.digest) > (:tenant_id, :repository_id, :digest)
    order by l.tenant_id, l.repository_id, l.digest limit :batch
), locked as (
    select l.tenant_id, l.repository_id, l.digest from page s
    join layers l using (tenant_id, repository_id, digest) where l.length is null
    order by l.tenant_id, l.repository_id, l.digest for no key update of l
), filled as (
    update layers l set length = b.length from locked k join blobs b using (tenant_id, digest)
    where l.tenant_id = k.tenant_id and l.repository_id = k.repository_id and l.digest = k.digest
)
select tenant_id, repository_id, digest from page order by 1 desc, 2 desc, 3 desc limit 1
"""
)


def _run(file: str) -> None:
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / file).read_text(encoding="utf-8"))
    cursor.close()


def _fill() -> None:
    """A batch at a time, each a transaction of its own: who works with a layer waits for a moment at most."""
    connection = op.get_bind()
    after = {"tenant_id": -1, "repository_id": -1, "digest": b""}
    while (row := connection.execute(FILL, {**after, "batch": BATCH}).mappings().one_or_none()) is not None:
        after = dict(row)


def upgrade() -> None:
    """Adds the column, which is instant, and fills it. Interrupted anywhere, it can be run again."""
    with op.get_context().autocommit_block():
        op.add_column(
            "layers",
            sa.Column(
                "length",
                sa.BigInteger(),
                nullable=True,
                comment="The blob's; null where a version before this column linked it.",
            ),
            if_not_exists=True,
        )
        _fill()
    op.execute(f"grant select (length) on layers to {READERS}")
    for name, before in VIEWS.items():
        _run(f"{name}.{before + 1}.sql")


def downgrade() -> None:
    """Blobs say it."""
    for name, before in VIEWS.items():
        op.execute(f"drop view report.{name}")
        for version in range(1, before + 1):
            _run(f"{name}.{version}.sql")
        op.execute(f"grant select on report.{name} to {READERS}")
    op.drop_column("layers", "length")
