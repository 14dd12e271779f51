"""Pulls between the request and the catalogue: when they are written, what is lost, and what is never counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from distsql import app
from distsql.app import Registry
from distsql.errors import CatalogueUnavailableError
from distsql.oci.digest import Digest
from distsql.registry import pulls as pulls_module
from distsql.registry.context import Backend
from distsql.registry.garbage import GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.pulls import Pulls, add_up_in_turn, forget_ended_tags
from distsql.registry.reviews import Periods
from distsql.settings import Settings
from distsql.sql import health, pull_batches
from distsql.sql.database import Database
from distsql.sql.pull_batches import CountedPulls
from distsql.sql.transactions import Transaction
from distsql.values import ActorKind, Caller
from tests.registry.counting import count_pulls
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[object, ...]]
ACTOR_KINDS: tuple[ActorKind, ...] = ("account", "robot")


def pulls_of(sql: Sql) -> int:
    """Those that are added up, and those that are written down only."""
    [(found,)] = sql.execute(
        "select coalesce(sum(pulls), 0)::bigint from "
        "(select pulls from daily_pulls union all select unnest(pulls) from pull_batches) c"
    ).fetchall()
    assert isinstance(found, int)
    return found


@pytest.fixture
async def web(namespace: StoredNamespace) -> str:
    await push_image(namespace.repository("acme/web"), b"layer", tags=["latest"])
    return "acme/web"


async def test_they_are_written_by_themselves_after_the_interval(registry: Registry, web: str, sql: Sql) -> None:
    pulls = Pulls(registry.backend.everything, interval_s=0.05)
    for _ in range(2):
        pulls.add(web, "robot", None, None, 1, 0, 0)
        before = pulls_of(sql)
        async with asyncio.timeout(20):
            while pulls_of(sql) == before:
                await asyncio.sleep(0.02)
    assert pulls_of(sql) == 2
    await pulls.close()


async def test_what_comes_while_others_are_written_is_written_next(
    registry: Registry, web: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = Pulls(registry.backend.everything, interval_s=0.05)
    insert, added = pull_batches.insert_pull_batch, list[bool]()

    async def slow(tx: Transaction, counted: Sequence[CountedPulls]) -> None:
        await insert(tx, counted)
        if not added:
            pulls.add(web, "robot", None, None, 1, 0, 0)
            added.append(True)

    monkeypatch.setattr(pull_batches, "insert_pull_batch", slow)
    pulls.add(web, "robot", None, None, 1, 0, 0)
    async with asyncio.timeout(20):
        while pulls_of(sql) < 2:
            await asyncio.sleep(0.02)
    await pulls.close()


async def test_a_process_that_stops_writes_what_is_left(registry: Registry, web: str, sql: Sql) -> None:
    pulls = Pulls(registry.backend.everything, interval_s=3600)
    pulls.add(web, "robot", None, None, 1, 0, 0)
    await pulls.close()
    assert pulls_of(sql) == 1
    assert sql.execute("select count(*) from pull_batches").fetchall() == [(0,)]


async def test_a_process_that_counts_nothing_asks_nothing_of_the_catalogue() -> None:
    """A command, or one whose catalogue may not be written."""
    away = Database("postgresql://127.0.0.1:1/none")
    await Pulls(away, interval_s=3600).close()
    await away.close()


async def test_while_the_catalogue_is_away_they_are_kept(
    registry: Registry, web: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = Pulls(registry.backend.everything, interval_s=3600)

    async def away(self: Database, work: object, **more: object) -> None:
        raise CatalogueUnavailableError("away")

    for _ in range(3):
        pulls.add(web, "robot", "latest", None, 1, 0, 0)
        with monkeypatch.context() as patched:
            patched.setattr(Database, "transact", away)
            assert await pulls.flush()
    assert not await pulls.flush()
    assert pulls_of(sql) == 3
    await pulls.close()
    assert sql.execute("select pulls from tag_pulls").fetchall() == [(3,)]


async def test_a_commit_of_unknown_outcome_is_not_repeated(
    registry: Registry, web: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = Pulls(registry.backend.everything, interval_s=3600)
    commit = Transaction.commit

    async def lost(tx: Transaction) -> None:
        await commit(tx)
        raise psycopg.OperationalError("the connection was lost")

    pulls.add(web, "robot", None, None, 1, 0, 0)
    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "commit", lost)
        assert not await pulls.flush()
    assert not await pulls.flush()
    assert pulls_of(sql) == 1


async def test_memory_is_bounded(registry: Registry, web: str, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many different things are written ahead of their time; with the catalogue away the oldest are forgotten."""
    monkeypatch.setattr(pulls_module, "_MANY", 3)
    monkeypatch.setattr(pulls_module, "_MOST", 5)
    pulls = Pulls(registry.backend.everything, interval_s=3600)
    for number in range(100):
        pulls.add(web, "robot", f"v{number}", None, 1, 0, 0)
        assert pulls.different <= 5
    async with asyncio.timeout(20):
        while not pulls_of(sql):
            await asyncio.sleep(0.02)
    await pulls.close()


async def test_many_different_things_are_several_batches(
    registry: Registry, web: str, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thing in one of them, and what was given out by day in one only."""
    monkeypatch.setattr(pulls_module, "_AT_ONCE", 3)
    for number in range(10):
        registry.pulls.add(web, "robot", f"v{number}", None, 1, 7, 0)
    registry.pulls.add("acme/other", "robot", None, None, 0, 0, 0)
    await registry.pulls.flush()
    batches = "select array_length(asked_tags, 1) from pull_batches order by id"
    assert sql.execute(batches).fetchall() == [(3,), (3,), (3,), (1,)]
    await count_pulls(registry)
    assert sql.execute("select requests, pulls, sent_bytes from daily_pulls").fetchall() == [(10, 10, 70)]
    assert sql.execute("select count(*), min(pulls), max(pulls) from tag_pulls").fetchall() == [(10, 1, 1)]


async def test_whatever_a_digest_has_in_it_is_written_as_it_is(registry: Registry, sql: Sql) -> None:
    """And a name of one component is library's, whoever counts it."""
    odd = [Digest(b"\x01" + b"\n \xff\x00" * 8), Digest(b"\x02" + b"\n" * 64)]
    for digest in odd:
        registry.pulls.add("web", "robot", None, digest, 1, 3, 0)
    registry.pulls.add("web", "robot", "v1", None, 0, 0, 5)
    await registry.pulls.flush()
    written = "select tenants, paths, requests, pulls, sent, redirected, asked_tags, asked_digests from pull_batches"
    [(*told, tags, digests)] = sql.execute(written).fetchall()
    assert told == [["library"], ["web"], [3], [2], [6], [5]]
    assert (tags, digests) == ([None, None, "v1"], [*(each.packed for each in odd), None])


async def test_what_a_killed_server_wrote_is_added_up_by_another(
    registry: Registry, settings: Settings, web: str, sql: Sql
) -> None:
    registry.pulls.add(web, "robot", "latest", None, 1, 0, 0)
    await registry.pulls.flush()
    quick = replace(settings, pull_flush_interval=timedelta(seconds=0.01))
    async with Registry(quick, check_schema=False, serving=True), asyncio.timeout(20):
        while not sql.execute("select 1 from tag_pulls").fetchall():
            await asyncio.sleep(0.02)
    assert sql.execute("select count(*) from pull_batches").fetchall() == [(0,)]


async def test_new_and_known_things_are_added_up_together(registry: Registry, web: str, sql: Sql) -> None:
    """Batches of several servers, for some of whose things there are rows already."""
    [(digest,)] = sql.execute("select digest_text(digest) from manifests where pushed_by <> ''").fetchall()
    found = Digest.parse(str(digest))
    for tags in (("a", "b"), ("b", "c"), ("c", "d", "b")):
        for tag in tags:
            registry.pulls.add(web, "robot", tag, found, 1, 0, 0)
        await registry.pulls.flush()
        if "d" not in tags:
            await count_pulls(registry)
    registry.pulls.add(web, "account", "d", None, 1, 0, 0)
    await count_pulls(registry)
    added = sql.execute("select name, pulls from tag_pulls order by 1").fetchall()
    assert added == [("a", 1), ("b", 3), ("c", 2), ("d", 2)]
    assert sql.execute("select pulls from manifest_pulls").fetchall() == [(7,)]


async def test_servers_take_turns_to_add_up(registry: Registry, web: str, sql: Sql) -> None:
    """It rests, whoever did it."""
    everything = registry.backend.everything
    assert await add_up_in_turn(everything)
    sql.execute("update turns set next_at = now() + interval '1 minute'")
    registry.pulls.add(web, "robot", "latest", None, 1, 0, 0)
    await registry.pulls.flush()
    assert not await add_up_in_turn(everything)
    sql.execute("update turns set next_at = now()")
    assert sorted(await asyncio.gather(*(add_up_in_turn(everything) for _ in range(3)))) == [False, False, True]
    assert sql.execute("select pulls from tag_pulls").fetchall() == [(1,)]


async def test_repositories_that_are_gone_are_left_out(
    registry: Registry, namespace: StoredNamespace, web: str, sql: Sql
) -> None:
    gone = namespace.repository("acme/gone")
    deleted = await push_image(gone, b"layer", tags=["latest"], of="what is deleted")
    await gone.remove()
    kept = await push_image(namespace.repository(web), b"other", tags=["other"])
    for name, manifest in (("acme/gone", deleted), ("acme/none", deleted), (web, kept), (web, deleted)):
        registry.pulls.add(name, "account", "latest", manifest.digest, 1, 0, 0)
    await count_pulls(registry)
    assert pulls_of(sql) == 2
    assert sql.execute("select count(*) from manifest_pulls").fetchall() == [(1,)]
    assert sql.execute("select count(*) from tag_pulls").fetchall() == [(1,)]


async def test_they_go_with_what_was_pulled(registry: Registry, namespace: StoredNamespace, web: str, sql: Sql) -> None:
    """Garbage collection takes last pulls along; what was given out by day stays, for it is charged for."""
    repository = namespace.repository("acme/gone")
    manifest = await push_image(repository, b"layer", tags=["latest"])
    registry.pulls.add("acme/gone", "account", "latest", manifest.digest, 1, 0, 0)
    await count_pulls(registry)
    await repository.remove()
    collector = GarbageCollector(
        registry.backend, Caller(), periods=Periods(timedelta(0), timedelta(0)), notify=lambda what, count: None
    )
    await collector.run()
    assert sql.execute("select count(*) from repositories").fetchall() == [(1,)]
    assert sql.execute("select (select count(*) from manifest_pulls), (select count(*) from tag_pulls)").fetchall() == [
        (0, 0)
    ]
    assert pulls_of(sql) == 1


async def test_what_was_asked_for_in_several_ways_is_added_up(registry: Registry, web: str, sql: Sql) -> None:
    """One manifest by two tags and by its digest, by a robot and a person: one row for each of them."""
    [(digest,)] = sql.execute("select digest_text(digest) from manifests where pushed_by <> ''").fetchall()
    found = Digest.parse(str(digest))
    for kind in ACTOR_KINDS:
        for tag in ("latest", "v1", None):
            registry.pulls.add(web, kind, tag, found, 1, 0, 0)
        registry.pulls.add(web, kind, "latest", None, 0, 0, 0)  # a HEAD
    await count_pulls(registry)
    assert sql.execute("select actor_kind, requests, pulls from daily_pulls order by 1").fetchall() == [
        ("account", 4, 3),
        ("robot", 4, 3),
    ]
    assert sql.execute("select pulls from manifest_pulls").fetchall() == [(6,)]
    assert sql.execute("select name, pulls from tag_pulls order by 1").fetchall() == [("latest", 2), ("v1", 2)]


async def test_tags_that_ended_long_ago_are_forgotten(
    registry: Registry, namespace: StoredNamespace, web: str, sql: Sql
) -> None:
    """Neither live ones, nor those that can be restored, nor the last that says that a repository was pulled from."""
    other = namespace.repository("acme/other")
    await push_image(namespace.repository(web), b"layer", tags=["back", "long", "lately", "moved"])
    await push_image(other, b"layer", tags=["first", "second"])
    for name in ("back", "long", "lately", "moved"):
        await namespace.repository(web).tags.untag(name)
    for name in ("first", "second"):
        await other.tags.untag(name)
    sql.execute("update tags set valid_from = valid_from - interval '90 days'")
    sql.execute("update tags set valid_to = valid_to - interval '60 days' where name <> 'lately'")
    await push_image(namespace.repository(web), b"layer", tags=["back"])
    for repository, names in {
        web: ("latest", "back", "long", "lately", "moved"),
        "acme/other": ("first", "second"),
    }.items():
        for name in names:
            registry.pulls.add(repository, "robot", name, None, 1, 0, 0)
    await count_pulls(registry)
    everything, age = registry.backend.everything, timedelta(days=30)
    assert await forget_ended_tags(everything, age=age, pause_s=0) == 0  # they were pulled just now
    sql.execute("update tag_pulls set last_pulled_at = now() - interval '50 days' where name <> 'moved'")
    sql.execute("update tag_pulls set last_pulled_at = now() - interval '51 days' where name = 'first'")
    for page, expected in ((2, 2), (1000, 0)):
        assert await forget_ended_tags(everything, age=age, page=page, pause_s=0) == expected
    left = sql.execute("select name from tag_pulls order by 1").fetchall()
    assert [name for (name,) in left] == ["back", "lately", "latest", "moved", "second"]


async def test_servers_forget_them_by_themselves(sql: Sql, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two does it for both."""
    called = list[timedelta]()

    async def forget(database: Database, *, age: timedelta) -> None:
        called.append(age)

    monkeypatch.setattr(app, "forget_ended_tags", forget)
    monkeypatch.setattr(app, "_FORGET_S", 0.01)
    monkeypatch.setattr(app, "_ASKED_S", 0.01)
    patient = replace(settings, restore_period=timedelta(days=40))
    async with (
        Registry(patient, check_schema=False, serving=True) as one,
        Registry(patient, check_schema=False, serving=True),
        asyncio.timeout(20),
    ):
        due = "select 1 from turns where name = 'forgetting pulls of ended tags' and next_at > now() + interval '2 min'"
        while not sql.execute(due).fetchall():
            await asyncio.sleep(0.01)
        for _ in range(10):  # asked again
            await one.backend.everything.read(health.ping)
            await asyncio.sleep(0.01)
    assert called == [timedelta(days=40)]


async def test_a_server_that_stops_does_not_wait_long_for_adding_up(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(_: Database) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(pulls_module, "add_up", never)
    monkeypatch.setattr(pulls_module, "_CLOSING_S", 0.01)
    counted = Pulls(backend.everything, interval_s=60)
    counted.add("acme/web", "anonymous", "v1", None, 0, 0, 0)
    async with asyncio.timeout(5):
        await counted.close()
    assert "added up by whoever is next" in caplog.text
