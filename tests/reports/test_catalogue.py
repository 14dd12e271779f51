"""What holds for every report: its columns, who reads it, what it says of itself, and that its example runs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from distsql.sql.sql_roles import AUDITOR_ROLE, READER_ROLE
from tests.reports.world import ACME, World

Connection = psycopg.Connection[tuple[Any, ...]]

# What programs and dashboards rely on. A report may get more columns, and never loses one, nor changes its type.
COLUMNS = {
    "tenant_usage": "tenant text, repositories bigint, manifests bigint, tags bigint, logical_bytes bigint, "
    "stored_bytes bigint, quota_bytes bigint",
    "tag_history": "tenant text, repository text, tag text, digest text, previous_digest text, valid_from timestamptz, "
    "valid_to timestamptz, actor text, ended_by text",
    "blob_placement": "tenant text, blob_digest text, length bigint, store text, created_at timestamptz, "
    "blob_key bytea",
    "blob_usage": "tenant text, repository text, manifest_digest text, role text, blob_digest text, length bigint, "
    "blob_key bytea",
    "base_images": "tenant text, repository text, manifest_digest text, base_repository text, base_digest text, "
    "current boolean, base_key bytea",
    "untagged_manifests": "tenant text, repository text, digest text, media_type text, length bigint, "
    "pushed_at timestamptz, in_index boolean, subject_digest text",
    "incomplete_indexes": "tenant text, repository text, digest text, missing_digest text, platform text",
    "dangling_referrers": "tenant text, repository text, digest text, subject_digest text, artifact_type text",
    "unsigned_images": "tenant text, repository text, tag text, digest text",
    "signatures": "tenant text, repository text, digest text, kind text, signature_digest text, "
    "created_at timestamptz, signed_key bytea",
    "artifacts_without_sbom": "tenant text, repository text, tag text, digest text",
    "platforms": "tenant text, repository text, tag text, digest text, os text, architecture text, variant text",
    "labels": "tenant text, repository text, digest text, key text, value text, kind text",
    "media_types": "tenant text, media_type text, count bigint, bytes bigint, kind text",
    "audit": "at timestamptz, tenant text, actor text, action text, repository text, reference text, digest text, "
    "outcome text, client_address text, user_agent text, request_id text, account_id bigint, token_id text, "
    "cause text, times bigint",
    "denied": "at timestamptz, tenant text, actor text, action text, repository text, cause text, reference text, "
    "times bigint, client_address text",
    "unused_credentials": "tenant text, account text, kind text, created_at timestamptz, last_used_at timestamptz, "
    "idle_days bigint, expires_at timestamptz, disabled_at timestamptz",
    "stuck_uploads": "tenant text, repository text, uuid uuid, actor text, offset_bytes bigint, "
    "started_at timestamptz, expires_at timestamptz",
    "schema_health": "item text, status text, detail text",
    "repository_usage": "tenant text, repository text, tags bigint, manifests bigint, logical_bytes bigint, "
    "exclusive_bytes bigint, last_pushed_at timestamptz, last_pulled_at timestamptz",
    "stale_tags": "tenant text, repository text, tag text, digest text, pushed_at timestamptz, "
    "last_pulled_at timestamptz, idle_days bigint",
    "never_pulled_repositories": "tenant text, repository text, manifests bigint, stored_bytes bigint, "
    "last_pushed_at timestamptz",
    "pulls_by_day": "tenant text, repository text, day date, actor_kind text, pulls bigint, bytes bigint, "
    "requests bigint",
    "pushes_by_day": "tenant text, repository text, day date, pushes bigint, bytes bigint",
    "quota_forecast": "tenant text, quota_bytes bigint, used_bytes bigint, percent bigint, daily_growth_bytes bigint, "
    "exhausted_on date",
    "garbage": "tenant text, digest text, length bigint, state text, eligible_at timestamptz, reason text, "
    "repository text, kind text",
}
_ACTIVITY = (
    "tenant text, actor text, first_at timestamptz, last_at timestamptz, repository text, action text, count bigint"
)
FUNCTIONS = {
    "what_if_delete": (
        "tenant text, repository text, tag text",
        "effect text, digest text, length bigint, because_of text, kind text",
    ),
    "chargeback": ("month date", "tenant text, stored_byte_days bigint, egress_bytes bigint, requests bigint"),
    "why_kept": ("tenant text, digest text", "repository text, manifest_digest text, tag text, role text"),
    "digest": ("written text", "bytea"),
    "resolve_tag": ("tenant text, repository text, tag text, at timestamptz", "digest text"),
    "actor_activity": (
        "since timestamptz, until timestamptz",
        _ACTIVITY,
    ),
}
# Rival has nothing of it.
ONLY_ACME = {"quota_forecast", "incomplete_indexes", "stuck_uploads", "never_pulled_repositories"}
# Of the server: the same for everybody.
WITHOUT_TENANT = {"schema_health"}


@pytest.fixture(scope="module")
def owner(world: World) -> Any:  # noqa: ANN401  # an iterator of connections
    with psycopg.connect(world.url, autocommit=True) as connection:
        yield connection


def spelled(text: str) -> str:
    return text.replace("timestamp with time zone", "timestamptz")


def test_no_report_is_lost_and_none_comes_unannounced(owner: Connection) -> None:
    found = owner.execute(
        "select relname::text, relkind::text from pg_class where relnamespace = 'report'::regnamespace"
    ).fetchall()
    assert dict(found) == dict.fromkeys(COLUMNS, "v")
    functions = owner.execute(
        "select proname::text from pg_proc where pronamespace = 'report'::regnamespace"
    ).fetchall()
    assert sorted(name for (name,) in functions) == sorted(FUNCTIONS)


@pytest.mark.parametrize("view", COLUMNS)
def test_no_column_is_lost(owner: Connection, view: str) -> None:
    found = owner.execute(
        "select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 order by attnum",
        [f"report.{view}"],
    ).fetchall()
    assert [spelled(column) for (column,) in found] == COLUMNS[view].split(", ")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_argument_and_no_result_is_lost(owner: Connection, function: str) -> None:
    [(arguments, result)] = owner.execute(
        "select regexp_replace(pg_get_function_arguments(oid), ' DEFAULT [^,]*', '', 'g'), pg_get_function_result(oid) "
        "from pg_proc where pronamespace = 'report'::regnamespace and proname = %s",
        [function],
    ).fetchall()
    assert (spelled(arguments), spelled(result).removeprefix("TABLE(").removesuffix(")")) == FUNCTIONS[function]


def test_every_report_and_column_says_what_it_is(owner: Connection) -> None:
    silent = owner.execute(
        "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where c.relnamespace = 'report'::regnamespace and col_description(c.oid, a.attnum) is null and a.attnum > 0"
    ).fetchall()
    assert silent == []
    assert [name for name, comment in comments(owner).items() if "\n\nselect " not in (comment or "")] == []


def comments(owner: Connection) -> dict[str, str | None]:
    """Of views and functions."""
    return dict(
        owner.execute(
            "select relname::text, obj_description(oid, 'pg_class') from pg_class "
            "where relnamespace = 'report'::regnamespace "
            "union all select proname::text, obj_description(oid, 'pg_proc') from pg_proc "
            "where pronamespace = 'report'::regnamespace"
        ).fetchall()
    )


def test_who_reads_reports_reads_all_of_them_and_nobody_else_does(owner: Connection) -> None:
    rights = owner.execute(
        "select c.relname, a.grantee::regrole::text, a.privilege_type from pg_class c, aclexplode(c.relacl) a "
        "where c.relnamespace = 'report'::regnamespace and a.grantee <> c.relowner union all "
        "select p.proname, a.grantee::regrole::text, a.privilege_type from pg_proc p, aclexplode(p.proacl) a "
        "where p.pronamespace = 'report'::regnamespace and a.grantee <> p.proowner"
    ).fetchall()
    expected = {(name, role, "SELECT") for name in COLUMNS for role in (AUDITOR_ROLE, READER_ROLE)}
    expected |= {(name, role, "EXECUTE") for name in FUNCTIONS for role in (AUDITOR_ROLE, READER_ROLE)}
    assert set(rights) == expected


def test_every_example_runs_for_both(owner: Connection, auditor: Connection, tenant: Connection) -> None:
    for comment in comments(owner).values():
        example = (comment or "").split("\n\n", 1)[1]
        for connection in (auditor, tenant):
            connection.execute(example)


@pytest.mark.parametrize("view", sorted(COLUMNS.keys() - WITHOUT_TENANT))
def test_a_tenants_role_sees_its_rows_and_no_others(auditor: Connection, tenant: Connection, view: str) -> None:
    everything = auditor.execute(f"select * from report.{view}").fetchall()
    own = auditor.execute(f"select * from report.{view} where tenant = '{ACME}'").fetchall()
    assert own
    assert len(own) < len(everything) or view in ONLY_ACME
    assert sorted(map(repr, tenant.execute(f"select * from report.{view}").fetchall())) == sorted(map(repr, own))


def test_functions_show_a_tenants_role_its_rows_only(auditor: Connection, tenant: Connection) -> None:
    resolve = "select * from report.resolve_tag('{0}', '{0}/web', 'latest', now())"
    assert len(auditor.execute(resolve.format("rival")).fetchall()) == 1
    assert tenant.execute(resolve.format("rival")).fetchall() == []
    assert len(tenant.execute(resolve.format("acme")).fetchall()) == 1
    activity = "select distinct tenant from report.actor_activity('-infinity', 'infinity')"
    assert tenant.execute(activity).fetchall() == [("acme",)]
    assert {("acme",), ("rival",)} <= set(auditor.execute(activity).fetchall())
