"""Tenants and repositories have settings, and what a tenant uses is counted, within its quotas.

The previous version's servers go on: they obey no setting, and count nothing. What they pushed meanwhile is counted by
`distsql verify --repair`, once the last of them is gone.

Revises 0006.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NAME = sa.Text(collation="C")
PREFIX = sa.text("(name || '/'::text)")
MEASURES = ("bytes", "repositories", "manifests", "tags")
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
NAMED = "First component of its repositories' names."
NAMED_OR_DELETED = "First component of its repositories' names; a deleted tenant has none."

# A read that finds its tenant suspended tells so: the state comes along with the id.
TENANT_OF = """
create function tenant_of(wanted text, out id bigint, out suspended boolean)
language sql stable security definer set search_path = pg_catalog, public, pg_temp
as 'select t.id, t.suspended_at is not null from tenants t where t.name = wanted'
"""
# All in the first slot: what is free there is all that is free.
COUNT = """
insert into tenant_usage (tenant_id, slot, stored_bytes, repositories, manifests, tags)
select id, 0,
    (select coalesce(sum(b.length), 0) from blobs b where b.tenant_id = t.id and b.state = 'live'),
    (select count(*) from repositories r where r.tenant_id = t.id and r.deleted_at is null),
    (select count(*) from manifests m join repositories r on r.tenant_id = m.tenant_id and r.id = m.repository_id
        where m.tenant_id = t.id and m.deleted_at is null and r.deleted_at is null),
    (select count(*) from tags g join repositories r on r.tenant_id = g.tenant_id and r.id = g.repository_id
        where g.tenant_id = t.id and g.valid_to is null and r.deleted_at is null)
from tenants t where t.id <> 0
"""
UNCOUNTED = """
update repositories r set
    uncounted_manifests = (select count(*) from manifests m
        where m.tenant_id = r.tenant_id and m.repository_id = r.id and m.deleted_at is null),
    uncounted_tags = (select count(*) from tags g
        where g.tenant_id = r.tenant_id and g.repository_id = r.id and g.valid_to is null)
where deleted_at is not null
"""
# In the order of the foreign keys.
OF_DELETED_TENANTS = ("uploads", "tags", "manifests", "layers", "repositories", "blobs", "accounts")


def _switch(name: str, comment: str, default: str = "false") -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text(default), nullable=False, comment=comment)


def _immutable_tags() -> sa.Column[list[str]]:
    return sa.Column(
        "immutable_tags",
        sa.ARRAY(sa.Text()),
        server_default=sa.text("'{}'"),
        nullable=False,
        comment="Patterns of tags that are never moved nor deleted: * is any text, ? any character.",
    )


def _count(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment)


def _limit(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=True, comment=comment)


def _of_tenants() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "suspended_at",
            INSTANT,
            nullable=True,
            comment="Since when its accounts hear that it is suspended, and nothing else.",
        ),
        sa.Column(
            "deleted_at",
            INSTANT,
            nullable=True,
            comment="When it was deleted: it is there for nobody, and its rows go later.",
        ),
        sa.Column("deleted_name", NAME, nullable=True, comment="What it was called until it was deleted."),
        _switch("read_only", "Whether nothing may be written."),
        _switch("deletable", "Whether content may be deleted.", "true"),
        _switch("sparse", "Whether indexes may have children that their repository lacks."),
        sa.Column(
            "creators",
            sa.Text(),
            server_default=sa.text("'push'"),
            nullable=False,
            comment="Which action a caller must be allowed to make a repository by a push: push or admin.",
        ),
        _immutable_tags(),
        _limit("manifest_limit_bytes", "The largest manifest; no more than the server's limit."),
        _limit("quota_bytes", "Most bytes of blobs, each content counted once; none is no limit."),
        _limit("quota_repositories", "Most repositories."),
        _limit("quota_manifests", "Most manifests."),
        _limit("quota_tags", "Most live tags."),
    ]


def _of_repositories() -> list[sa.Column[Any]]:
    return [
        _switch("read_only", "Whether nothing may be written to it."),
        _switch("deletable", "Whether content may be deleted from it; the tenant has to allow it too.", "true"),
        _immutable_tags(),
        _count("uncounted_manifests", "Manifests that were taken out of the tenant's usage when it was deleted."),
        _count("uncounted_tags", "Live tags that were taken out of the tenant's usage when it was deleted."),
    ]


def upgrade() -> None:
    """Adds the columns, which have constant defaults, and counts what there is."""
    for column in _of_tenants():
        op.add_column("tenants", column)
    for column in _of_repositories():
        op.add_column("repositories", column)
    op.alter_column("tenants", "name", nullable=True, comment=NAMED_OR_DELETED, existing_comment=NAMED)
    op.create_check_constraint(op.f("tenants_creators_check"), "tenants", "creators in ('push', 'admin')")
    op.create_check_constraint(op.f("tenants_deleted_at_check"), "tenants", "(name is null) = (deleted_at is not null)")
    op.drop_index("tenants_prefix_idx", table_name="tenants")
    op.create_index("tenants_prefix_idx", "tenants", [PREFIX], unique=False, postgresql_include=["id", "name"])
    op.create_table(
        "tenant_usage",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column(
            "slot",
            sa.Integer(),
            nullable=False,
            comment="Each transaction counts in one of them; use is the sum.",
        ),
        _count("stored_bytes", "Bytes of live blobs that were added, less those that went."),
        _count("repositories", "Repositories that came, less those that were deleted."),
        _count("manifests", "Manifests that came, less those that were deleted."),
        _count("tags", "Live tags that came, less those that ended."),
        *(_limit(f"free_{measure}", "What may still be added here; none without a quota.") for measure in MEASURES),
        *(
            sa.CheckConstraint(f"free_{measure} >= 0", name=op.f(f"tenant_usage_free_{measure}_check"))
            for measure in MEASURES
        ),
        sa.PrimaryKeyConstraint("tenant_id", "slot", name="tenant_usage_pkey"),
        comment="What a tenant uses, in several parts that are added up.",
    )
    op.execute(COUNT)
    op.execute(UNCOUNTED)
    op.execute(f"create policy tenant on tenant_usage to distsql_serve using (tenant_id = {TENANT})")
    op.execute("create policy owner on tenant_usage to current_user using (true)")
    op.execute("alter table tenant_usage enable row level security, force row level security")
    op.execute("grant select, insert, update on tenant_usage to distsql_serve")
    op.execute(TENANT_OF)
    op.execute("comment on function tenant_of(text) is 'The id and the state behind a tenant''s name.'")
    op.execute("revoke all on function tenant_of(text) from public")
    op.execute("grant execute on function tenant_of(text) to distsql_serve")


def downgrade() -> None:
    """Takes along the rows of deleted tenants, which the version before would show."""
    op.execute("drop function tenant_of(text)")
    op.drop_table("tenant_usage")
    for table in OF_DELETED_TENANTS:
        op.execute(f"delete from {table} where tenant_id in (select id from tenants where name is null)")  # noqa: S608  # ours
    op.execute("delete from tenants where name is null")
    op.drop_index("tenants_prefix_idx", table_name="tenants")
    op.create_index("tenants_prefix_idx", "tenants", [PREFIX], unique=False)
    for column in reversed(_of_repositories()):
        op.drop_column("repositories", column.name)
    for column in reversed(_of_tenants()):
        op.drop_column("tenants", column.name)
    op.alter_column("tenants", "name", nullable=False, comment=NAMED, existing_comment=NAMED_OR_DELETED)
