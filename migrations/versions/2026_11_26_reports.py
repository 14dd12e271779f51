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
    "repository_usage",
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
    "stale_tags",
    "never_pulled_repositories",
    "pulls_by_day",
    "garbage",
)
# Made by the revision before, with what they answer; now with an example, as every report.
WHAT_IF_DELETE = (
    "What deleting a tag or a digest would free, keep and break; or a repository, or a tenant. Sizes are blobs''."
)
WHAT_IF = """select effect, kind, digest, length, because_of
from report.what_if_delete(''acme'', ''acme/web'', ''latest'');"""
WHY_KEPT = "Why a blob is still here: what needs it, and the tags that keep that. Role grace: it waits to be collected."
WHY = """select repository, manifest_digest, tag, role from report.why_kept(
    ''acme'', ''sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855''
);"""
COMMENTS = {
    "report.what_if_delete(text, text, text)": (WHAT_IF_DELETE, WHAT_IF),
    "report.why_kept(text, text)": (WHY_KEPT, WHY),
}


def create(name: str, version: int) -> None:
    """Runs a file, which has several statements: not through SQLAlchemy, to which their colons would mean something."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute((FILES / f"{name}.{version}.sql").read_text(encoding="utf-8"))
    cursor.close()


def upgrade() -> None:
    """Makes them, for those to read who read reports."""
    for name, function in FUNCTIONS.items():
        create(name, 1)
        op.execute(f"revoke all on function {function} from public")
        op.execute(f"grant execute on function {function} to {READERS}")
    for name in VIEWS:
        create(name, 1)
        op.execute(f"grant select on report.{name} to {READERS}")
    for function, (comment, example) in COMMENTS.items():
        op.execute(f"comment on function {function} is '{comment}\n\n{example}'")


def downgrade() -> None:
    """Drops them."""
    for function, (comment, _) in COMMENTS.items():
        op.execute(f"comment on function {function} is '{comment}'")
    for name in reversed(VIEWS):
        op.execute(f"drop view report.{name}")
    for function in reversed(FUNCTIONS.values()):
        op.execute(f"drop function {function}")
