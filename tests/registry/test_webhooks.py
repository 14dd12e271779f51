"""Events: there if and only if the change committed, in order in each repository, at least once, signed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import DeliveryFailedError, SettingInvalidError, TenantUnknownError, WebhookUnknownError
from distsql.registry import webhooks
from distsql.registry.garbage import GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.registry.webhooks import DELAYS, Deliverer, Webhooks
from distsql.sql.webhooks import CLAIM_DELIVERIES
from distsql.values import Caller
from tests.registry.pushing import push_blob, push_image

Sql = psycopg.Connection[tuple[object, ...]]
URL = "https://hooks.test/"


class Receiver:
    """Stands for the other side."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.answers: list[int | Exception] = []

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        answer = self.answers.pop(0) if self.answers else 200
        self.got.append((url, headers, json.loads(body)))
        self.bodies.append(body)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def subjects(self) -> list[str]:
        return [body["subject"] for _, _, body in self.got]


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def hooks(registry: Registry) -> Webhooks:
    everything, caller = registry.backend.everything, Caller("ann")
    for name in ("acme", "other"):
        await Tenants(everything, caller).create(name)
    return Webhooks(everything, caller)


@pytest.fixture
def deliverer(registry: Registry, receiver: Receiver) -> Deliverer:
    return Deliverer(registry.backend.everything, receiver.send)


async def add(hooks: Webhooks, *events: str, tenant: str = "acme", format: str = "cloudevents") -> tuple[int, str]:  # noqa: A002
    return await hooks.add(tenant, URL, format=format, events=events or ("push", "tag", "delete"))


def now_due(sql: Sql) -> None:
    sql.execute("update webhook_deliveries set next_at = now() where state = 'waiting'")


async def collect(registry: Registry) -> None:
    periods = Periods(timedelta(0), timedelta(0))
    await GarbageCollector(registry.backend, Caller("gc"), periods=periods, notify=lambda what, count: None).run()


async def test_events_of_each_kind(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace
) -> None:
    web = namespace.repository("acme/web")
    await push_image(web, b"before", tags=["before"])
    await add(hooks)
    pushed = await push_image(web, b"layer", tags=["v1"])
    await web.tags.tag("v2", pushed.digest)
    await web.tags.untag("v1")
    await web.manifests.delete(pushed.digest)
    await web.remove()
    await push_image(namespace.repository("other/web"), b"layer", tags=["v1"])
    assert await deliverer.run() == 5
    assert [(body["type"], body["subject"]) for _, _, body in receiver.got] == [
        ("distsql.push", "acme/web:v1"),
        ("distsql.tag", "acme/web:v2"),
        ("distsql.delete", "acme/web:v1"),
        ("distsql.delete", "acme/web:v2"),
        ("distsql.delete", "acme/web"),
    ]
    first = receiver.got[0][2]
    assert first["specversion"] == "1.0"
    assert first["source"] == "/distsql/acme"
    assert first["data"]["actor"] == "tester"
    assert first["data"]["target"]["digest"] == str(pushed.digest)
    assert first["data"]["target"]["mediaType"] == pushed.media_type
    assert await deliverer.run() == 0


async def test_what_is_restored_and_what_is_collected(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace, registry: Registry
) -> None:
    web = namespace.repository("acme/web")
    pushed = await push_image(web, b"layer", tags=["v1"])
    await web.manifests.delete(pushed.digest)
    await add(hooks)
    await web.restorations.restore_manifest(pushed.digest)
    other = await push_image(web, b"other", tags=["v1"])
    await web.restorations.roll_back("v1")
    await web.remove()
    await web.restorations.restore_repository()
    await Tenants(registry.backend.everything, Caller("ann")).set("acme", {"untagged": "collect"})
    await collect(registry)
    await deliverer.run()
    assert [(body["type"], body["subject"], body["data"]["action"]) for _, _, body in receiver.got] == [
        ("distsql.push", "acme/web", "manifest.restore"),
        ("distsql.tag", "acme/web:v1", "tag.restore"),
        ("distsql.push", "acme/web:v1", "manifest.put"),
        ("distsql.tag", "acme/web:v1", "tag.put"),
        ("distsql.delete", "acme/web", "repository.delete"),
        ("distsql.push", "acme/web", "repository.restore"),
        ("distsql.delete", "acme/web", "garbage.manifest"),
    ]
    assert receiver.got[-1][2]["data"]["target"]["digest"] == str(other.digest)


async def test_who_is_slow_to_answer_holds_up_nobody_else(
    hooks: Webhooks, registry: Registry, namespace: StoredNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what happens meanwhile, although the same server waits for him."""
    monkeypatch.setattr(webhooks, "_QUEUE_EVERY_S", 0.02)
    for tenant in ("acme", "other"):
        await hooks.add(tenant, f"https://{tenant}.test/", format="cloudevents", events=["push"])
    answers, told, waited_for = asyncio.Event(), asyncio.Queue[str](), asyncio.Event()

    async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        if "acme" in url:
            waited_for.set()
            await answers.wait()
        await told.put(json.loads(body)["subject"])
        return 200

    await push_image(namespace.repository("acme/web"), b"layer", tags=["slow"])
    running = asyncio.create_task(Deliverer(registry.backend.everything, send).run())
    async with asyncio.timeout(20):
        await waited_for.wait()
        for number in range(3):
            await push_image(namespace.repository("other/web"), b"%d" % number, tags=[f"v{number}"])
            assert await told.get() == f"other/web:v{number}"
        assert not running.done()
        answers.set()
        assert await told.get() == "acme/web:slow"
        assert await running == 4


async def test_a_backlog_is_not_read_to_find_what_is_due(
    hooks: Webhooks, sql: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """But the first of each repository, however many wait behind it."""
    await add(hooks)
    sql.execute(
        "insert into webhook_deliveries (tenant_id, webhook_id, event_at, event_id, repository, event) "
        "select w.tenant_id, w.id, now() + n * interval '1 ms', n, 'acme/r' || n % 7, '{}' "
        "from webhooks w, generate_series(1, 5000) n"
    )
    sql.execute("analyze webhook_deliveries")
    claim = CLAIM_DELIVERIES.numbered_sql.decode().replace("$1", "50")
    [(plan,)] = sql.execute(f"explain (analyze, format json) {claim}".encode()).fetchall()
    left, read = [plan[0]["Plan"]], 0.0
    while left:
        node = left.pop()
        left += node.get("Plans", [])
        if "Scan" in node["Node Type"] and node.get("Relation Name") == "webhook_deliveries":
            read += node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
    assert 7 <= read < 100


async def test_only_what_was_asked_for_in_the_format_of_distribution(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace
) -> None:
    await add(hooks, "push", format="distribution")
    web = namespace.repository("acme/web")
    pushed = await push_image(web, b"layer", tags=["v1"])
    await web.tags.untag("v1")
    assert await deliverer.run() == 1
    [(url, headers, body)] = receiver.got
    assert url == URL
    assert headers["content-type"] == "application/vnd.docker.distribution.events.v1+json"
    [event] = body["events"]
    assert event["action"] == "push"
    assert event["id"] == headers["webhook-id"]
    assert event["actor"] == {"name": "tester"}
    assert event["target"] == {
        "mediaType": pushed.media_type,
        "size": len(pushed.payload),
        "length": len(pushed.payload),
        "digest": str(pushed.digest),
        "repository": "acme/web",
        "tag": "v1",
    }


async def test_signatures(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace, sql: Sql
) -> None:
    """As the specification of Standard Webhooks says; the secret is read by nobody but who delivers."""
    _, secret = await add(hooks)
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    await deliverer.run()
    [(_, headers, _)], [body] = receiver.got, receiver.bodies
    assert secret.startswith("whsec_")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(base64.b64decode(secret[6:]), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    for role in ("distsql_serve", "distsql_auditor", "distsql_reader"):
        sql.execute(f"set role {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            sql.execute("select secret from webhooks")
        sql.execute("reset role")
    assert secret not in str(await hooks.all())


async def test_what_did_not_commit_is_no_event(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace, database_url: str
) -> None:
    """What commits later than something younger is not forgotten either."""
    await add(hooks)
    insert = (
        "insert into audit_events (tenant_id, id, actor, action, repository, reference) "
        "select id, 1, 'ann', 'tag.put', 'acme/web', %s from tenants where name = 'acme'"
    )
    with psycopg.connect(database_url) as lost, psycopg.connect(database_url) as late:
        lost.execute(insert, ["lost"])
        late.execute(insert, ["late"])
        lost.rollback()
        await push_image(namespace.repository("acme/other"), b"layer", tags=["v1"])
        running = asyncio.create_task(deliverer.run())
        await asyncio.sleep(0.2)
        assert receiver.got == []
        late.commit()
    await running
    assert sorted(receiver.subjects()) == ["acme/other:v1", "acme/web:late"]


async def test_failures_are_tried_again_in_order(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace, sql: Sql
) -> None:
    """What waits holds up its own repository only; ids are the same."""
    await add(hooks)
    for tag in ("v1", "v2"):
        await push_image(namespace.repository("acme/web"), b"layer", tags=[tag])
    receiver.answers = [500]
    await deliverer.run()
    assert receiver.subjects() == ["acme/web:v1"]
    await push_image(namespace.repository("acme/api"), b"layer", tags=["v1"])
    await deliverer.run()
    assert receiver.subjects() == ["acme/web:v1", "acme/api:v1"]
    [row] = await hooks.all(tenant="acme")
    assert (row.waiting, row.dead) == (2, 0)
    now_due(sql)
    receiver.answers = [DeliveryFailedError("no answer")]
    await deliverer.run()
    now_due(sql)
    await deliverer.run()
    assert receiver.subjects()[2:] == ["acme/web:v1", "acme/web:v1", "acme/web:v2"]
    ids = [headers["webhook-id"] for _, headers, body in receiver.got if body["subject"] == "acme/web:v1"]
    assert len(set(ids)) == 1
    assert sql.execute("select distinct state from webhook_deliveries").fetchall() == [("delivered",)]


async def test_dead_letters_are_seen_and_hold_nothing_up(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace, sql: Sql, registry: Registry
) -> None:
    number, _ = await add(hooks)
    for tag in ("v1", "v2"):
        await push_image(namespace.repository("acme/web"), b"layer", tags=[tag])
    receiver.answers = [503] * (len(DELAYS) + 1)
    waits = []
    for _ in range(len(DELAYS) + 1):
        await deliverer.run()
        waits += sql.execute("select next_at - now() from webhook_deliveries where error is not null").fetchall()
        now_due(sql)
    assert [round(wait.total_seconds() / delay) for (wait,), delay in zip(waits, DELAYS, strict=False)] == [1] * 9  # type: ignore[attr-defined]
    await deliverer.run()
    assert receiver.subjects() == [*["acme/web:v1"] * (len(DELAYS) + 1), "acme/web:v2"]
    [dead] = await hooks.dead("acme")
    assert (dead.webhook_id, dead.reference, dead.error) == (number, "v1", "It answered 503")
    assert (await registry.gauges())["events_dead"] == 1


async def test_replay(hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace) -> None:
    """Of an interval: what was delivered, and what was before the webhook."""
    web = namespace.repository("acme/web")
    since = datetime.now(UTC) - timedelta(minutes=1)
    await push_image(web, b"layer", tags=["v1"])
    number, _ = await add(hooks)
    await push_image(web, b"layer", tags=["v2"])
    until = datetime.now(UTC)
    await deliverer.run()
    await push_image(web, b"layer", tags=["v3"])
    await deliverer.run()
    assert await hooks.replay("acme", number, since=since, until=until) == 2
    await deliverer.run()
    assert receiver.subjects() == [f"acme/web:{tag}" for tag in ("v2", "v3", "v1", "v2")]
    ids = [headers["webhook-id"] for _, headers, _ in receiver.got]
    assert ids[0] == ids[3]
    assert await hooks.replay("acme", number, since=until - timedelta(days=9), until=since) == 0


async def test_many_servers_send_each_event_once_and_in_order(
    hooks: Webhooks, registry: Registry, receiver: Receiver, namespace: StoredNamespace
) -> None:
    await add(hooks)
    for number in range(4):
        for name in ("acme/web", "acme/api"):
            await push_image(namespace.repository(name), b"layer", tags=[f"v{number}"])
    servers = [Deliverer(registry.backend.everything, receiver.send) for _ in range(3)]
    while any(await asyncio.gather(*(server.run() for server in servers))):
        pass
    for name in ("acme/web", "acme/api"):
        assert [each for each in receiver.subjects() if each.startswith(name)] == [f"{name}:v{n}" for n in range(4)]


async def test_what_a_killed_server_had_taken_is_sent_by_another(
    hooks: Webhooks, registry: Registry, receiver: Receiver, namespace: StoredNamespace, sql: Sql
) -> None:
    await add(hooks)
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    begun = asyncio.Event()

    async def hang(url: str, headers: Mapping[str, str], body: bytes) -> int:
        begun.set()
        await asyncio.sleep(3600)
        return 200

    killed = asyncio.create_task(Deliverer(registry.backend.everything, hang).run())
    await begun.wait()
    killed.cancel()
    other = Deliverer(registry.backend.everything, receiver.send)
    assert await other.run() == 0  # for a minute it is the killed one's
    now_due(sql)
    assert await other.run() == 1


async def test_a_clock_that_was_set_back_loses_nothing(
    hooks: Webhooks, deliverer: Deliverer, receiver: Receiver, namespace: StoredNamespace, sql: Sql
) -> None:
    await add(hooks)
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])
    await deliverer.run()
    sql.execute("update webhooks set queued_until = now() + interval '1 hour'")
    await push_image(namespace.repository("acme/web"), b"layer", tags=["v2"])
    await deliverer.run()
    assert receiver.subjects() == ["acme/web:v1", "acme/web:v2"]


async def test_without_webhooks_nothing_is_queued(deliverer: Deliverer, namespace: StoredNamespace, sql: Sql) -> None:
    await push_blob(namespace.repository("acme/web"), b"layer")
    assert await deliverer.run() == 0
    assert sql.execute("select count(*) from webhook_deliveries").fetchall() == [(0,)]


async def test_adding_testing_and_deleting(hooks: Webhooks, receiver: Receiver) -> None:
    number, _ = await add(hooks)
    assert await hooks.test("acme", number, receiver.send) == 200
    assert receiver.got[0][2]["type"] == "distsql.test"
    for wrong in ("other", "nobody"):
        with pytest.raises((WebhookUnknownError, TenantUnknownError)):
            await hooks.test(wrong, number, receiver.send)
        with pytest.raises((WebhookUnknownError, TenantUnknownError)):
            await hooks.delete(wrong, number)
        with pytest.raises((WebhookUnknownError, TenantUnknownError)):
            await hooks.replay(wrong, number, since=datetime.now(UTC), until=datetime.now(UTC))
    await hooks.delete("acme", number)
    assert await hooks.all() == []
    with pytest.raises(SettingInvalidError, match="push, tag, delete"):
        await add(hooks, "nonsense")
    with pytest.raises(SettingInvalidError, match="cloudevents"):
        await add(hooks, format="nonsense")
    with pytest.raises(TenantUnknownError):
        await add(hooks, tenant="nobody")
    with pytest.raises(TenantUnknownError):
        await hooks.dead("nobody")
