"""Retention policies: what they decide, that running is the preview, and that it is deleted as anything else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import NameUnknownError, ReadOnlyError, TenantUnknownError
from distsql.oci.manifest import ParsedManifest
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.retention import Outcome, Retention
from distsql.registry.retention_rules import own_policy
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.sql import mass_deletions, retention_runs
from distsql.values import Caller
from tests.registry.pushing import image, index, push_image
from tests.registry.recounts import use_of

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def retention(registry: Registry) -> Retention:
    return Retention(registry.backend, Caller(actor="ann"))


@pytest.fixture
def web(namespace: StoredNamespace) -> StoredRepository:
    return namespace.repository("acme/web")


async def outcome(retention: Retention, name: str = "acme/web") -> Outcome:
    (found,) = [each async for each in retention.preview(name)]
    return found


async def run(retention: Retention, name: str | None = "acme/web") -> list[Outcome]:
    return [each async for each in retention.run(name)]


def told(found: Outcome) -> dict[str, tuple[bool, str]]:
    """For each tag, or untagged manifest, whether it goes and why."""
    return {each.row.tag or str(each.row.digest): (each.deletes, each.reason) for each in found.decisions}


def going(found: Outcome) -> set[str]:
    return {name for name, (deletes, _) in told(found).items() if deletes}


async def push(web: StoredRepository, *tags: str) -> ParsedManifest:
    """An image of its own for each tag, with the same layer."""
    first, *others = tags
    pushed = await push_image(web, b"layer", tags=[first], of=first)
    for tag in others:
        pushed = image(b"layer", of=tag)
        await web.manifests.put(pushed, [tag])
    return pushed


def age(sql: Sql, **days: float) -> None:
    """Makes tags, and the manifests that they point to, older."""
    for tag, number in days.items():
        sql.execute(
            "update tags set valid_from = now() - %s * interval '1 day' where name = %s and valid_to is null",
            [number, tag],
        )
        sql.execute(
            "update manifests set pushed_at = now() - %s * interval '1 day' where digest in "
            "(select digest from tags where name = %s and valid_to is null)",
            [number, tag],
        )


async def test_the_latest_are_kept_and_others_told_with_their_rule(
    web: StoredRepository, retention: Retention, sql: Sql
) -> None:
    await push(web, "v1", "v2", "v3", "other")
    age(sql, v1=3, v2=2, v3=1)
    await retention.set("acme/web", own_policy(["v*: latest 2"], ["v*: all"]))
    assert told(await outcome(retention)) == {
        "v1": (True, "acme/web#2: delete v*: all"),
        "v2": (False, "acme/web#1: keep v*: latest 2"),
        "v3": (False, "acme/web#1: keep v*: latest 2"),
        "other": (False, "no rule is about it"),
    }


async def test_running_is_the_preview_and_is_undone_and_audited_as_any_deletion(
    registry: Registry, web: StoredRepository, retention: Retention, sql: Sql
) -> None:
    last = await push(web, "a", "b", "c")
    untagged = await push_image(web, b"layer", b"own", of="nothing")
    sql.execute(
        "update manifests set pushed_at = now() - interval '8 days' where digest = %s", [untagged.digest.packed]
    )
    age(sql, a=30)
    await retention.set("acme", own_policy([], ["*: pushed before 14d"]))
    await retention.set("acme/web", own_policy([], ["untagged: pushed before 7d"]))
    preview = await outcome(retention)
    assert going(preview) == {"a", str(untagged.digest)}
    assert preview.effects.freed_bytes == len(b"own")
    (found,) = await run(retention)
    assert [(each.row, each.reason) for each in found.decisions] == [
        (each.row, each.reason) for each in preview.decisions
    ]
    assert [tag async for tag in web.tags.list()] == ["b", "c"]
    assert not await web.manifests.exists(untagged.digest)
    assert await web.manifests.exists(last.digest)
    (move,) = [move async for move in web.tags.history("a")]
    assert move.ended_by == "retention:acme#1"
    events = sql.execute(
        "select actor, action, reference, digest_text(digest) from audit_events where actor <> 'tester' order by 2"
    ).fetchall()
    assert {row for row in events if row[1] in {"tag.delete", "manifest.delete"}} == {
        ("retention:acme#1", "tag.delete", "a", str(move.digest)),
        ("retention:acme/web#1", "manifest.delete", None, str(untagged.digest)),
    }
    assert ("ann", "retention.run", "2 deleted", None) in events
    assert (await use_of(registry.backend, "acme")).tags == 2
    assert going((await run(retention))[0]) == set()


async def test_keep_wins_whoever_says_so(web: StoredRepository, retention: Retention, sql: Sql) -> None:
    await push(web, "v1", "v2")
    await retention.set("acme/web", own_policy([], ["*: all"]))
    await retention.set("acme", own_policy(["v1: all"], []))
    assert going(await outcome(retention)) == {"v2"}
    await retention.set("acme", None)
    assert going(await outcome(retention)) == {"v1", "v2"}


async def test_what_is_signed_is_kept(web: StoredRepository, retention: Retention) -> None:
    by_referrer, by_tag, by_jws, unsigned = [await push(web, tag) for tag in ("referrer", "cosign", "jws", "unsigned")]
    notation = "application/vnd.cncf.notary.signature"
    await push_image(web, b"signature", subject=by_referrer.digest, artifact_type=notation)
    await push_image(web, b"signature", tags=[f"sha256-{by_tag.digest.encoded}.sig"], of="cosign's")
    await web.signatures.put(by_jws.digest, b"signature")
    gone = await push_image(web, b"signature", subject=unsigned.digest, artifact_type=notation)
    await web.manifests.delete(gone.digest)
    await retention.set("acme/web", own_policy([], ["*: unsigned"]))
    found = await outcome(retention)
    assert going(found) == {"unsigned"}
    companion = told(found)[f"sha256-{by_tag.digest.encoded}.sig"]
    assert companion == (False, f"it belongs to {by_tag.digest}, which is here")


async def test_what_belongs_to_something_else_is_not_judged(web: StoredRepository, retention: Retention) -> None:
    child, named = await push_image(web, b"child"), await push_image(web, b"child", tags=["named"], of="named")
    await web.manifests.put(index(child, named), ["multi"])
    about = await push_image(web, b"about", subject=child.digest)
    alone = await push_image(web, b"alone", of="alone")
    await retention.set("acme/web", own_policy([], ["any: all"]))
    found = await outcome(retention)
    assert going(found) == {"multi", "named", str(alone.digest)}
    assert not {str(child.digest), str(about.digest)} & told(found).keys()


async def test_pulls_count_where_they_are_known(web: StoredRepository, retention: Retention, sql: Sql) -> None:
    await push(web, "pulled", "never", "long-ago", "moved")
    age(sql, pulled=60, never=60, **{"long-ago": 60}, moved=1)
    sql.execute(
        "insert into tag_pulls (tenant_id, repository_id, name, last_pulled_at) "
        "select tenant_id, repository_id, name, now() - interval '1 day' * case name when 'pulled' then 5 else 40 end "
        "from tags where name <> 'never'"
    )
    await retention.set("acme/web", own_policy([], ["*: pulled before 30d"]))
    assert going(await outcome(retention)) == {"never", "long-ago"}


@pytest.mark.parametrize("whose", ["acme", "acme/web"])
async def test_switches_and_immutable_tags_are_obeyed(
    registry: Registry, web: StoredRepository, retention: Retention, whose: str
) -> None:
    await push(web, "v1", "dev")
    tenants = Tenants(registry.backend.everything, Caller(actor="ann"))
    repositories = RepositoryAdministration(registry.backend.everything, Caller(actor="ann"))
    switched = repositories if whose == web.name else tenants
    await retention.set("acme/web", own_policy([], ["any: all"]))
    await switched.set(whose, {"immutable_tags": ["v?"]})
    assert told(await outcome(retention))["v1"] == (False, "the tag is immutable")
    for switch, value, reason in (
        ("read_only", True, "it would go, but nothing may be written here"),
        ("deletable", False, "it would go, but deletions are switched off"),
    ):
        await switched.set(whose, {switch: value})
        assert told(await outcome(retention))["dev"] == (False, reason)
        await run(retention)
        await switched.set(whose, {switch: not value})
    await tenants.suspend("acme")
    assert told(await outcome(retention))["dev"] == (False, "it would go, but the tenant is suspended")
    await tenants.resume("acme")
    await run(retention)
    assert [tag async for tag in web.tags.list()] == ["v1"]


async def test_nothing_is_run_by_a_read_only_server(
    registry: Registry, web: StoredRepository, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(web, "v1")
    await retention.set("acme/web", own_policy([], ["any: all"]))
    object.__setattr__(registry.backend, "read_only", True)
    with pytest.raises(ReadOnlyError):
        await run(retention)
    object.__setattr__(registry.backend, "read_only", False)
    assert [tag async for tag in web.tags.list()] == ["v1"]


async def test_a_tag_that_moves_meanwhile_is_judged_anew(
    registry: Registry, web: StoredRepository, retention: Retention, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between the first judgement and the locks."""
    await push(web, "moves", "stays", "ends")
    age(sql, moves=30, stays=30, ends=30)
    new = await push_image(web, b"new")
    await retention.set("acme/web", own_policy([], ["*: pushed before 14d"]))
    lock = mass_deletions.lock_content

    async def move_first(*args: object, **kwargs: object) -> object:
        await web.tags.tag("moves", new.digest)
        await web.tags.untag("ends")
        return await lock(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(mass_deletions, "lock_content", move_first)
    (found,) = await run(retention)
    assert going(found) == {"stays"}
    assert (await web.tags.get("moves")).digest == new.digest
    assert [tag async for tag in web.tags.list()] == ["moves"]


async def test_a_manifest_that_gets_a_tag_meanwhile_stays(
    web: StoredRepository, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagged, gone = [await push_image(web, b"layer", of=str(number)) for number in range(2)]
    await retention.set("acme/web", own_policy([], ["untagged: all"]))
    lock = mass_deletions.lock_content

    async def tag_first(*args: object, **kwargs: object) -> object:
        await web.tags.tag("new", tagged.digest)
        return await lock(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(mass_deletions, "lock_content", tag_first)
    assert going((await run(retention))[0]) == {str(gone.digest)}
    assert await web.manifests.exists(tagged.digest)


async def test_all_repositories_that_a_policy_is_for_are_run(namespace: StoredNamespace, retention: Retention) -> None:
    for name in ("acme/web", "acme/api", "other/web", "third/web"):
        await push(namespace.repository(name), "v1")
    await retention.set("acme", own_policy([], ["any: all"]))
    await retention.set("third/web", own_policy([], ["any: all"]))
    assert [each.repository for each in await run(retention, "acme")] == ["acme/web", "acme/api"]
    assert {each.repository for each in await run(retention, None)} == {"acme/web", "acme/api", "third/web"}
    assert [tag async for tag in namespace.repository("other/web").tags.list()] == ["v1"]
    assert [tag async for tag in namespace.repository("third/web").tags.list()] == []


async def test_policies_go_with_what_they_are_for(
    namespace: StoredNamespace, web: StoredRepository, retention: Retention
) -> None:
    await push(web, "v1")
    with pytest.raises(NameUnknownError):
        await retention.set("acme/nothing", own_policy([], ["any: all"]))
    with pytest.raises(TenantUnknownError):
        await retention.set("nobody", own_policy([], ["any: all"]))
    await retention.set("acme/web", own_policy(["signed"], ["any: all"]))
    ((named),) = await retention.all()
    assert (named.name, [str(rule) for rule in named.policy.rules.values()]) == ("acme/web", ["*: signed", "any: all"])
    await web.remove()
    assert await retention.all() == []
    await push(namespace.repository("acme/web"), "v1")
    assert going((await run(retention))[0]) == set()


async def test_servers_take_turns(web: StoredRepository, retention: Retention, sql: Sql) -> None:
    """One of them runs for each interval; none while somebody else is at it, and none that is read-only."""
    await push(web, "v1")
    await retention.set("acme/web", own_policy([], ["*: all"]))
    hour = timedelta(hours=1)
    sql.execute("insert into retention_runs (tenant_id, ran_at) values (0, now() - interval '59 minutes')")
    await retention.run_in_turn(interval=hour)
    assert [tag async for tag in web.tags.list()] == ["v1"]
    sql.execute("update retention_runs set ran_at = now() - interval '61 minutes'")
    async with retention.database.transaction() as tx:
        assert await retention_runs.lock_retention(tx, patient=False)
        await retention.run_in_turn(interval=hour)
        assert [tag async for tag in web.tags.list()] == ["v1"]
    await retention.run_in_turn(interval=timedelta(0))
    assert [tag async for tag in web.tags.list()] == []


async def test_servers_run_policies_by_themselves(
    registry: Registry, settings: Settings, web: StoredRepository
) -> None:
    await push(web, "v1")
    await Retention(registry.backend, Caller(actor="ann")).set("acme/web", own_policy([], ["*: all"]))
    often = replace(settings, retention_interval=timedelta(milliseconds=20))
    async with Registry(often, serving=True), asyncio.timeout(30):
        while [tag async for tag in web.tags.list()]:
            await asyncio.sleep(0.02)
    (move,) = [move async for move in web.tags.history("v1")]
    assert move.ended_by == "retention:acme/web#1"


async def test_many_manifests_take_no_more_statements_than_a_few(
    registry: Registry, web: StoredRepository, retention: Retention, sql: Sql
) -> None:
    statements: list[str] = []
    monitor = registry.backend.everything

    def observe(name: str, *, seconds: float, round_trips: int) -> None:
        del seconds, round_trips
        statements.append(name)

    monitor.observe = observe
    await push(web, "v1")
    await retention.set("acme/web", own_policy([], ["untagged: pushed before 7d"]))
    counts = []
    for number in (2, 20):
        untagged = [image(b"layer", of=f"{number} {each}") for each in range(number)]
        for each in untagged:
            await web.manifests.put(each)
        await web.signatures.put(untagged[0].digest, b"signature")
        sql.execute("update manifests set pushed_at = now() - interval '8 days' where deleted_at is null")
        statements.clear()
        (found,) = await run(retention)
        assert len(found.deleted) == number
        counts.append(sorted(statements))
        await web.restorations.restore_manifest(untagged[0].digest)
        assert await web.signatures.get(untagged[0].digest) == [b"signature"]
        await web.manifests.delete(untagged[0].digest)
    assert counts[0] == counts[1]
    events = sql.execute("select count(*), count(distinct digest) from audit_events where action = 'manifest.delete'")
    assert events.fetchone() == (24, 22)
