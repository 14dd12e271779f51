"""Seals: what was done to the audit is found, and nothing that is right is taken for wrong."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.registry.audit_chains import Finding, content_of, event_hash
from distsql.registry.audit_seals import AuditSeals
from distsql.registry.namespace import StoredNamespace
from distsql.sql import audit_seals
from distsql.sql.audit_seals import COLUMNS
from tests.registry.pushing import push_blob, push_image

Sql = psycopg.Connection[tuple[object, ...]]
NOW = timedelta(0)
SPECIAL = 'quotes " and \\, \x01\t\n\x7f, ünï \u2028 \U0001f600'


@pytest.fixture
async def seals(registry: Registry, namespace: StoredNamespace) -> AuditSeals:
    """Two tenants with three seals of acme's."""
    found = AuditSeals(registry.backend.everything)
    for number in range(3):
        await push_image(namespace.repository("acme/web"), f"layer {number}".encode(), tags=[f"v{number}", "latest"])
        if number == 1:
            await push_blob(namespace.repository("other/web"), b"layer")
        await seal(found)
    return found


async def seal(seals: AuditSeals) -> int:
    """All that there is, without waiting for its margin to pass."""
    return await seals.seal(margin=NOW)


async def verify(seals: AuditSeals, **more: object) -> list[Finding]:
    return [finding async for finding in seals.verify(**more)]  # type: ignore[arg-type]


def kinds(findings: list[Finding]) -> list[tuple[int, str]]:
    return [(finding.number, finding.kind) for finding in findings]


async def test_what_nobody_touched_is_right(seals: AuditSeals, namespace: StoredNamespace) -> None:
    assert await verify(seals) == []
    assert [(root.tenant, root.number) for root in await seals.roots()] == [("acme", 3), ("other", 1)]
    await push_blob(namespace.repository("acme/web"), b"not sealed yet")
    assert await verify(seals) == []
    assert await seal(seals) > 0
    assert await seal(seals) == 0
    assert await verify(seals) == []


ALTERATIONS = [
    "actor = 'eve'",
    "action = 'tag.delete'",
    "repository = 'acme/other'",
    "reference = null",
    "digest = '\\x01'",
    "outcome = 'refused'",
    "client_address = '192.0.2.1'",
    "user_agent = 'x'",
    "request_id = 'x'",
    "account_id = 1",
    "token_id = 'x'",
    "cause = 'x'",
    "times = 2",
]


async def test_an_altered_event_is_found(seals: AuditSeals, sql: Sql) -> None:
    """Whatever it is that was altered; given its value back, it is right again."""
    sql.execute("create temporary table kept as select * from audit_events where reference = 'v1'")
    altered = {alteration.partition(" ")[0] for alteration in ALTERATIONS}
    assert altered == set(COLUMNS) - {"tenant_id", "at", "id"}
    for alteration in ALTERATIONS:
        changed = sql.execute(
            f"update audit_events set {alteration} where reference = 'v1' and at = (select at from kept)"
        )
        assert changed.rowcount == 1
        assert kinds(await verify(seals)) == [(2, "altered")], alteration
        sql.execute(
            "delete from audit_events e using kept k where (e.tenant_id, e.at, e.id) = (k.tenant_id, k.at, k.id)"
        )
        sql.execute("insert into audit_events select * from kept")
    assert await verify(seals) == []


async def test_a_missing_event_is_found(seals: AuditSeals, sql: Sql) -> None:
    sql.execute("delete from audit_events where reference = 'v0'")
    [finding] = await verify(seals)
    assert (finding.number, finding.kind) == (1, "missing")
    assert "1 of " in finding.message


async def test_reordered_events_are_found(seals: AuditSeals, sql: Sql) -> None:
    """Two that exchange their instants, within a seal and across seals."""
    sql.execute("update audit_events set at = at - interval '1 microsecond' where reference = 'v2'")
    assert kinds(await verify(seals)) == [(3, "altered")]
    sql.execute("update audit_events set at = at + interval '1 microsecond' where reference = 'v2'")
    assert await verify(seals) == []
    sql.execute("alter table audit_events disable row level security")
    sql.execute("begin")
    sql.execute("create temporary table moved as select * from audit_events where reference in ('v0', 'v2')")
    sql.execute("delete from audit_events where reference in ('v0', 'v2')")
    sql.execute("update moved a set at = b.at from (select * from moved) b where a.reference <> b.reference")
    sql.execute("insert into audit_events select * from moved")
    sql.execute("drop table moved")
    sql.execute("commit")
    sql.execute("alter table audit_events enable row level security")
    assert kinds(await verify(seals)) == [(1, "altered"), (3, "altered")]


async def test_an_added_event_is_found(seals: AuditSeals, sql: Sql) -> None:
    sql.execute(
        "insert into audit_events (tenant_id, at, id, actor, action) "
        "select tenant_id, at + interval '1 microsecond', 1, 'eve', 'test' from audit_events where reference = 'v1'"
    )
    [finding] = await verify(seals)
    assert (finding.number, finding.kind) == (2, "added")


async def test_seals_themselves_are_chained(seals: AuditSeals, sql: Sql) -> None:
    sql.execute("update audit_seals set events = events + 1 where number = 2")
    assert (2, "seal altered") in kinds(await verify(seals))
    sql.execute("update audit_seals set events = events - 1 where number = 2")
    sql.execute("delete from audit_seals where number = 2")
    assert (2, "seal missing") in kinds(await verify(seals))


async def test_a_chain_made_anew_is_found_by_roots_that_were_kept(seals: AuditSeals, sql: Sql) -> None:
    """Who may do everything can seal again what was altered: so roots are kept elsewhere."""
    kept = {(root.tenant_id, root.number): root.root for root in await seals.roots()}
    sql.execute("update audit_events set actor = 'eve' where reference = 'v2'")
    sql.execute("delete from audit_seals where number >= 2")
    assert (3, "seal missing") in kinds(await verify(seals, kept=kept))
    while await seal(seals):
        pass
    sql.execute("update audit_seals set number = 3 where number = 2")
    assert (3, "rewritten") in kinds(await verify(seals, kept=kept))


async def test_what_commits_late_is_not_behind_a_seal(
    registry: Registry, namespace: StoredNamespace, database_url: str, sql: Sql
) -> None:
    """An event has its instant from before its commit: a seal waits for whoever is writing."""
    seals = AuditSeals(registry.backend.everything)
    await push_blob(namespace.repository("acme/web"), b"layer")
    with psycopg.connect(database_url) as late:
        late.execute(
            "insert into audit_events (tenant_id, id, actor, action) select id, 1, 'late', 'test' "
            "from tenants where name = 'acme'"
        )
        sealing = asyncio.create_task(seal(seals))
        await push_blob(namespace.repository("acme/web"), b"another")
        await asyncio.sleep(0.3)
        assert not sealing.done()
        late.commit()
    assert await sealing >= 3
    assert await verify(seals) == []
    await seal(seals)
    assert sql.execute(
        "select count(*) from audit_events e where not exists "
        "(select from audit_seals s where s.tenant_id = e.tenant_id and e.at <= s.until_at)"
    ).fetchall() == [(0,)]


async def test_a_writer_that_takes_too_long_is_not_waited_for(
    registry: Registry, namespace: StoredNamespace, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distsql.registry.audit_seals._PATIENCE_S", 0.1)
    seals = AuditSeals(registry.backend.everything)
    await push_blob(namespace.repository("acme/web"), b"layer")
    with psycopg.connect(database_url) as late:
        late.execute("insert into audit_events (tenant_id, id, actor, action) values (0, 1, 'late', 'test')")
        assert await seal(seals) == 0
    assert await seal(seals) > 0


async def test_each_day_has_seals_of_its_own(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """So that none is of two months."""
    seals = AuditSeals(registry.backend.everything)
    await push_blob(namespace.repository("acme/web"), b"layer")
    for days in (40, 39):
        sql.execute(
            "insert into audit_events (tenant_id, at, id, actor, action) select id, now() - interval '1 day' * %s, 1, "
            "'ann', 'test' from tenants where name = 'acme'",
            [days],
        )
    await seal(seals)
    assert sql.execute(
        "select count(*), count(distinct date_trunc('day', until_at, 'UTC')) from audit_seals"
    ).fetchall() == [(3, 3)]
    assert await verify(seals) == []


async def test_one_seals_at_a_time_and_not_too_often(seals: AuditSeals, namespace: StoredNamespace, sql: Sql) -> None:
    await push_blob(namespace.repository("acme/web"), b"more")
    assert await seals.seal(unless_since=timedelta(hours=1), margin=NOW) == 0
    with psycopg.connect(sql.info.dsn, password=sql.info.password) as other:
        other.execute("select pg_advisory_xact_lock(%s)", [audit_seals.SEALER_LOCK])
        assert await seal(seals) == 0
    assert await seal(seals) > 0


async def test_hashes_are_the_same_in_python(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """What is exported is checked without the database."""
    seals = AuditSeals(registry.backend.everything)
    await push_blob(namespace.repository("acme/web"), b"layer")
    sql.execute("update audit_events set user_agent = %s, actor = ''", [SPECIAL])
    await seal(seals)
    events = sql.execute(
        "select tenant_id, to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), id, actor, account_id, "
        "token_id, action, repository, reference, encode(digest, 'hex'), outcome, cause, times, client_address, "
        "user_agent, request_id from audit_events order by at, id"
    ).fetchall()
    dumped = [json.loads(json.dumps(dict(zip(COLUMNS, event, strict=True)))) for event in events]
    [(content,)] = sql.execute("select content from audit_seals").fetchall()
    assert content_of(map(event_hash, dumped)) == content
