"""PostgreSQL's catalogue keeps the rules of isolation; and each rule finds what breaks it.

HAZARDS.md, row-level security: tables without FORCE, rights on partitions, views that look with their owner's eyes,
unique keys that tell what others hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from distsql.sql.database import SERVE_ROLE
from distsql.sql.sql_roles import AUDITOR_ROLE, READER_ROLE
from tests.sql.isolation_rules import RULES, Catalogue, what_breaks

_TENANT = "nullif(current_setting('app.tenant_id', true), '')::bigint"
_MINE = "(select r.tenant_id from sql_roles r where r.role_name = current_user::text and r.closed_at is null)"
_PEEK = "create view peek with (security_invoker = true) as select * from tags"
_DEFINER = "create function peek() returns bigint language sql security definer as 'select 1'"

# What somebody might do one day, and every rule that it breaks.
MISTAKES = {
    "create table late (tenant_id bigint, primary key (tenant_id))": {
        "row-level security is on and forced for every table",
        "every table has the policies that it should, and no other",
    },
    "create schema side; create table side.late (tenant_id bigint primary key)": {
        "row-level security is on and forced for every table",
        "every table has the policies that it should, and no other",
    },
    "alter table tags no force row level security": {"row-level security is on and forced for every table"},
    "alter table tags disable row level security": {"row-level security is on and forced for every table"},
    "drop policy tenant on tags": {"every table has the policies that it should, and no other"},
    "create policy more on tags using (true)": {"every table has the policies that it should, and no other"},
    "alter policy tenant on tags using (true)": {"every table has the policies that it should, and no other"},
    "alter policy tenant on tags with check (true)": {"every table has the policies that it should, and no other"},
    "alter policy tenant on tags to public": {"every table has the policies that it should, and no other"},
    f"alter policy owner on tags to {SERVE_ROLE}": {"every table has the policies that it should, and no other"},
    f"drop policy tenant on tags; create policy tenant on tags for select to {SERVE_ROLE} "
    f"using (tenant_id = {_TENANT})": {"every table has the policies that it should, and no other"},
    f"alter policy tenant on repositories using (id = {_TENANT})": {
        "every table has the policies that it should, and no other"
    },
    "create unique index on blobs (digest)": {"every unique key begins with the tenant"},
    "create unique index on blobs (lower(store_key))": {"every unique key begins with the tenant"},
    "create unique index on blobs (digest, tenant_id)": {"every unique key begins with the tenant"},
    "alter table uploads add column of_id bigint, add foreign key (of_id, repository_id) references repositories": {
        "no foreign key reaches across tenants"
    },
    "grant select on tags to public": {"nobody else has rights, and nobody can pass them on"},
    "grant select (name) on tags to public": {"nobody else has rights, and nobody can pass them on"},
    "create role somebody; grant insert on tags to somebody": {"nobody else has rights, and nobody can pass them on"},
    f"grant select on tags to {SERVE_ROLE} with grant option": {"nobody else has rights, and nobody can pass them on"},
    f"create table audit_events_2001_01 partition of audit_events for values from ('2001-01-01') to ('2001-02-01'); "
    f"grant select on audit_events_2001_01 to {SERVE_ROLE}": {"nobody has a right on a partition"},
    f"grant update on audit_events to {SERVE_ROLE}": {"the audit can only be added to"},
    f"grant select (actor) on audit_events to {SERVE_ROLE}": {"the audit can only be added to"},
    f"grant truncate on tags to {SERVE_ROLE}": {
        "nobody may empty a table past its policies, or look through a foreign key"
    },
    f"alter default privileges grant select on tables to {SERVE_ROLE}": {"no rights come by themselves"},
    "create view peek as select * from tags": {"views look with the eyes of who asks"},
    "create view peek with (security_invoker = false) as select * from tags": {"views look with the eyes of who asks"},
    "create materialized view peek as select * from tags": {"there is nothing that policies don't hold for"},
    _DEFINER: {
        "functions with the owner's rights look nowhere else",
        "functions with the owner's rights are not for everybody",
    },
    f"{_DEFINER}; revoke all on function peek from public": {"functions with the owner's rights look nowhere else"},
    f"{_DEFINER} set search_path = pg_catalog, public, pg_temp": {
        "functions with the owner's rights are not for everybody"
    },
    f"grant execute on function tenant_id_of to {READER_ROLE}": {"only reports have functions for who reads reports"},
    f"grant execute on function make_sql_role to {AUDITOR_ROLE}": {"only reports have functions for who reads reports"},
    "create role somebody; grant execute on function long_transactions to somebody": {
        "functions with the owner's rights are not for everybody"
    },
    "alter function tenant_id_of set search_path = public": {"functions with the owner's rights look nowhere else"},
    f"grant create on schema public to {SERVE_ROLE}": {"nobody but the owner makes anything"},
    **{
        f"alter role {SERVE_ROLE} {power}": {"our roles have no power of their own"}
        for power in ("bypassrls", "createrole", "createdb", "login", "replication")
    },
    f"grant pg_read_all_data to {SERVE_ROLE}": {"our roles have nobody else's power"},
    f"alter view peek owner to {SERVE_ROLE}": {"our roles own nothing"},
    **{
        f"alter policy reader on tags using ({condition})": {
            "every table has the policies that it should, and no other"
        }
        for condition in (
            "true",
            f"tenant_id = {_TENANT}",  # a setting is anybody's to change
            f"tenant_id = {_MINE.replace('current_user', 'session_user')}",
            f"tenant_id = {_MINE.replace(' and r.closed_at is null', '')}",
            f"repository_id = {_MINE}",
        )
    },
    "alter policy reader on sql_roles using (true)": {"every table has the policies that it should, and no other"},
    f"alter policy reader on tags to {AUDITOR_ROLE}": {
        "every table has the policies that it should, and no other",
        "where who reads reports has a right, a policy says which rows",
    },
    f"alter policy auditor on tags to {READER_ROLE}": {
        "every table has the policies that it should, and no other",
        "where who reads reports has a right, a policy says which rows",
    },
    f"drop policy auditor on tags; create policy auditor on tags to {AUDITOR_ROLE} using (true)": {
        "every table has the policies that it should, and no other"
    },
    "drop policy reader on blobs": {"where who reads reports has a right, a policy says which rows"},
    f"grant insert on tags to {READER_ROLE}": {
        "who reads reports only reads",
        "of tables, who reads reports sees column by column, and no secrets",
    },
    f"grant update (name) on tags to {AUDITOR_ROLE}": {"who reads reports only reads"},
    f"grant select on tags to {READER_ROLE}": {"of tables, who reads reports sees column by column, and no secrets"},
    **{
        f"grant select ({column}) on {table} to {AUDITOR_ROLE}": {
            "of tables, who reads reports sees column by column, and no secrets"
        }
        for table, column in (
            ("accounts", "secret_hash"),
            ("accounts", "secret_generation"),
            ("manifests", "payload"),
            ("signatures", "payload"),
            ("blobs", "store_key"),
            ("uploads", "store_state"),
        )
    },
    f"grant select (private_key) on signing_keys to {AUDITOR_ROLE}": {
        "of tables, who reads reports sees column by column, and no secrets",
        "where who reads reports has a right, a policy says which rows",
    },
    f"{_PEEK}; grant select on peek to {SERVE_ROLE}": {"reports are for who reads reports"},
    f"grant create on schema report to {READER_ROLE}": {"nobody but the owner makes anything"},
    "grant create on schema report to public": {"nobody but the owner makes anything"},
    f"alter role {AUDITOR_ROLE} bypassrls": {"our roles have no power of their own"},
    f"alter role {READER_ROLE} login": {"our roles have no power of their own"},
    f"grant pg_read_all_data to {AUDITOR_ROLE}": {"our roles have nobody else's power"},
    f"grant {AUDITOR_ROLE} to {READER_ROLE}": {"our roles have nobody else's power"},
    **{
        f"create role somebody login {power} in role {READER_ROLE}{more}": {
            "a tenant's own role has no power but to read"
        }
        for power, more in (
            ("bypassrls", ""),
            ("createrole", ""),
            ("superuser", ""),
            ("", f"; grant {AUDITOR_ROLE} to somebody"),
            ("", f"; grant {READER_ROLE} to somebody with admin option"),
        )
    },
}


@pytest.fixture
def catalogue(sql: Catalogue) -> Iterator[Catalogue]:
    """What is done to it is undone."""
    with sql.transaction(force_rollback=True):
        yield sql


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_are_kept(catalogue: Catalogue, rule: str) -> None:
    assert what_breaks(catalogue, rule) == []


@pytest.mark.slow  # it goes over all mistakes
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(catalogue: Catalogue, mistake: str) -> None:
    before = set[str]()  # as the test above found
    if mistake.startswith("alter view peek"):
        catalogue.execute(_PEEK)
        catalogue.execute(f"grant create on schema public to {SERVE_ROLE}")
        before = broken(catalogue)
    catalogue.execute(mistake)
    assert broken(catalogue) - before == MISTAKES[mistake]


def test_every_rule_is_tested() -> None:
    assert Counter(rule for rules in MISTAKES.values() for rule in rules).keys() == RULES.keys()


def broken(catalogue: Catalogue) -> set[str]:
    return {rule for rule in RULES if what_breaks(catalogue, rule)}
