"""What became unreferenced is queued by the transaction that did it; what was deleted can be restored.

What the previous version's servers delete or leave meanwhile isn't queued: `distsql collect-garbage --full` finds it.

Revises 0009.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
KINDS = ("layer", "blob", "manifest", "subject", "deleted_manifest", "repository", "tenant", "untagged")
# What serving needs: what it deletes it queues, and what it restores it looks up.
GRANTS = {
    "garbage_queue": "insert",
    "kept_references": "select, insert, delete",
    "condemned_bytes": "insert",
    "garbage_periods": "",
}
ROLES = "distsql_auditor, distsql_reader"
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
# Where the store keeps something is of use to nobody but the registry.
READABLE = {
    "garbage_queue": "tenant_id, id, kind, repository_id, digest, queued_at",
    "kept_references": "tenant_id, repository_id, manifest_digest, digest, deleted_at",
    "condemned_bytes": "tenant_id, digest, length, complete, condemned_at",
    "garbage_periods": "tenant_id, grace, restore_period, recovery_window, ran_at",
}
READABLE_COLUMNS = {"tenants": "untagged", "repositories": "untagged, purged_at", "manifests": "followed_digest"}
PERIODS = """
create function collection_periods(out grace interval, out restore_period interval, out recovery_window interval)
language sql stable security definer set search_path = pg_catalog, public, pg_temp
as 'select p.grace, p.restore_period, p.recovery_window from garbage_periods p where p.tenant_id = 0'
"""
# Only what nothing needs: the rest is queued when it loses what needs it.
BACKFILL = (
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, digest, queued_at)
    select l.tenant_id, (random() * 9007199254740991)::bigint, 'layer', l.repository_id, l.digest, l.needed_at
    from layers l
    where not exists (
        select from descriptors d where d.tenant_id = l.tenant_id and d.digest = l.digest
        and d.repository_id = l.repository_id and d.role <> 'subject'
    )
    """,
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, digest)
    select b.tenant_id, (random() * 9007199254740991)::bigint, 'blob', 0, b.digest from blobs b
    where b.state = 'live'
    and not exists (select from layers l where l.tenant_id = b.tenant_id and l.digest = b.digest)
    """,
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, digest, queued_at)
    select m.tenant_id, (random() * 9007199254740991)::bigint, 'deleted_manifest', m.repository_id, m.digest,
        m.deleted_at
    from manifests m
    where m.deleted_at is not null
    """,
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, queued_at)
    select r.tenant_id, (random() * 9007199254740991)::bigint, 'repository', r.id, r.deleted_at
    from repositories r where r.deleted_at is not null
    """,
    """
    insert into garbage_queue (tenant_id, id, kind, repository_id, queued_at)
    select t.id, (random() * 9007199254740991)::bigint, 'tenant', 0, t.deleted_at
    from tenants t where t.deleted_at is not null
    """,
    """
    insert into condemned_bytes (tenant_id, store_key, digest, length, complete, condemned_at)
    select b.tenant_id, b.store_key, b.digest, b.length, true, coalesce(b.condemned_at, now()) from blobs b
    where b.state <> 'live'
    """,
)


def _tenant_id() -> sa.Column[int]:
    return sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id.")


def _repository_id(comment: str = "The repository: repositories.id.") -> sa.Column[int]:
    return sa.Column("repository_id", sa.BigInteger(), nullable=False, comment=comment)


def _instant(name: str, comment: str) -> sa.Column[Any]:
    return sa.Column(name, INSTANT, server_default=NOW, nullable=False, comment=comment)


def _make_queue() -> None:
    op.create_table(
        "garbage_queue",
        _tenant_id(),
        sa.Column("id", sa.BigInteger(), nullable=False, comment="Tells entries apart; random."),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="layer, manifest: came, or lost something that needed it; blob: left a repository; subject: was "
            "deleted, its referrers follow; deleted_manifest, repository, tenant: was deleted, its rows go; untagged: "
            "untagged manifests of the repository (0: of all) are collected from now on.",
        ),
        _repository_id("The repository: repositories.id; 0 for what belongs to none."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=True,
            comment="The blob or manifest; none for a whole repository or tenant.",
        ),
        _instant("queued_at", "From here the grace, or the time in which it can be restored, is counted."),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="garbage_queue_pkey"),
        sa.CheckConstraint(f"kind in ({', '.join(map(repr, KINDS))})", name=op.f("garbage_queue_kind_check")),
        comment="What became unreferenced, written by the transaction that did it: what garbage collection has to "
        "look at.",
    )
    op.create_index("garbage_queue_queued_at_idx", "garbage_queue", ["kind", "queued_at"])


def _make_kept_references() -> None:
    op.create_table(
        "kept_references",
        _tenant_id(),
        _repository_id(),
        sa.Column(
            "manifest_digest",
            sa.LargeBinary(),
            nullable=False,
            comment="The deleted manifest: manifests.digest.",
        ),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="What it referred to, all but its subject."),
        _instant("deleted_at", "When the manifest was deleted."),
        sa.PrimaryKeyConstraint("tenant_id", "repository_id", "manifest_digest", "digest", name="kept_references_pkey"),
        comment="What deleted manifests need to be restored: it keeps blobs' bytes, and no reader sees it.",
    )
    op.create_index("kept_references_digest_idx", "kept_references", ["tenant_id", "digest"])


def _make_condemned_bytes() -> None:
    op.create_table(
        "condemned_bytes",
        _tenant_id(),
        sa.Column("store_key", sa.Text(), nullable=False, comment="Where the byte store has them."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=True,
            comment="Of a blob; none for what an upload had collected.",
        ),
        sa.Column("length", sa.BigInteger(), nullable=False, comment="In bytes."),
        sa.Column(
            "store_state",
            JSONB(),
            nullable=True,
            comment="Of an upload that was not finished: what the byte store needs to end it.",
        ),
        sa.Column(
            "complete",
            sa.Boolean(),
            nullable=False,
            comment="Whether it is a blob's; else it is an unfinished upload's.",
        ),
        _instant("condemned_at", "Since when no row needs them: they go once a recovery window has passed."),
        sa.PrimaryKeyConstraint("tenant_id", "store_key", name="condemned_bytes_pkey"),
        comment="Bytes to be deleted, committed before the byte store is touched. A key is never used again.",
    )
    op.create_index("condemned_bytes_condemned_at_idx", "condemned_bytes", ["condemned_at"])


def _make_periods() -> None:
    op.create_table(
        "garbage_periods",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="0: the server itself."),
        sa.Column("grace", sa.Interval(), nullable=False, comment="How long something has to be unreferenced."),
        sa.Column(
            "restore_period", sa.Interval(), nullable=False, comment="How long what was deleted can be restored."
        ),
        sa.Column("recovery_window", sa.Interval(), nullable=False, comment="How long condemned bytes stay."),
        _instant("ran_at", "When garbage was last collected."),
        sa.PrimaryKeyConstraint("tenant_id", name="garbage_periods_pkey"),
        comment="The periods that garbage collection goes by, as of its last run; one row, of tenant 0.",
    )


def _of_manifests() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "followed_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="The subject that it was deleted after, as its referrer.",
        ),
        sa.Column(
            "deleted_signatures",
            sa.ARRAY(sa.LargeBinary()),
            nullable=True,
            comment="Its JWS signatures, while it is deleted.",
        ),
    ]


def _of_repositories() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "untagged",
            sa.Text(),
            nullable=True,
            comment="What becomes of untagged manifests: keep, or collect; none: as the tenant says.",
        ),
        sa.Column(
            "purged_at",
            INSTANT,
            nullable=True,
            comment="Since when its rows are being taken out: it can't be restored any more.",
        ),
    ]


def _of_tenants() -> sa.Column[str]:
    return sa.Column(
        "untagged",
        sa.Text(),
        server_default=sa.text("'keep'"),
        nullable=False,
        comment="What becomes of manifests without tag, parent and subject: keep, or collect.",
    )


def upgrade() -> None:
    """Makes the tables, and queues what nothing needs now. Columns are instant: constant defaults, or none."""
    for make in (_make_queue, _make_kept_references, _make_condemned_bytes, _make_periods):
        make()
    for table, rights in GRANTS.items():
        op.execute(f"create policy tenant on {table} to distsql_serve using (tenant_id = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")
        if rights:
            op.execute(f"grant {rights} on {table} to distsql_serve")
    for table, columns in READABLE.items():
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using (tenant_id = {MINE})")
        op.execute(f"grant select ({columns}) on {table} to {ROLES}")
    for column in _of_manifests():
        op.add_column("manifests", column)
    for column in _of_repositories():
        op.add_column("repositories", column)
    op.add_column("tenants", _of_tenants())
    for table in ("tenants", "repositories"):
        op.create_check_constraint(op.f(f"{table}_untagged_check"), table, "untagged in ('keep', 'collect')")
    for table, columns in READABLE_COLUMNS.items():
        op.execute(f"grant select ({columns}) on {table} to {ROLES}")
    op.execute(PERIODS)
    op.execute("comment on function collection_periods() is 'The periods that garbage collection goes by.'")
    op.execute("revoke all on function collection_periods() from public")
    op.execute(f"grant execute on function collection_periods() to distsql_serve, {ROLES}")
    for statement in BACKFILL:
        op.execute(statement)


def downgrade() -> None:
    """Forgets what could be restored; the version before finds garbage by looking at everything."""
    op.execute("drop function collection_periods()")
    for table in reversed(GRANTS):
        op.drop_table(table)
    op.drop_column("tenants", "untagged")
    for column in reversed(_of_repositories()):
        op.drop_column("repositories", column.name)
    for column in reversed(_of_manifests()):
        op.drop_column("manifests", column.name)
