"""The database keeps tenants apart: row-level security, forced, for a role that serves and owns nothing.

Servers set the tenant with each transaction (``app.tenant_id``) after `set role distsql_serve`. The owner, who migrates
and administers, sees every row by a policy of its own. Servers of the version before work on as the owner.

The role is the cluster's, not the database's: the way back leaves it.

Revises 0004.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# What serving needs, and no more: the audit can only be added to, and nobody has a right on a partition.
GRANTS = {
    "tenants": "select",
    "repositories": "select, insert, update",
    "blobs": "select, insert, update",
    "layers": "select, insert, update, delete",
    "manifests": "select, insert, update",
    "descriptors": "select, insert, delete",
    "annotations": "select, insert",
    "tags": "select, insert, update",
    "signatures": "select, insert, delete",
    "signing_manifests": "select, insert, delete",
    "uploads": "select, insert, update, delete",
    "audit_events": "insert",
}
CREATE_ROLE = """
do $$ begin
    create role distsql_serve nologin;
exception when duplicate_object or unique_violation then null;
end $$
"""
# Empty and not null after a transaction that had set it; cast here and not in the column, which keeps indexes usable.
TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
# A name's id must be known before any policy can let its rows through.
TENANT_ID_OF = """
create function tenant_id_of(wanted text) returns bigint
language sql stable security definer set search_path = pg_catalog, public, pg_temp
as 'select id from tenants where name = wanted'
"""
ENSURE_TENANT = """
create function ensure_tenant(wanted text) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp
as $$
declare
    found_id bigint := tenant_id_of(wanted);
begin
    if found_id is null then  -- looks first: a conflict would use up an id each time
        insert into tenants (name) values (wanted) on conflict do nothing;
        found_id := (select id from tenants where name = wanted);
    end if;
    perform set_config('app.tenant_id', found_id::text, true);
    return found_id;
end $$
"""
FUNCTIONS = {
    "tenant_id_of(text)": (TENANT_ID_OF, "The id behind a tenant''s name."),
    "ensure_tenant(text)": (
        ENSURE_TENANT,
        "The id behind a tenant''s name, which is made if need be; the transaction goes on as that tenant.",
    ),
}


def upgrade() -> None:
    """Makes the role, its rights, the policies and the functions."""
    op.execute(CREATE_ROLE)
    op.execute("grant distsql_serve to current_user")
    op.execute("grant usage on schema public to distsql_serve")
    op.execute("grant select on alembic_version to distsql_serve")
    for table, rights in GRANTS.items():
        op.execute(f"grant {rights} on {table} to distsql_serve")
        column = "id" if table == "tenants" else "tenant_id"
        op.execute(f"create policy tenant on {table} to distsql_serve using ({column} = {TENANT})")
        op.execute(f"create policy owner on {table} to current_user using (true)")
        op.execute(f"alter table {table} enable row level security, force row level security")
    for name, (definition, comment) in FUNCTIONS.items():
        op.execute(definition)
        op.execute(f"comment on function {name} is '{comment}'")
        op.execute(f"revoke all on function {name} from public")
        op.execute(f"grant execute on function {name} to distsql_serve")


def downgrade() -> None:
    """Takes everything back but the role."""
    for name in reversed(FUNCTIONS):
        op.execute(f"drop function {name}")
    for table in GRANTS:
        op.execute(f"alter table {table} no force row level security, disable row level security")
        op.execute(f"drop policy tenant on {table}")
        op.execute(f"drop policy owner on {table}")
        op.execute(f"revoke all on {table} from distsql_serve")
    op.execute("revoke all on alembic_version from distsql_serve")
    op.execute("revoke usage on schema public from distsql_serve")
