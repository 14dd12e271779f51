"""Verification finds each kind of damage, and nothing where nothing is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.throttles import Throttle
from distsql.registry.verification import Finding, Notify, Verifier, VerifyingElsewhereError
from distsql.values import Caller
from tests.registry.pushing import index, push_blob, push_image

Sql = psycopg.Connection[tuple[object, ...]]


def verifier(registry: Registry, *, notify: Notify = lambda what, count: None, **options: Any) -> Verifier:
    return Verifier(registry.backend, **{"read_bytes": False, "grace": timedelta(0), "notify": notify, **options})


async def verify(registry: Registry, **options: Any) -> list[Finding]:
    return [finding async for finding in verifier(registry, **options).findings()]


@pytest.fixture
async def blob(registry: Registry, namespace: StoredNamespace) -> Path:
    """The file of a blob that was just pushed."""
    await push_image(namespace.repository("acme/web"), b"other", tags=["v1"])
    digest = await push_blob(namespace.repository("acme/web"), b"content")
    path = (await namespace.repository("acme/web").layers.fetch(digest)).local_path()
    assert path is not None
    return path


async def test_nothing_is_wrong(registry: Registry, blob: Path) -> None:
    assert await verify(registry, read_bytes=True) == []


async def test_missing_bytes(registry: Registry, blob: Path) -> None:
    blob.unlink()
    (finding,) = await verify(registry)
    assert finding.kind == "missing"
    assert finding.damage
    assert str(Digest.of(b"content")) in finding.subject


async def test_bytes_of_another_length(registry: Registry, blob: Path) -> None:
    blob.write_bytes(b"short")
    assert [finding.kind for finding in await verify(registry)] == ["length"]


async def test_other_bytes_are_found_by_reading_them(registry: Registry, blob: Path) -> None:
    blob.write_bytes(b"CONTENT")
    assert await verify(registry) == []
    assert [finding.kind for finding in await verify(registry, read_bytes=True)] == ["content"]


async def test_bytes_that_no_row_names_are_no_damage(registry: Registry, blob: Path, sql: Sql) -> None:
    sql.execute("delete from layers where digest = %s", [Digest.of(b"content").packed])
    sql.execute("delete from blobs where digest = %s", [Digest.of(b"content").packed])
    sql.execute(
        "update tenant_usage set stored_bytes = stored_bytes - %s where slot = %s", [len(b"content"), _slot(sql)]
    )
    (finding,) = await verify(registry)
    assert finding.kind == "orphan"
    assert not finding.damage


def _slot(sql: Sql) -> object:
    """One of those in which something is counted."""
    found = sql.execute("select min(slot) from tenant_usage").fetchone()
    return found and found[0]


async def test_a_damaged_payload(registry: Registry, blob: Path, sql: Sql) -> None:
    sql.execute("update manifests set payload = set_byte(payload, 0, 32)")
    assert [finding.kind for finding in await verify(registry)] == ["payload"]


async def test_references_that_lead_nowhere(
    registry: Registry, namespace: StoredNamespace, blob: Path, sql: Sql
) -> None:
    sql.execute("delete from layers where digest = %s", [Digest.of(b"other").packed])
    (finding,) = await verify(registry)
    assert finding.kind == "reference"
    assert "acme/web@" in finding.subject


async def test_absent_children_and_layers_are_no_damage_where_the_repository_is_sparse(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    repository = namespace.repository("acme/web")
    child = await push_image(repository, b"layer")
    settings = RepositoryAdministration(registry.backend.everything, Caller())
    await settings.set("acme/web", {"sparse": True})
    parent = index(child)
    await repository.manifests.put(parent, ["multi"])
    sparse = await push_image(repository, b"other")
    sql.execute("delete from manifests where digest = %s", [child.digest.packed])
    sql.execute("update tenant_usage set manifests = manifests - 1 where slot = %s", [_slot(sql)])
    sql.execute("delete from layers where digest = %s", [Digest.of(b"other").packed])
    assert await verify(registry) == []
    await settings.set("acme/web", {"sparse": False})
    found = await verify(registry)
    assert [finding.kind for finding in found] == ["reference", "reference"]
    assert any(str(sparse.digest) in finding.subject for finding in found)


# -- repairs -----------------------------------------------------------------------------------------------------------


async def test_what_a_repository_lost_and_its_tenant_has_is_linked_again(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    web = namespace.repository("acme/web")
    await push_image(web, b"layer", b"gone", tags=["v1"])
    await push_image(namespace.repository("other/web"), b"gone", tags=["v1"])
    sql.execute(
        "delete from layers where digest = %s and tenant_id = (select id from tenants where name = 'acme')",
        [Digest.of(b"gone").packed],
    )
    sql.execute("delete from layers where digest = %s", [Digest.of(b"layer").packed])
    sql.execute(
        "delete from blobs where digest = %s and tenant_id = (select id from tenants where name = 'acme')",
        [Digest.of(b"gone").packed],
    )
    (found,) = [each for each in await verify(registry, repair=True) if each.kind == "reference"]
    assert str(Digest.of(b"gone")) in found.explanation, "another tenant's is not ours"
    assert str(Digest.of(b"layer")) not in found.explanation
    assert found.wrong
    assert await web.layers.exists(Digest.of(b"layer"))
    assert not await web.layers.exists(Digest.of(b"gone"))
    await push_blob(web, b"gone")
    sql.execute("delete from layers where digest = %s", [Digest.of(b"layer").packed])
    (found,) = await verify(registry, repair=True)
    assert (found.kind, found.mended, found.wrong) == ("reference", True, False)
    assert await verify(registry) == []


async def test_bytes_under_another_key_are_found_and_others_removed(
    registry: Registry, namespace: StoredNamespace, sql: Sql, blob: Path
) -> None:
    """As in a database that was restored beside a newer store."""
    other = await push_image(namespace.repository("acme/other"), b"CONTENT", tags=["v1"])
    sql.execute("update blobs set store_key = store_key || 'x' where digest = %s", [Digest.of(b"content").packed])
    before = await verify(registry)
    assert sorted(each.kind for each in before) == ["missing", "orphan"]
    assert sql.execute("select count(*) from verification_findings").fetchone() == (2,)
    found = {each.kind: each for each in await verify(registry, repair=True)}
    assert found["missing"].mended
    assert "orphan" not in found
    assert await verify(registry, read_bytes=True) == []
    assert (await namespace.repository("acme/web").layers.fetch(Digest.of(b"content"))).length == len(b"content")
    assert await namespace.repository("acme/other").manifests.exists(other.digest)


async def test_orphans_go_after_the_grace_only(registry: Registry, blob: Path) -> None:
    orphan = blob.with_name(blob.name[:-1] + ("0" if blob.name[-1] != "0" else "1"))
    orphan.write_bytes(b"nobody's")
    assert await verify(registry, repair=True, grace=timedelta(hours=1)) == []
    (found,) = await verify(registry)
    assert (found.kind, found.wrong, orphan.exists()) == ("orphan", False, True)
    (found,) = await verify(registry, repair=True)
    assert (found.mended, orphan.exists()) == (True, False)


# -- stopped, and going on ---------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process ended here."""


@pytest.fixture
def hashed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys whose bytes are read, in their order; every step of the way is remembered in the catalogue."""
    keys: list[str] = []
    stream = registry.backend.store.stream

    def watched(key: str, *args: int) -> AsyncIterator[bytes]:
        keys.append(key)
        return stream(key, *args)

    monkeypatch.setattr(registry.backend.store, "stream", watched)
    monkeypatch.setattr("distsql.registry.verification._SAVE_S", -1)
    return keys


def kill_at(blob: int) -> Notify:
    """Ends the process when it has read the bytes of so many, and hasn't remembered the last one."""
    seen: list[str] = []

    def notify(what: str, count: int) -> None:
        seen.append(what)
        if seen.count("bytes") == blob:
            raise Killed

    return notify


async def test_killed_it_goes_on_where_it_was(
    registry: Registry, namespace: StoredNamespace, blob: Path, hashed: list[str], sql: Sql
) -> None:
    """Bytes are hashed once but those of the blob that it was at; what it had found is told again."""
    for number in range(5):
        await push_blob(namespace.repository("acme/web"), b"blob %d" % number)
    keys = [str(key) for (key,) in sql.execute("select store_key from blobs order by tenant_id, digest").fetchall()]
    damaged = blob.parents[1] / keys[0]
    damaged.write_bytes(damaged.read_bytes()[::-1])
    for at in (3, 2):  # going on, it tells first how many there were before
        with pytest.raises(Killed):
            await verify(registry, read_bytes=True, notify=kill_at(at))
    assert hashed == [*keys[:3], keys[2]]
    hashed.clear()
    counted: list[tuple[str, int]] = []
    found = await verify(registry, read_bytes=True, notify=lambda what, count: counted.append((what, count)))
    assert hashed == keys[2:], "the one that it was at again, and none of those before"
    assert [each.kind for each in found] == ["content"]
    assert counted[0] == ("blobs", 2), "what was done before is told first, as a bar goes on"
    assert sum(count for what, count in counted if what == "blobs") == len(keys)
    # Done: the next one begins at the beginning; and so does one that is told to.
    for more in ({}, {"resume": False}):
        hashed.clear()
        await verify(registry, read_bytes=True, **more)
        assert hashed == keys


async def test_a_quick_look_leaves_a_scrub_where_it_is(registry: Registry, blob: Path, hashed: list[str]) -> None:
    """Whoever compares only lengths, each hour, does not send the one that reads everything back to its beginning."""
    with pytest.raises(Killed):
        await verify(registry, read_bytes=True, notify=kill_at(2))
    assert await verify(registry) == []
    first, at = hashed
    assert await verify(registry, read_bytes=True) == []
    assert hashed[2:] == [at, *sorted(set(hashed) - {first, at})]


async def test_a_repair_goes_on_with_what_a_look_had_found(
    registry: Registry, namespace: StoredNamespace, blob: Path, hashed: list[str], sql: Sql
) -> None:
    """Also what it found in a phase that is over, without hashing what was hashed."""
    sql.execute("delete from layers where digest = %s", [Digest.of(b"other").packed])
    sql.execute("update tenant_usage set tags = tags + 1 where slot = %s", [_slot(sql)])

    def kill(what: str, count: int) -> None:
        if what == "orphans":
            raise Killed

    blob.with_name(blob.name[:-1] + ("0" if blob.name[-1] != "0" else "1")).write_bytes(b"nobody's")
    with pytest.raises(Killed):
        await verify(registry, read_bytes=True, notify=kill)
    hashed.clear()
    found = {each.kind: each.mended for each in await verify(registry, read_bytes=True, repair=True)}
    assert found == {"reference": True, "usage": True, "orphan": True}
    assert hashed == []
    assert await namespace.repository("acme/web").layers.exists(Digest.of(b"other"))
    assert await verify(registry, read_bytes=True) == []


@pytest.mark.parametrize("phase", ["blobs", "manifests", "usage", "orphans"])
async def test_it_goes_on_from_each_phase(
    registry: Registry, namespace: StoredNamespace, blob: Path, sql: Sql, phase: str
) -> None:
    blob.write_bytes(b"CONTENT")
    await verify(registry, read_bytes=True)
    sql.execute("update verifications set phase = %s", [phase])
    counted: list[str] = []
    found = await verify(registry, read_bytes=True, notify=lambda what, count: counted.append(what))
    assert [each.kind for each in found].count("content") == (2 if phase == "blobs" else 1)
    found = await verify(registry, read_bytes=True, resume=False)
    assert [each.kind for each in found] == ["content"]


async def test_of_two_at_once_the_later_one_goes_on(
    registry: Registry, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distsql.registry.verification._SAVE_S", -1)
    blob.unlink()
    first = verifier(registry).findings()
    assert (await anext(first)).kind == "missing"
    assert [each.kind for each in await verify(registry)] == ["missing", "missing"]
    with pytest.raises(VerifyingElsewhereError):
        await anext(first)


async def test_a_throttle_waits_for_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr("distsql.registry.throttles.asyncio.sleep", sleep)
    monkeypatch.setattr("distsql.registry.throttles.time.monotonic", lambda: now)
    throttle = Throttle(1000)
    for _ in range(10):
        await throttle.take(1000)
    assert now == 110
    now += 60  # what wasn't taken is not saved up for more than a second
    slept.clear()
    for _ in range(3):
        await throttle.take(1000)
    assert sum(slept) == 2
    await Throttle(None).take(10**12)


async def test_every_byte_that_is_hashed_went_through_the_throttle(
    registry: Registry, blob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is hashed; also what is looked for among orphans."""
    rates: list[int | None] = []
    taken: list[int] = []

    class Counting(Throttle):
        def __init__(self, rate: int | None) -> None:
            super().__init__(None)
            rates.append(rate)

        async def take(self, length: int) -> None:
            taken.append(length)

    monkeypatch.setattr("distsql.registry.verification.Throttle", Counting)
    total = (await verifier(registry).totals())["bytes"]
    assert await verify(registry, read_bytes=True, rate=1000) == []
    assert rates == [None, 1000]
    assert sum(taken) == total
    blob.rename(blob.with_name(blob.name[:-1] + ("0" if blob.name[-1] != "0" else "1")))
    taken.clear()
    found = await verify(registry, repair=True, rate=1000)
    assert [(each.kind, each.mended) for each in found] == [("missing", False), ("missing", True)]
    assert sum(taken) == len(b"content")
