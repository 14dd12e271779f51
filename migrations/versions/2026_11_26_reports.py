"""Reports: the views and functions that the catalogue answers questions with.

Each has a file in `migrations/reports`, `<name>.<version>.sql`, which is never changed once it has landed: a change is
a file of the next version, and a revision that replaces the one by the other. The highest version is what there is.

Revises 0011.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

FILES = Path(__file__).parents[1] / "reports"
READERS = "distsql_auditor, distsql_reader"
# In the order in which they need each other.
FUNCTIONS = {
    "long_transactions": "long_transactions()",
    "digest": "report.digest(text)",
    "resolve_tag": "report.resolve_tag(text, text, text, timestamptz)",
    "actor_activity": "report.actor_activity(timestamptz, timestamptz)",
}
VIEWS = (
    "tenant_usage",
    "tag_history",
    "blob_usage",
    "base_images",
    "untagged_manifests",
    "incomplete_indexes",
    "dangling_referrers",
    "signatures",
    "unsigned_images",
    "artifacts_without_sbom",
    "platforms",
    "labels",
    "media_types",
    "unused_credentials",
    "stuck_uploads",
    "schema_health",
    "audit",
)


def create(name: str, version: int) -> None:
    """Runs a file, which has several statements: not through SQLAlchemy, to which their colons would mean something."""
    with op.get_bind().connection.cursor() as cursor:
        cursor.execute((FILES / f"{name}.{version}.sql").read_text(encoding="utf-8"))


def upgrade() -> None:
    """Makes them, for those to read who read reports."""
    for name, function in FUNCTIONS.items():
        create(name, 1)
        op.execute(f"revoke all on function {function} from public")
        op.execute(f"grant execute on function {function} to {READERS}")
    for name in VIEWS:
        create(name, 1)
        op.execute(f"grant select on report.{name} to {READERS}")


def downgrade() -> None:
    """Drops them."""
    for name in reversed(VIEWS):
        op.execute(f"drop view report.{name}")
    for function in reversed(FUNCTIONS.values()):
        op.execute(f"drop function {function}")
