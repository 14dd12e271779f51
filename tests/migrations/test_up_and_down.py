"""Every revision, up and down, empty and populated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from distsql.embedded import PrivatePostgres
from distsql.embedded.binaries import DEBIAN_FOLDER, find_binaries
from distsql.sql import schema
from distsql.sql.catalogue import metadata
from distsql.sql.database import SERVE_ROLE
from tests import postgres
from tests.migrations import snapshots
from tests.migrations.population import NOTATION, populate

HEAD = schema.head_revision()
REVISIONS = [
    script.revision
    for script in ScriptDirectory.from_config(schema.configuration()).walk_revisions(base="base", head="heads")
][::-1]


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """An empty database."""
    return new_database()


def test_up_from_nothing(url: str) -> None:
    assert schema.current_revision(url) is None
    assert schema.migrate(url) == (None, HEAD)
    assert schema.current_revision(url) == HEAD
    schema.check_revision(url)


def test_each_revision_up_and_down_and_up_again(url: str) -> None:
    below: str = "base"
    for revision in REVISIONS:
        schema.migrate(url, to=revision)
        there = snapshots.shape(url)
        schema.migrate(url, to=below)
        schema.migrate(url, to=revision)
        assert snapshots.shape(url) == there
        below = revision
    assert schema.current_revision(url) == HEAD


def test_the_role_is_the_cluster_s_and_stays(url: str, new_database: Callable[[], str]) -> None:
    """Other databases use it: the way back takes its rights away, and a second database finds it there."""
    schema.migrate(url, to="0005")
    assert {name for name, _, grantee, *_ in snapshots.shape(url)["rights"] if grantee == SERVE_ROLE} >= {
        "tags",
        "tenants",
    }
    schema.migrate(url, to="0004")
    shape = snapshots.shape(url)
    assert shape["rights"] == []
    assert {(on, forced, policy) for _, on, forced, policy, *_ in shape["row-level security"]} == {(False, False, None)}
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("select 1 from pg_roles where rolname = %s", (SERVE_ROLE,)).fetchall() == [(1,)]
        usable = connection.execute(
            "select exists (select from pg_namespace n, aclexplode(n.nspacl) a "
            "where n.nspname = 'public' and a.grantee = %s::regrole)",
            (SERVE_ROLE,),
        ).fetchall()
    assert usable == [(False,)]
    schema.migrate(new_database(), to="0005")


async def test_population_leaves_no_table_empty(database_url: str, tmp_path: Path) -> None:
    await populate(database_url, tmp_path)
    assert [table for table, found in snapshots.rows(database_url).items() if not found] == []


async def test_down_and_up_again_on_a_populated_database(url: str, tmp_path: Path) -> None:
    schema.migrate(url)
    await populate(url, tmp_path / "1")
    for below in [*REVISIONS[:-1][::-1], "base"]:
        schema.migrate(url, to=below)
    assert snapshots.everything(url) == []
    schema.migrate(url)
    await populate(url, tmp_path / "2")
    schema.check_revision(url)


async def test_one_revision_back_and_up_again_keeps_the_rows(url: str, tmp_path: Path) -> None:
    """What both revisions know survives: tables that the newest one added are its own, as are marks of deletion."""
    schema.migrate(url)
    await populate(url, tmp_path)
    forget_deleted(url)
    before = snapshots.rows(url)
    for below in REVISIONS[:-1][-1:]:
        schema.migrate(url, to=below)
        known = snapshots.rows(url).keys()
        schema.migrate(url)
        after = snapshots.rows(url)
        assert {table: len(after[table]) for table in known} == {table: len(before[table]) for table in known}


def forget_deleted(url: str) -> None:
    with psycopg.connect(url) as connection:
        gone = "(select tenant_id, id from repositories where deleted_at is not null)"
        for table in ("tags", "manifests", "layers", "uploads"):
            connection.execute(f"delete from {table} where (tenant_id, repository_id) in {gone}")
        connection.execute("delete from repositories where deleted_at is not null")
        connection.execute("delete from manifests where deleted_at is not null")


async def test_the_way_back_takes_along_what_is_deleted(url: str, tmp_path: Path) -> None:
    """0003 and 0004: the version before would show it."""
    schema.migrate(url)
    await populate(url, tmp_path)
    forgotten = snapshots.rows(url)
    schema.migrate(url, to="0002")
    schema.migrate(url)
    kept = snapshots.rows(url)
    forget_deleted(url)
    assert snapshots.rows(url) == kept
    assert len(kept["manifests"]) == len(forgotten["manifests"]) - 2
    assert len(kept["repositories"]) == len(forgotten["repositories"]) - 1


async def test_what_signs_what_is_found_in_what_was_there(url: str, tmp_path: Path) -> None:
    """0002 makes the rows that pushing and tagging would have written, of signatures that were there before it."""
    schema.migrate(url)
    await populate(url, tmp_path)
    written = signing(url)
    assert len(written) == 6
    schema.migrate(url, to="0001")
    schema.migrate(url)
    assert signing(url) == written


async def test_labels_are_found_in_what_was_there(url: str, tmp_path: Path) -> None:
    """0038 reads them as a push does; what can't be read is passed over."""
    labels = "select key, value from manifest_labels"
    schema.migrate(url)
    await populate(url, tmp_path)
    for _ in range(2):
        with psycopg.connect(url) as connection:
            assert connection.execute(labels).fetchall() == [("stage", "testing")]
        schema.migrate(url, to="0037")
        schema.migrate(url)


def signing(url: str) -> list[tuple[object, ...]]:
    """All but the instants: a tag's is that of the clock, a row's that of its transaction."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select tenant_id, repository_id, digest_text(subject_digest), digest_text(manifest_digest), kind "
            "from signing_manifests order by 1, 2, 3, 4, 5"
        ).fetchall()


async def test_pushes_go_on_while_0002_looks_for_signatures(url: str, tmp_path: Path) -> None:
    """Only at its end it waits for who writes manifests; a signature that was deleted meanwhile has no row."""
    schema.migrate(url)
    await populate(url, tmp_path)
    written = signing(url)
    schema.migrate(url, to="0001")
    with psycopg.connect(url) as other:
        gone = other.execute("select digest from manifests where artifact_type = %s", [NOTATION]).fetchall()
        other.execute("delete from manifests where artifact_type = %s", [NOTATION])
        migrating = asyncio.create_task(asyncio.to_thread(schema.migrate, url))
        while not blocked(url):
            await asyncio.sleep(0.01)
        other.commit()
    await migrating
    assert len(gone) == 1
    assert len(signing(url)) == len(written) - 1


def blocked(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return (
            connection.execute(
                "select 1 from pg_locks where not granted and relation = 'manifests'::regclass"
            ).fetchall()
            != []
        )


async def test_layers_say_how_long_their_blobs_are(url: str, tmp_path: Path) -> None:
    """0031 fills in what was linked before it, batch after batch; who links now says it."""
    schema.migrate(url)
    await populate(url, tmp_path)
    wrong = (
        "select count(*) filter (where l.length is distinct from b.length), count(*) "
        "from layers l join blobs b using (tenant_id, digest)"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        [(unequal, before)] = connection.execute(wrong).fetchall()
        assert (unequal, before > 0) == (0, True)
        schema.migrate(url, to="0030")
        connection.execute(
            "insert into blobs (tenant_id, digest, length, store_key) select tenant_id, "
            "'\\x01'::bytea || sha256(n::text::bytea), n, 'key ' || n from generate_series(1, 5000) n, "
            "(select min(tenant_id) as tenant_id from repositories) t"
        )
        connection.execute(
            "insert into layers (tenant_id, repository_id, digest) select b.tenant_id, r.id, b.digest from blobs b "
            "join repositories r using (tenant_id) where b.store_key like 'key %'"
        )
        schema.migrate(url)
        [(unequal, after)] = connection.execute(wrong).fetchall()
        assert (unequal, after >= before + 5000) == (0, True)


def test_sessions_find_their_accounts(url: str) -> None:
    """0013: by name, where the account of this name is older than the session; the others are nobody's."""
    schema.migrate(url, to="0012")
    account = (
        "insert into accounts (tenant_id, id, name, kind, secret_hash, created_at) values (%s, %s, %s, 'robot', '', %s)"
    )
    upload = (
        "insert into uploads (tenant_id, repository_id, uuid, algorithm, store_key, actor, expires_at, started_at) "
        "values (1, 1, gen_random_uuid(), 'sha256', '', %s, now(), '2026-01-02')"
    )
    with psycopg.connect(url) as connection:
        connection.execute("insert into tenants (id, name) values (1, 'acme'), (2, 'other')")
        connection.execute("insert into repositories (tenant_id, id, path) values (1, 1, 'web')")
        for row in [(1, 7, "old", "2026-01-01"), (1, 8, "new", "2026-01-03"), (2, 9, "old", "2026-01-01")]:
            connection.execute(account, row)
        for actor in ("acme/old", "acme/new", "anonymous"):
            connection.execute(upload, (actor,))
    schema.migrate(url, to="0013")
    with psycopg.connect(url) as connection:
        found = connection.execute("select actor, account_id from uploads order by actor").fetchall()
    assert found == [("acme/new", None), ("acme/old", 7), ("anonymous", None)]


def test_blobs_name_the_store_that_their_keys_are_of(url: str) -> None:
    """0028, of blobs that were there before it; the settings' store has no name."""
    schema.migrate(url, to="0027")
    blob = "insert into blobs (tenant_id, digest, length, store_key) values (%s, %s, 1, %s)"
    with psycopg.connect(url) as connection:
        connection.execute("insert into tenants (id, name) values (1, 'acme'), (2, 'other')")
        for row in [(1, b"1", "ab/1"), (1, b"2", "eu:ab/2"), (2, b"3", "lost:eu:ab/3"), (2, b"4", "lost:ab/4")]:
            connection.execute(blob, row)
    schema.migrate(url, to="0028")
    with psycopg.connect(url) as connection:
        found = connection.execute("select store from blobs order by digest").fetchall()
    assert found == [(None,), ("eu",), ("eu",), (None,)]


async def test_migrating_to_where_it_is_changes_nothing(url: str, tmp_path: Path) -> None:
    schema.migrate(url)
    await populate(url, tmp_path)
    before = snapshots.rows(url), snapshots.shape(url)
    assert schema.migrate(url) == (HEAD, HEAD)
    assert (snapshots.rows(url), snapshots.shape(url)) == before


# -- migrations end where the tables are ------------------------------------------------------------------------------


def test_alembic_finds_no_drift(worker_database: str) -> None:
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(worker_database), poolclass=NullPool
    )
    with engine.connect() as connection:
        command.check(schema.configuration(connection))


def test_postgresql_finds_no_drift(worker_database: str, url: str) -> None:
    """What alembic doesn't compare too: checks, partial and expression indexes, collations, comments, names."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    metadata.create_all(engine)
    migrated, defined = snapshots.shape(worker_database), snapshots.shape(url)
    for kind, found in migrated.items():
        # tests/sql/test_isolation_rules.py, tests/reports and tests/plans/test_vacuuming.py have these
        if kind not in {"row-level security", "rights", "reports", "functions", "storage"}:
            assert found == defined[kind], kind


# -- the oldest PostgreSQL --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oldest_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = DEBIAN_FOLDER / "15"
    if not (folder / "bin" / "initdb").exists():
        pytest.skip("PostgreSQL 15's programs are not installed here (Debian: postgresql-15)")
    place = tmp_path_factory.mktemp("postgres-15")
    for each in (place, *place.parents[:2]):
        each.chmod(0o755)  # started by root, the server runs as another user
    with PrivatePostgres(place, find_binaries(folder)):
        yield PrivatePostgres.url(place)


@pytest.mark.slow
async def test_postgresql_15(oldest_postgres: str, worker_database: str, tmp_path: Path) -> None:
    with postgres.new_database(oldest_postgres) as url:
        with psycopg.connect(url) as connection:
            assert connection.info.server_version // 10_000 == 15
        schema.migrate(url)
        assert snapshots.shape(url)["indexes"] == snapshots.shape(worker_database)["indexes"]
        await populate(url, tmp_path)
        schema.migrate(url, to="base")
        assert snapshots.everything(url) == []
        schema.migrate(url)
