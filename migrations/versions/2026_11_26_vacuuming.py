"""Autovacuum and free room of each table, by how it is written: at a million rows the defaults come far too late.

By default a table is vacuumed when a fifth of it is dead and analyzed when a tenth has changed: of five million tags
that is after a million moves, and meanwhile every read of a moved tag and every index scan steps over what is dead.
Nothing here rewrites a table or blocks anybody (SHARE UPDATE EXCLUSIVE, for a moment).

Revises 0026.
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# A fiftieth instead of a fifth: what grows without end and changes here and there. Also after a twentieth of new rows:
# only pages that a vacuum has seen are read from the index alone, which lists and checks for references live on.
LARGE = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.02",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
}
# Few rows that live for seconds or minutes, or change with every request: a share of them says nothing, so after a
# number of dead ones. They are small, so it takes milliseconds.
CHURNED = {"autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "1000"}


def _room(percent: int) -> dict[str, str]:
    """Pages that are filled so far only. For counters and instants that no index holds: a new version of the row then
    stays in its page, without touching an index, and who reads the page next cleans the old one up."""
    return {"fillfactor": str(percent)}


SETTINGS: dict[str, dict[str, str]] = {
    # Read by everybody, written with each push or deletion. No room in tags: a move changes what indexes hold.
    "tags": LARGE,
    "manifests": LARGE,
    "descriptors": LARGE,
    "annotations": LARGE,
    "blobs": LARGE,
    "layers": LARGE | _room(90),  # needed_at moves with every push that shares the layer
    "signatures": LARGE,
    "signing_manifests": LARGE,
    "kept_references": LARGE,
    # Counters of what was pulled: again and again the same tags.
    "tag_pulls": LARGE | _room(80),
    "manifest_pulls": LARGE | _room(80),
    "daily_pulls": LARGE | _room(80),
    # Sixteen rows of a tenant, to one of which every push and deletion adds.
    "tenant_usage": CHURNED | _room(50),
    # A session is written by each chunk, and gone with the last.
    "uploads": CHURNED,
    # Queues: what comes in goes out.
    "garbage_queue": CHURNED,
    "condemned_bytes": CHURNED,
    "webhook_deliveries": CHURNED,
}
# Not the audit: its partitions are only ever inserted into, and the default, a vacuum after a fifth of new rows,
# freezes them as they fill.


def upgrade() -> None:
    """Sets them."""
    for table, settings in SETTINGS.items():
        chosen = ", ".join(f"{name} = {value}" for name, value in settings.items())
        op.execute(f"alter table {table} set ({chosen})")


def downgrade() -> None:
    """The server's defaults again."""
    for table, settings in SETTINGS.items():
        op.execute(f"alter table {table} reset ({', '.join(settings)})")
