"""Who may ask in SQL: the schema of reports, auditors of all tenants, and a tenant's own roles, which only read.

A tenant's own role is bound to it by its name, in `sql_roles`: no setting that it could change takes part. Nobody gets
a right on a column that holds a secret, and rights are given column by column, so that what comes later isn't shown
before somebody has thought about it.

The two roles are the cluster's, not the database's: the way back leaves them, and drops tenants' own.

Revises 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROLES = "distsql_auditor, distsql_reader"
CREATE_ROLE = """
do $$ begin
    create role {} nologin;
exception when duplicate_object or unique_violation then null;
end $$
"""
SERVED = "nullif(current_setting('app.tenant_id', true), '')::bigint"
# Looked up once in each query. Nothing but the name of the role that asks takes part.
MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
# All that isn't a secret, nor of use to nobody but the registry: no payloads, no keys of the byte store, no hashes.
READABLE = {
    "tenants": "id, name, created_at, public, suspended_at, deleted_at, deleted_name, read_only, deletable, sparse, "
    "creators, immutable_tags, manifest_limit_bytes, quota_bytes, quota_repositories, quota_manifests, quota_tags",
    "tenant_usage": "tenant_id, slot, stored_bytes, repositories, manifests, tags",
    "repositories": "tenant_id, id, path, sparse, created_at, deleted_at, deleted_by, public, read_only, deletable, "
    "immutable_tags",
    "blobs": "tenant_id, digest, length, state, created_at, condemned_at",
    "layers": "tenant_id, repository_id, digest, needed_at",
    "manifests": "tenant_id, repository_id, digest, media_type, artifact_type, config_media_type, subject_digest, "
    "length, pushed_at, pushed_by, deleted_at, deleted_by",
    "descriptors": "tenant_id, repository_id, manifest_digest, position, role, media_type, length, digest, "
    "artifact_type, os, architecture, variant, required",
    "annotations": "tenant_id, repository_id, manifest_digest, key, value",
    "tags": "tenant_id, repository_id, name, digest, valid_from, valid_to, actor, ended_by, previous_digest, "
    "previous_from, previous_actor, live_digest",
    "signatures": "tenant_id, repository_id, manifest_digest, digest, id, created_at",
    "signing_manifests": "tenant_id, repository_id, subject_digest, manifest_digest, kind, created_at",
    "uploads": "tenant_id, repository_id, uuid, algorithm, offset_bytes, actor, started_at, expires_at",
    "audit_events": "tenant_id, at, id, actor, action, repository, reference, digest, outcome, client_address, "
    "user_agent, request_id",
    "accounts": "tenant_id, id, name, kind, created_at, expires_at, disabled_at, last_used_at",
    "grants": "tenant_id, account_id, pattern, action, created_at",
}
# With the rights of whoever calls them: the owner, who has to be allowed to make roles.
MAKE_SQL_ROLE = """
create function make_sql_role(wanted text, verifier text, timeout_ms bigint) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
begin
    execute format('create role %I login password %L connection limit 10 in role distsql_reader', wanted, verifier);
    execute format('alter role %I set statement_timeout = %L', wanted, timeout_ms::text);
    execute format('alter role %I set idle_in_transaction_session_timeout = %L', wanted, timeout_ms::text);
    execute format('alter role %I set default_transaction_read_only = on', wanted);
    execute format('alter role %I set search_path = report', wanted);
    -- Temporary tables would let a tenant fill the disk. Everybody may make them unless told otherwise.
    begin
        execute format('revoke temporary on database %I from public', current_database());
        execute format('grant temporary on database %I to %I', current_database(), current_user);
    exception when insufficient_privilege then null;  -- the database is somebody else's
    end;
end $$
"""
OPEN_SQL_ROLE = """
create function open_sql_role(wanted text, opened boolean) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
begin
    execute format('alter role %I %s', wanted, case when opened then 'login' else 'nologin' end);
exception when undefined_object then null;
end $$
"""
DROP_SQL_ROLE = """
create function drop_sql_role(wanted text) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp
as $$
begin
    execute format('alter role %I nologin', wanted);
    begin
        execute format('drop owned by %I', wanted);
    exception when insufficient_privilege then null;  -- it has nothing unless it made a large object
    end;
    begin
        execute format('drop role %I', wanted);
    exception when dependent_objects_still_exist then null;  -- it stays, opens nothing and shows nothing
    end;
exception when undefined_object then null;
end $$
"""
FUNCTIONS = {
    "make_sql_role(text, text, bigint)": (MAKE_SQL_ROLE, "A role that logs in, reads reports, and shows nothing yet."),
    "open_sql_role(text, boolean)": (OPEN_SQL_ROLE, "Whether a tenant''s own role may log in."),
    "drop_sql_role(text)": (DROP_SQL_ROLE, "A tenant''s own role is no more."),
}


def upgrade() -> None:
    """Makes the schema, the roles, what binds roles to tenants, and the policies that show rows to them."""
    for role in ("distsql_auditor", "distsql_reader"):
        op.execute(CREATE_ROLE.format(role))
    op.execute("create schema report")
    op.execute(
        "comment on schema report is 'Questions that the catalogue answers: views and functions with stable names.'"
    )
    op.execute(f"grant usage on schema report to {ROLES}")
    op.create_table(
        "sql_roles",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False, comment="The tenant: tenants.id."),
        sa.Column(
            "role_name",
            sa.Text(),
            nullable=False,
            comment="The role that sees this tenant's rows: pg_roles.rolname.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was made, or made anew.",
        ),
        sa.Column(
            "closed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Since when it sees nothing: its tenant is suspended.",
        ),
        sa.PrimaryKeyConstraint("tenant_id", name="sql_roles_pkey"),
        comment="Which role of PostgreSQL's own reads which tenant's reports.",
    )
    op.execute("create policy owner on sql_roles to current_user using (true)")
    op.execute(f"create policy tenant on sql_roles to distsql_serve using (tenant_id = {SERVED})")
    op.execute("create policy reader on sql_roles for select to distsql_reader using (role_name = current_user::text)")
    op.execute("alter table sql_roles enable row level security, force row level security")
    op.execute("grant select (tenant_id, role_name, closed_at) on sql_roles to distsql_reader")
    for table, columns in READABLE.items():
        tenant = "id" if table == "tenants" else "tenant_id"
        op.execute(f"create policy auditor on {table} for select to distsql_auditor using (true)")
        op.execute(f"create policy reader on {table} for select to distsql_reader using ({tenant} = {MINE})")
        op.execute(f"grant select ({columns}) on {table} to {ROLES}")
    for name, (definition, comment) in FUNCTIONS.items():
        op.execute(definition)
        op.execute(f"comment on function {name} is '{comment}'")
        op.execute(f"revoke all on function {name} from public")


def downgrade() -> None:
    """Takes everything back but the two roles; tenants' own are dropped."""
    op.execute("select drop_sql_role(role_name) from sql_roles")
    for table, columns in READABLE.items():
        op.execute(f"revoke select ({columns}) on {table} from {ROLES}")  # noqa: S608  # ours
        op.execute(f"drop policy reader on {table}")
        op.execute(f"drop policy auditor on {table}")
    for name in reversed(FUNCTIONS):
        op.execute(f"drop function {name}")
    op.drop_table("sql_roles")
    op.execute("drop schema report")
