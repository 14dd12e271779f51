"""Labels of images: read out of configs after the push, once, whoever pushed them, and whatever is in there."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from distsql import app
from distsql.app import Registry
from distsql.bytestore.contract import ByteStore
from distsql.errors import BytesMissingError, CatalogueUnavailableError
from distsql.oci.digest import Digest
from distsql.oci.manifest.image_config import MAX_KEY, MAX_LABELS, MAX_LENGTH
from distsql.registry import image_labels
from distsql.registry.namespace import StoredNamespace
from distsql.registry.turns import Turns, every
from distsql.settings import Settings
from distsql.sql.database import Database
from tests.contract.families import push_blobs, schema1, schema1_signed
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[Any, ...]]
LABELS = "select repository, key, value from report.labels where kind = 'label' order by 1, 2"


def config(labels: object) -> bytes:
    return json.dumps({"architecture": "amd64", "config": {"Labels": labels}}).encode()


async def test_labels_are_read_after_the_push(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """Of images in two repositories of a tenant, and of another tenant with the same content."""
    labelled = config({"stage": "testing", "Ü": '"quoted"\n'})
    for name in ("acme/web", "acme/other", "rival/web"):
        await push_image(namespace.repository(name), b"layer", tags=["latest"], config=labelled)
    await push_image(namespace.repository("acme/web"), b"layer", config=config(None))
    assert sql.execute(LABELS).fetchall() == []
    assert not await registry.image_labels.flush()
    names = ("acme/other", "acme/web", "rival/web")
    assert sql.execute(LABELS).fetchall() == [
        (name, *label) for name in names for label in (("stage", "testing"), ("Ü", '"quoted"\n'))
    ]
    assert sql.execute("select count(*) from image_configs where problem is null").fetchall() == [(3,)]


async def test_they_are_read_by_themselves(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    registry.image_labels._deferred._seconds = 0.01
    await push_image(namespace.repository("acme/web"), b"layer", config=config({"stage": "testing"}))
    async with asyncio.timeout(20):
        while not sql.execute(LABELS).fetchall():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("payload", "problem", "found"),
    [
        (b"no json", "JSON", []),
        (b"[]", "JSON object", []),
        (b'{"config": "x"}', None, []),
        (config(["x"]), None, []),
        (config({"number": 1, "none": None, "text": "x"}), None, ["text"]),
        (config({"": "empty"}), None, [""]),
        (config({"x" * (MAX_KEY + 1): "long", "ü" * (MAX_KEY // 2): "longest"}), None, ["ü" * (MAX_KEY // 2)]),
        (config({str(number): "" for number in range(MAX_LABELS + 1)}), "labels are more", []),
        (config({"nul": "\0"}), "NUL", []),
        (config({"surrogate": "\ud800"}), "surrogate", []),
        (b'{"config":' * 100 + b"1" + b"}" * 100, "deep", []),
        (config({"large": "x" * MAX_LENGTH}), "bytes, more than", []),
    ],
)
async def test_whatever_a_config_is_does_no_harm(
    registry: Registry, namespace: StoredNamespace, sql: Sql, payload: bytes, problem: str | None, found: list[str]
) -> None:
    await push_image(namespace.repository("acme/web"), b"layer", config=payload)
    assert not await registry.image_labels.flush()
    [(told,)] = sql.execute("select problem from image_configs").fetchall()
    assert told is None if problem is None else problem in told
    assert [key for _, key, _ in sql.execute(LABELS)] == found


async def test_what_nobody_has_read_is_found(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    """Images of an earlier version, or of a server that was killed; page by page, and each once."""
    web = namespace.repository("acme/web")
    for number in range(5):
        await push_image(web, b"layer", config=config({"number": str(number % 3)}), title=str(number))
    registry.image_labels._new.clear()  # killed
    assert await registry.image_labels.read_rest(page=2, pause_s=0) == 3
    assert sorted(value for _, _, value in sql.execute(LABELS)) == ["0", "0", "1", "1", "2"]
    assert await registry.image_labels.read_rest(page=2, pause_s=0) == 0


async def test_what_is_gone_is_forgotten(registry: Registry, namespace: StoredNamespace, sql: Sql) -> None:
    for number in range(3):
        await push_image(namespace.repository("acme/web"), b"layer", config=config({"number": str(number)}))
    await registry.image_labels.flush()
    gone = Digest.of(config({"number": "1"}))
    sql.execute("delete from descriptors where digest = %s", [gone.packed])
    sql.execute("delete from layers where digest = %s", [gone.packed])
    sql.execute("delete from blobs where digest = %s", [gone.packed])
    await registry.image_labels.read_rest(page=1, pause_s=0)
    assert sql.execute("select value from image_labels order by 1").fetchall() == [("0",), ("2",)]


async def test_bytes_that_are_away_are_read_later(
    registry: Registry, namespace: StoredNamespace, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: ByteStore, key: str, start: int, stop: int) -> bytes:
        raise BytesMissingError("away")

    await push_image(namespace.repository("acme/web"), b"layer", config=config({"stage": "testing"}))
    with monkeypatch.context() as patched:
        patched.setattr(type(registry.image_labels._store), "read", away)
        assert not await registry.image_labels.flush()
    assert sql.execute("select 1 from image_configs").fetchall() == []
    assert await registry.image_labels.read_rest(pause_s=0) == 1
    assert len(sql.execute(LABELS).fetchall()) == 1


async def test_while_the_catalogue_is_away_they_are_remembered(
    registry: Registry, namespace: StoredNamespace, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there is room for; the others are found by looking for them."""
    monkeypatch.setattr(image_labels, "_MOST", 2)

    async def fail(self: Database, work: object) -> None:
        raise CatalogueUnavailableError("away")

    for number in range(3):
        await push_image(namespace.repository("acme/web"), b"layer", config=config({"number": str(number)}))
    with monkeypatch.context() as patched:
        patched.setattr(Database, "transact", fail)
        assert await registry.image_labels.flush()
    assert not await registry.image_labels.flush()
    assert len(sql.execute(LABELS).fetchall()) == 2


async def test_what_a_killed_server_left_is_found_in_what_was_pushed_since(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    """A minute later, and not with the next round over everything; what was looked at before is left alone."""
    labels, late = registry.image_labels, Turns(registry.backend.everything, image_labels.LATE)
    for name in ("acme/web", "acme/deep/web", "rival/web"):
        for number in range(3):
            await push_image(namespace.repository(name), b"layer", config=config({"number": str(number)}))
    await push_image(namespace.repository("acme/web"), b"layer", config=config({"number": "1"}), title="the same again")
    labels._new.clear()  # killed
    assert await late.take(partial(labels.read_late, page=2, pause_s=0), rest=every(timedelta(minutes=2)))
    found = sorted((name, value) for name, _, value in sql.execute(LABELS))
    names = ["acme/deep/web", "acme/web", "rival/web"]
    assert found == sorted([*((name, str(each)) for name in names for each in range(3)), ("acme/web", "1")])
    told = "select now() - reached_at between '2 minutes' and '3 minutes' from turns"
    assert sql.execute(told).fetchall() == [(True,)]
    await push_image(namespace.repository("acme/web"), b"layer", config=config({"number": "3"}))
    labels._new.clear()
    sql.execute("update turns set reached_at = now() + interval '1 second'")
    assert await labels.read_late(pause_s=0) == 0
    sql.execute("update turns set reached_at = now() - interval '30 minutes'")  # in several spans
    assert await labels.read_late(pause_s=0) == 1
    assert await labels.read_late(pause_s=0) == 0


@pytest.mark.parametrize("what", ["_LATE_LABELS", "_FIRST_UNREAD_LABELS_S"])
async def test_a_server_looks_for_what_is_missing(
    sql: Sql,
    namespace: StoredNamespace,
    registry: Registry,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """By what was pushed lately, and by all that there is."""
    await push_image(namespace.repository("acme/web"), b"layer", config=config({"stage": "testing"}))
    registry.image_labels._new.clear()
    monkeypatch.setattr(app, what, timedelta(seconds=0.01) if what == "_LATE_LABELS" else 0.01)
    for read in (image_labels.ImageLabels.read_late, image_labels.ImageLabels.read_rest):
        monkeypatch.setitem(read.__kwdefaults__ or {}, "pause_s", 0)
    async with Registry(settings, check_schema=False, serving=True), asyncio.timeout(20):
        while not sql.execute(LABELS).fetchall():
            await asyncio.sleep(0.01)


async def test_labels_of_docker_schema_1_come_with_the_push(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    """Bare and signed, in two repositories; and they go with it, come again, and are forgotten."""
    history = [{"v1Compatibility": config({"stage": stage}).decode()} for stage in ("testing", "an older layer's")]
    for name, make in (("acme/web", schema1), ("acme/other", schema1_signed)):
        repository = namespace.repository(name)
        await push_blobs(repository)
        await repository.manifests.put(make(name=name, history=history), ["v1"])
    assert sql.execute(LABELS).fetchall() == [(name, "stage", "testing") for name in ("acme/other", "acme/web")]
    manifests = namespace.repository("acme/web").manifests
    digest = schema1(history=history).digest
    await manifests.delete(digest)
    assert [row[0] for row in sql.execute(LABELS)] == ["acme/other"]
    await manifests.put(schema1(history=history), ["v1"])
    assert [row[0] for row in sql.execute(LABELS)] == ["acme/other", "acme/web"]
    sql.execute("delete from tags")
    sql.execute("delete from manifests where digest = %s", [digest.packed])
    await registry.image_labels.read_rest(page=1, pause_s=0)
    assert sql.execute("select count(*) from manifest_labels").fetchall() == [(1,)]
