"""``distsql tenant sql-access``: a role that reads one tenant's rows, and every way out of it that we know of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql as composed

import distsql
from distsql.app import Registry
from distsql.cli import main
from distsql.embedded import PrivatePostgres
from distsql.registry.sql_access import end_long_sessions, scram_verifier
from distsql.sql.sql_roles import end_sql_sessions, role_url
from tests import postgres
from tests.places import make_place
from tests.registry.pushing import push_image

Connection = psycopg.Connection[tuple[Any, ...]]
Denied = psycopg.errors.InsufficientPrivilege


@contextmanager
def catalogue_of_two(database_url: str, folder: Path) -> Iterator[list[str]]:
    """Options that pick a catalogue in which acme and rival have an image each; their roles are gone afterwards."""
    storage = (folder / "bytes").as_uri()

    async def push() -> None:
        async with distsql.connect(database_url, storage) as namespace:
            for tenant in ("acme", "rival"):
                await push_image(namespace.repository(f"{tenant}/web"), b"layer", tags=["v1"], owner=tenant)

    asyncio.run(push())
    yield ["--database-url", database_url, "--storage", storage]
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("select drop_sql_role(role_name) from sql_roles")


@pytest.fixture
def catalogue(database_url: str, tmp_path: Path) -> Iterator[list[str]]:
    with catalogue_of_two(database_url, tmp_path) as options:
        yield options


def run(catalogue: list[str], *arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["tenant", *arguments, *catalogue])
    assert result.exit_code == status, result.output
    return result


def give(catalogue: list[str], tenant: str = "acme") -> str:
    return run(catalogue, "sql-access", tenant).stdout.strip()


def seen(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("select distinct repository from tag_history order by 1")]


@pytest.fixture(scope="session")
def shared_url(postgres_server: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of acme's role in a catalogue that nobody changes. Rival has a role too."""
    with (
        postgres.new_database(postgres_server, template=template_database) as url,
        catalogue_of_two(url, tmp_path_factory.mktemp("shared")) as options,
    ):
        give(options, "rival")
        given = give(options)
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("analyze")
        yield given


@pytest.fixture
def tenant(shared_url: str) -> Iterator[Connection]:
    """Acme's role. What it isn't allowed to changes nothing: whoever comes next would see."""
    with psycopg.connect(shared_url, autocommit=True) as connection:
        yield connection
    with psycopg.connect(shared_url, autocommit=True) as connection:
        assert seen(connection) == ["acme/web"]


def test_it_reads_its_tenants_reports(tenant: Connection) -> None:
    assert seen(tenant) == ["acme/web"]
    assert tenant.execute("show statement_timeout").fetchall() == [("30s",)]
    assert tenant.execute("select name from public.tenants").fetchall() == [("acme",)]


def test_json_and_options(catalogue: list[str]) -> None:
    found = json.loads(run(catalogue, "sql-access", "acme", "--timeout", "5s", "--json").stdout)
    assert found["tenant"] == "acme"
    assert found["role"] in found["url"]
    assert "acme" not in found["role"]
    with psycopg.connect(found["url"]) as connection:
        assert connection.execute("show statement_timeout").fetchall() == [("5s",)]
        assert connection.execute("select current_user").fetchall() == [(found["role"],)]
    assert "--timeout" in run(catalogue, "sql-access", "acme", "--timeout", "long", status=2).stderr
    assert "nobody" in run(catalogue, "sql-access", "nobody", status=1).stderr


def test_a_new_url_ends_the_one_before(catalogue: list[str], sql: Connection) -> None:
    first = give(catalogue)
    with psycopg.connect(first, autocommit=True) as open_session:
        assert seen(open_session) == ["acme/web"]
        second = give(catalogue)
        with pytest.raises(psycopg.Error):  # neither does the session that is open see anything
            seen(open_session)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(first)
    with psycopg.connect(second) as connection:
        assert seen(connection) == ["acme/web"]
    run(catalogue, "sql-access", "acme", "--revoke")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(second)
    assert sql.execute("select 1 from sql_roles").fetchall() == []


def test_it_goes_with_its_tenant(catalogue: list[str], sql: Connection) -> None:
    """A rename changes nothing; a suspension shuts it, sessions that are open included; a deletion ends it."""
    url = give(catalogue)
    with psycopg.connect(url, autocommit=True) as session:
        run(catalogue, "rename", "acme", "apex")
        assert seen(session) == ["apex/web"]
        run(catalogue, "suspend", "apex")
        assert seen(session) == []
        assert session.execute("select 1 from public.tags").fetchall() == []
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        assert "resume" in run(catalogue, "sql-access", "apex", status=1).stderr
        run(catalogue, "resume", "apex")
        assert seen(session) == ["apex/web"]
    [(role,)] = sql.execute("select role_name from sql_roles").fetchall()
    run(catalogue, "delete", "apex")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert sql.execute("select 1 from pg_roles where rolname = %s", [role]).fetchall() == []


# -- ways out ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        "select set_config('app.tenant_id', (select id::text from public.tenants limit 1), false)",
        "select set_config('app.tenant_id', i::text, false) from generate_series(0, 3) i",
        "set row_security = on",
        "set search_path = pg_temp, public",
        "set role distsql_reader",
        "set default_transaction_read_only = off",
        "set statement_timeout = 0",
        "set session characteristics as transaction read write",
        "reset role",
        "set role none",
        "reset session authorization",
        "reset all",
        "discard all",
        "select set_config('role', current_user, false)",
        "set search_path = report, pg_catalog, public, pg_temp",
        "set plan_cache_mode = force_generic_plan",
        "set transform_null_equals = on",
        "set backslash_quote = on",
        "set application_name = 'distsql'",
    ],
)
def test_no_setting_shows_another_tenant(tenant: Connection, setting: str) -> None:
    tenant.execute(setting)
    shown = {name for (name,) in tenant.execute("select distinct tenant from report.tag_history")}
    assert shown <= {"acme"}
    assert {name for (name,) in tenant.execute("select name from public.tenants")} <= {"acme"}


def roles(tenant: Connection) -> list[str]:
    """PostgreSQL shows all names of roles to everybody: that is why they tell nothing."""
    return [name for (name,) in tenant.execute("select rolname::text from pg_roles where rolname <> current_user")]


def test_it_becomes_nobody_else(tenant: Connection) -> None:
    tenant.execute("set default_transaction_read_only = off")
    assert not [name for name in roles(tenant) if "rival" in name or "acme" in name]
    for name in roles(tenant):
        for statement in ("set role {}", "set session authorization {}", "alter role {} password 'mine'"):
            if (statement, name) != ("set role {}", "distsql_reader"):
                with pytest.raises((Denied, psycopg.errors.ReservedName)):
                    tenant.execute(composed.SQL(statement).format(composed.Identifier(name)))


@pytest.mark.parametrize(
    "statement",
    [
        "alter role current_user createrole",
        "alter role current_user set app.tenant_id = '0'",
        "alter role current_user bypassrls",
        "alter role current_user connection limit 1000",
        "grant distsql_auditor to current_user",
        "grant distsql_serve to current_user",
        "update sql_roles set tenant_id = 0",
        "insert into sql_roles (tenant_id, role_name) values (1, current_user)",
        "delete from tags",
        "insert into tenants (name) values ('mine')",
        "truncate tags",
        "alter table tags no force row level security",
        "drop policy reader on tags",
        "create policy mine on tags using (true)",
        "create table public.mine (x int)",
        "create view report.mine as select 1",
        "create schema mine",
        "create function report.tenant_usage() returns int language sql as 'select 1'",
        "create temporary table mine (x int)",
        "create temporary view tags as select 1",
        "create or replace function pg_temp.digest_text(bytea) returns text language sql as 'select null::text'",
        "alter view report.tenant_usage set (security_invoker = false)",
        "comment on view report.tenant_usage is 'mine'",
        "do $$ begin lock table tags in access exclusive mode; end $$",
        "select * from signing_keys",
        "select secret_hash from accounts",
        "select payload from manifests",
        "select store_key from blobs",
        "select * from alembic_version",
        "select tenant_id_of('rival')",
        "select ensure_tenant('mine')",
        "select tenant_of('rival')",
        "select make_sql_role('mine', 'x', 1)",
        "select open_sql_role('distsql_auditor', true)",
        "select drop_sql_role('distsql_auditor')",
        "select * from pg_statistic",
        "select * from pg_authid",
        "select * from pg_user_mapping",
        "select * from pg_hba_file_rules",
        "select pg_read_binary_file('pg_hba.conf')",
        "select pg_stat_file('.')",
        "select pg_current_logfile()",
        "copy (select 1) to program 'id'",
        "copy signing_keys to stdout",
        "copy accounts to stdout",
        "select pg_export_snapshot() from pg_export_snapshot() x, signing_keys",
        "select lo_creat(-1)",
        "select lo_create(0)",
        "select lo_from_bytea(0, 'fills the disk')",
        "select lo_import('/etc/passwd')",
        "select lo_export(1, '/tmp/mine')",
        "select set_config('role', 'distsql_serve', false)",
        "select set_config('session_authorization', 'distsql_serve', false)",
        "select set_config('session_replication_role', 'replica', false)",
        "create extension postgres_fdw",
        "create publication mine for all tables",
        "create event trigger mine on ddl_command_start execute function mine()",
        "create language plperlu",
        "create function pg_temp.mine() returns void language sql security definer as 'select 1'",
        "create operator public.= (function = texteq, leftarg = text, rightarg = text)",
        "alter function report.digest(text) leakproof",
        "alter view report.tenant_usage owner to current_user",
        "select roll_up_days()",
        "select drop_audit_month('audit_events_rest')",
        "select pg_switch_wal()",
        "select pg_create_restore_point('mine')",
        "select pg_logical_slot_get_changes('mine', null, null)",
        "select pg_promote()",
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('.')",
        "copy tags to program 'id'",
        "copy (select 1) to '/tmp/mine'",
        "select pg_reload_conf()",
        "load 'auto_explain'",
        "create extension dblink",
        "set session_replication_role = replica",
        "set log_statement = 'none'",
    ],
)
def test_it_changes_nothing_and_reads_no_secrets(tenant: Connection, statement: str) -> None:
    tenant.execute("set default_transaction_read_only = off; set search_path = public")
    with pytest.raises((Denied, psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported)):
        tenant.execute(statement)


def test_partitions_are_no_way_past_their_table(tenant: Connection) -> None:
    names = tenant.execute("select relname::text from pg_class where relispartition and relkind = 'r'").fetchall()
    assert names
    for (name,) in names:
        with pytest.raises(Denied):
            tenant.execute(composed.SQL("select 1 from public.{}").format(composed.Identifier(name)))


def test_row_security_off_shows_nothing(tenant: Connection) -> None:
    tenant.execute("set row_security = off")
    with pytest.raises(Denied):
        tenant.execute("select 1 from public.tags")


def test_a_function_of_its_own_sees_no_row_before_the_policy(tenant: Connection) -> None:
    """A condition that tells what it sees: what isn't leakproof is asked after the policy."""
    heard: list[str] = []
    tenant.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
    tenant.execute("set search_path = public")
    tenant.execute(
        "do $$ declare x record; begin for x in select name from tenants where name::bytea <> '' loop "
        "raise notice '%', x.name; end loop; end $$"
    )
    assert heard == ["acme"]
    with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="acme"):
        tenant.execute("select 1 from tenants where name::int = 1")


def test_no_report_tells_in_an_error_what_it_does_not_show(tenant: Connection) -> None:
    """A condition that fails at what it sees, on every column of every view: only what the tenant has is in it."""
    columns = tenant.execute(
        "select c.relname::text, a.attname::text from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where c.relnamespace = 'report'::regnamespace and c.relkind = 'v' and a.attnum > 0 "
        "and c.relname <> 'schema_health' and a.atttypid in ('text'::regtype, 'bytea'::regtype)"
    ).fetchall()
    assert len(columns) > 100
    errors = [error for view, column in columns if (error := what_fails(tenant, view, column))]
    assert len(errors) > 20
    assert [error for error in errors if 'type integer: "acme' not in error] == []


def what_fails(tenant: Connection, view: str, column: str) -> str | None:
    question = composed.SQL("select 1 from report.{} where (tenant || ' ' || {}::text)::int = 1")
    try:
        tenant.execute(question.format(composed.Identifier(view), composed.Identifier(column)))
    except psycopg.errors.InvalidTextRepresentation as error:
        return str(error)
    return None


def test_a_cursor_or_a_prepared_question_shows_no_more_later(tenant: Connection) -> None:
    """Whatever it sets between the question and the answer."""
    with tenant.transaction():
        tenant.execute("declare held cursor for select distinct tenant from report.tag_history")
        tenant.execute("select set_config('app.tenant_id', i::text, true) from generate_series(0, 3) i")
        assert tenant.execute("fetch all held").fetchall() == [("acme",)]
    tenant.execute("prepare asked as select distinct tenant from report.tag_history")
    tenant.execute("set role distsql_reader")
    assert tenant.execute("execute asked").fetchall() == []
    tenant.execute("reset role")
    assert tenant.execute("execute asked").fetchall() == [("acme",)]
    with tenant.cursor().copy("copy (select distinct tenant from report.tag_history) to stdout") as copied:
        assert b"".join(map(bytes, copied)) == b"acme\n"


def test_it_ends_nobody_else(catalogue: list[str]) -> None:
    """Neither a server's sessions nor those of another tenant's role."""
    with (
        psycopg.connect(give(catalogue, "rival"), autocommit=True) as rival,
        psycopg.connect(give(catalogue), autocommit=True) as tenant,
    ):
        for function in ("pg_terminate_backend", "pg_cancel_backend"):
            with pytest.raises(Denied):
                tenant.execute(f"select {function}(%s)", [rival.info.backend_pid])
        others = tenant.execute(
            "select a.pid from pg_stat_activity a where usename is distinct from current_user and usename is not null"
        ).fetchall()
        assert rival.info.backend_pid in {pid for (pid,) in others}
        assert seen(rival) == ["rival/web"]


async def test_who_lifts_the_timeout_is_ended(catalogue: list[str], sql: Connection, registry: Registry) -> None:
    """And who keeps a lock that servers need; not who is within it, does nothing, or belongs to somebody else."""
    url, rivals = [await asyncio.to_thread(give, catalogue, tenant) for tenant in ("acme", "rival")]
    lifted = "alter role current_user set statement_timeout = 0"
    connect = partial(psycopg.connect, url, autocommit=True)
    rival = psycopg.connect(rivals, autocommit=True)
    with connect() as idle, connect() as first, connect() as second, connect() as third, rival:
        idle.execute("set default_transaction_read_only = off")
        idle.execute(lifted)
        with connect() as later:
            assert later.execute("show statement_timeout").fetchall() == [("0",)]
            assert seen(later) == ["acme/web"]
        first.execute("set statement_timeout = 0")
        sleeping = asyncio.create_task(asyncio.to_thread(first.execute, "select pg_sleep(300)"))
        second.execute("begin; set local idle_in_transaction_session_timeout = 0; select 1 from tag_history")
        rival.execute("begin")
        busy = "select count(*) from pg_stat_activity where query like '%pg_sleep(300)%' and pid <> pg_backend_pid()"
        async with asyncio.timeout(20):
            while sql.execute(busy).fetchall() != [(1,)]:
                await asyncio.sleep(0.01)
        everything = registry.backend.everything
        await end_long_sessions(everything)
        third.execute("select pg_advisory_lock(1)")
        assert len(await everything.transact(end_sql_sessions)) == 1
        with pytest.raises(psycopg.OperationalError):
            third.execute("select 1")
        sql.execute(
            "update sql_roles set timeout_ms = 0 where tenant_id = (select id from tenants where name = 'acme')"
        )
        await end_long_sessions(everything)
        with pytest.raises(psycopg.OperationalError, match="terminat"):
            await sleeping
        with pytest.raises(psycopg.OperationalError):
            second.execute("select 1")
        assert seen(idle) == ["acme/web"]
        assert seen(rival) == ["rival/web"]


def test_statistics_show_no_values(tenant: Connection) -> None:
    assert tenant.execute("select * from pg_stats where schemaname = 'public'").fetchall() == []
    assert tenant.execute("select * from pg_stats_ext").fetchall() == []
    other = tenant.execute(
        "select query from pg_stat_activity where pid <> pg_backend_pid() and usename is distinct from current_user"
    ).fetchall()
    assert {query for (query,) in other} <= {"<insufficient privilege>", None, ""}


def test_the_server_hears_no_password() -> None:
    made = scram_verifier("secret")
    assert made.startswith("SCRAM-SHA-256$4096:")
    assert "secret" not in made


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("postgresql://o:p@h:6000/d?sslmode=require", "postgresql://r:a%2Fb@h:6000/d?sslmode=require"),
        ("postgresql://o@[::1]/d", "postgresql://r:a%2Fb@[::1]/d"),
        ("postgresql://o:p@/d?host=/run/x&port=5432", "postgresql://r:a%2Fb@/d?host=/run/x&port=5432"),
        ("host=a,b dbname=d user=o options=-cx=1", "postgresql://r:a%2Fb@/d?host=a,b"),
    ],
)
def test_urls(owner: str, expected: str) -> None:
    assert role_url(owner, "r", "a/b") == expected
    psycopg.conninfo.conninfo_to_dict(expected)


@pytest.mark.slow
def test_the_private_postgresql_has_it_too() -> None:
    place = make_place()
    data = ["--data", str(place / "data")]
    with PrivatePostgres(place / "data"):
        for arguments in (["migrate", *data], ["tenant", "create", "acme", *data]):
            assert CliRunner().invoke(main, arguments).exit_code == 0
        url = CliRunner().invoke(main, ["tenant", "sql-access", "acme", *data]).stdout.strip()
        with psycopg.connect(url) as connection:
            assert connection.execute("select tenant from tenant_usage").fetchall() == [("acme",)]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace(":", ":not", 2).replace("postgresql:not", "postgresql:"))
