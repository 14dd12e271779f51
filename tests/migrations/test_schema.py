"""`distsql.sql.schema`: who may migrate when, what is said when the revision isn't right, the months of the audit."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import psycopg
import pytest

from distsql.errors import CatalogueUnavailableError, SchemaError, SettingsError
from distsql.sql import revisions, schema
from distsql.sql.audit import partition_statements
from tests import postgres
from tests.migrations import snapshots

HEAD = schema.head_revision()
Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def migrated(postgres_server: str, template_database: str) -> Iterator[str]:
    """A copy: migrating one takes ten times as long."""
    with postgres.new_database(postgres_server, template=template_database) as copied:
        yield copied


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


# -- one at a time, and not at any price ------------------------------------------------------------------------------


def test_two_at_the_same_time_take_turns(url: str) -> None:
    results: list[object] = []

    def migrate() -> None:
        try:
            results.append(schema.migrate(url))
        except BaseException as error:  # noqa: BLE001  # compared below
            results.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One found nothing and made it; the others found what it made.
    assert sorted(map(str, results)) == sorted(map(str, [(None, HEAD), (HEAD, HEAD), (HEAD, HEAD)]))


@pytest.mark.slow
def test_what_can_not_have_its_lock_fails_instead_of_holding_up_others(migrated: str) -> None:
    with psycopg.connect(migrated) as reader:
        reader.execute("select 1 from manifests")
        with pytest.raises(CatalogueUnavailableError, match="run `distsql migrate` again"):
            schema.migrate(migrated, to="base")
    reached = schema.current_revision(migrated)  # what was done before the step that failed is kept
    assert reached is not None
    left = snapshots.shape(migrated)
    schema.migrate(migrated)
    schema.migrate(migrated, to=reached)
    assert snapshots.shape(migrated) == left  # and nothing of that step
    assert schema.migrate(migrated, to="base") == (reached, None)  # the turn was given back


# -- revisions --------------------------------------------------------------------------------------------------------


def test_the_right_revision(migrated: str) -> None:
    schema.check_revision(migrated)


def test_no_revision(url: str) -> None:
    with pytest.raises(SchemaError, match="no distsql schema yet: run `distsql migrate`"):
        schema.check_revision(url)


def test_an_older_revision(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "head_revision", lambda: "9999")
    with pytest.raises(SchemaError, match=f"is at {HEAD}, this version needs 9999: run `distsql migrate`"):
        schema.check_revision(migrated)


def test_a_newer_revision(migrated: str) -> None:
    execute(migrated, "update alembic_version set version_num = '9999'")
    for work in (schema.check_revision, schema.migrate):
        with pytest.raises(SchemaError, match=f"9999, which this version doesn't know.*--to {HEAD}"):
            work(migrated)
    with pytest.raises(SchemaError, match="doesn't know"):
        schema.migrate(migrated, to="base")


def test_a_revision_that_does_not_exist(migrated: str) -> None:
    for work in (schema.migrate, schema.plan):
        with pytest.raises(SchemaError, match="There is no revision 'nonsense'"):
            work(migrated, to="nonsense")


def test_the_plan_names_what_would_be_done(url: str) -> None:
    steps = schema.plan(url)
    assert steps[-1][0] == HEAD
    assert steps[0] == (
        "0001",
        "The catalogue: tenants, repositories, content, tags with their history, uploads, signatures, audit.",
    )
    assert schema.current_revision(url) is None
    schema.migrate(url)
    assert schema.plan(url) == []
    down = schema.plan(url, to="base")
    assert [revision for revision, _ in down] == [revision for revision, _ in steps[::-1]]
    assert down[-1][1].startswith("undo: ")


@pytest.mark.parametrize("work", [schema.migrate, schema.plan, schema.check_revision, schema.current_revision])
def test_a_server_that_is_not_there(work: Callable[[str], object]) -> None:
    with pytest.raises(CatalogueUnavailableError, match="doesn't answer"):
        work("postgresql://127.0.0.1:1/x")


@pytest.mark.parametrize("work", [schema.migrate, schema.check_revision])
def test_a_url_that_is_none(work: Callable[[str], object]) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        work("postgresql://[nonsense")


def test_the_quick_look_knows_the_head_that_alembic_knows(migrated: str, new_database: Callable[[], str]) -> None:
    """Servers and commands look without alembic, whose word is asked for only where something is wrong."""
    assert revisions._heads() == [HEAD]
    assert revisions.is_current(migrated)
    assert not revisions.is_current(new_database())
    with psycopg.connect(migrated, autocommit=True) as sql:
        assert revisions.has_months_ahead(migrated)
        sql.execute("update alembic_version set version_num = '0001'")
        assert not revisions.is_current(migrated)
        with pytest.raises(SchemaError, match="run `distsql migrate`"):
            revisions.check_revision(migrated)


def test_a_server_starts_without_what_is_slow_to_import() -> None:
    """The main process of a `serve` checks the schema and keeps the audit's months with psycopg alone."""
    code = (
        "import sys, distsql.cli.serve, distsql.sql.revisions, distsql.api.log_lines, distsql.bytestore.urls;"
        "print({'sqlalchemy', 'alembic', 'cryptography', 'boto3', 'httpx'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- months -----------------------------------------------------------------------------------------------------------


def months() -> list[str]:
    """This month's partition and the next three."""
    return list(partition_statements(datetime.now(UTC).date(), 4))


def insert_event(url: str, at: str) -> str:
    """The partition that it went to."""
    [(partition,)] = execute(
        url,
        "insert into audit_events (tenant_id, at, id, actor, action) "
        f"values (0, '{at}', (random() * 1e9)::bigint, 'ann', 'test') returning tableoid::regclass::text",
    )
    return str(partition)


def partitions(url: str) -> set[object]:
    return {
        name
        for (name,) in execute(
            url, "select inhrelid::regclass::text from pg_inherits where inhparent = 'audit_events'::regclass"
        )
    }


def test_names_of_months() -> None:
    assert list(partition_statements(date(2026, 11, 30), 4)) == [
        "audit_events_2026_11",
        "audit_events_2026_12",
        "audit_events_2027_01",
        "audit_events_2027_02",
    ]
    assert "'2028-02-01T00:00:00+00:00'" in partition_statements(date(2028, 1, 31), 1)["audit_events_2028_01"][-1]


def test_the_months_ahead_are_there(migrated: str) -> None:
    assert partitions(migrated) == {*months(), "audit_events_rest"}
    assert insert_event(migrated, "now") == months()[0]


@pytest.mark.parametrize("at", ["1999-12-31", "2999-01-01", "infinity"])
def test_an_event_outside_of_all_months_is_kept_with_the_rest(migrated: str, at: str) -> None:
    assert insert_event(migrated, at) == "audit_events_rest"


def test_a_month_that_nobody_made_ahead_takes_its_events_from_the_rest(migrated: str) -> None:
    late = months()[1]
    execute(migrated, f"drop table {late}")
    first = late.removeprefix("audit_events_").replace("_", "-") + "-01 00:00+00"
    assert insert_event(migrated, first) == "audit_events_rest"
    assert insert_event(migrated, "1999-12-31") == "audit_events_rest"
    schema.migrate(migrated)
    # Migrations leave events of their own, of now.
    own = "select tableoid::regclass::text from audit_events where not at between now() - '1 h'::interval and now()"
    assert execute(migrated, f"{own} order by at") == [("audit_events_rest",), (late,)]
    assert insert_event(migrated, first) == late


def test_months_are_made_without_migrating_too(migrated: str) -> None:
    execute(migrated, f"drop table {months()[-1]}")
    schema.make_partitions(migrated)
    schema.make_partitions(migrated)
    assert partitions(migrated) == {*months(), "audit_events_rest"}


def test_a_month_s_partition_is_like_the_table(migrated: str) -> None:
    """Its primary key comes with attaching it; policies and privileges are the table's."""
    keys = execute(
        migrated,
        "select conrelid::regclass::text from pg_constraint where contype = 'p' and conname like 'audit_events%'",
    )
    assert {name for (name,) in keys} == {"audit_events", "audit_events_rest", *months()}
