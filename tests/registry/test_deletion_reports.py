"""The reports that tell what a deletion would do and why a blob is kept, as who reads reports sees them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.deletion_effects import DeletionPreviews
from distsql.registry.namespace import StoredNamespace
from tests.registry.pushing import CONFIG, index, push_blob, push_image
from tests.registry.test_garbage import collect
from tests.registry.test_retention_runs import fill

Rows = list[tuple[Any, ...]]


@pytest.fixture
def auditor(database_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """As SQL roles of tenants do, it finds reports first and nothing else."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set role distsql_auditor")
        connection.execute("set search_path = report")
        yield connection


async def test_what_if_delete_is_the_answer_of_the_registry(
    registry: Registry, namespace: StoredNamespace, auditor: psycopg.Connection[tuple[Any, ...]]
) -> None:
    web = namespace.repository("acme/web")
    child = await push_image(web, b"own", b"shared", tags=["v1"])
    await web.manifests.put(index(child), ["multi"])
    await push_image(namespace.repository("acme/api/v1"), b"shared", tags=["v1"])
    await push_image(namespace.repository("other/web"), b"own", tags=["v1"])
    previews = DeletionPreviews(registry.backend.everything)
    for name, references in (
        ("acme/web", ["v1"]),
        ("acme/web", ["multi"]),
        ("acme/web", [str(child.digest)]),
        ("acme/web", []),
        ("acme/api/v1", []),
        ("acme", []),
    ):
        expected = [
            (row.effect, str(row.digest), row.length, row.because_of, row.kind)
            for row in (await previews.what_if_delete(name, *references)).rows
        ]
        repository = name if "/" in name else None
        asked = ["acme", repository, *references, *([None] if not references else [])]
        assert auditor.execute("select * from what_if_delete(%s, %s, %s)", asked).fetchall() == expected != []
    for nowhere in (["acme", "acme/nothing", None], ["acme", "other/web", "v1"], ["nobody", None, None]):
        assert auditor.execute("select * from what_if_delete(%s, %s, %s)", nowhere).fetchall() == []


def why_kept(auditor: psycopg.Connection[tuple[Any, ...]], content: bytes) -> Rows:
    return auditor.execute("select * from why_kept('acme', %s)", [str(Digest.of(content))]).fetchall()


async def test_why_a_blob_is_kept(namespace: StoredNamespace, auditor: psycopg.Connection[tuple[Any, ...]]) -> None:
    web, api = namespace.repository("acme/web"), namespace.repository("acme/api")
    tagged = await push_image(web, b"layer", tags=["v1", "v2"])
    child = await push_image(web, b"layer", b"more", title="child")
    await web.manifests.put(index(child), ["multi"])
    about = await push_image(web, b"signature", subject=child.digest)
    await push_blob(api, b"layer")
    await push_image(namespace.repository("other/web"), b"layer", tags=["v1"])
    assert set(why_kept(auditor, b"layer")) == {
        ("acme/api", None, None, "grace"),
        ("acme/web", str(tagged.digest), "v1", "layer"),
        ("acme/web", str(tagged.digest), "v2", "layer"),
        ("acme/web", str(child.digest), "multi", "layer"),
    }
    assert why_kept(auditor, b"signature") == [("acme/web", str(about.digest), "multi", "layer")]
    assert {row[3] for row in why_kept(auditor, CONFIG)} == {"config"}
    await web.tags.untag("multi")
    assert why_kept(auditor, b"more") == [("acme/web", str(child.digest), None, "layer")]
    assert why_kept(auditor, b"nothing") == []


async def test_why_a_blob_is_kept_that_nothing_needs(
    namespace: StoredNamespace,
    auditor: psycopg.Connection[tuple[Any, ...]],
    sql: psycopg.Connection[tuple[object, ...]],
) -> None:
    await push_image(namespace.repository("acme/gone"), b"layer", tags=["v1"])
    await namespace.repository("acme/gone").remove()
    assert {(row[0], row[3]) for row in why_kept(auditor, b"layer")} == {("acme/gone", "deleted repository")}
    sql.execute("delete from layers")
    assert why_kept(auditor, b"layer") == [(None, None, None, "unreferenced")]
    sql.execute("update blobs set state = 'condemned', condemned_at = now()")
    assert why_kept(auditor, b"layer") == [(None, None, None, "condemned")]


async def test_why_a_blob_is_kept_that_only_what_was_deleted_needs(
    namespace: StoredNamespace, auditor: psycopg.Connection[tuple[Any, ...]]
) -> None:
    web = namespace.repository("acme/web")
    gone = await push_image(web, b"layer", tags=["v1"])
    await web.manifests.delete(gone.digest)
    assert ("acme/web", str(gone.digest), None, "restorable") in why_kept(auditor, b"layer")


@pytest.mark.parametrize("seed", range(3))
async def test_every_blob_is_explained(
    registry: Registry,
    namespace: StoredNamespace,
    auditor: psycopg.Connection[tuple[Any, ...]],
    sql: psycopg.Connection[tuple[object, ...]],
    seed: int,
) -> None:
    """Why it is kept; and, if no manifest needs it, what waits for collection with it, and then it goes."""
    dice = random.Random(seed)
    web, gone = namespace.repository("acme/web"), namespace.repository("acme/gone")
    await fill(web, dice, sql)
    await fill(gone, dice, sql)
    manifests = [manifest.digest async for manifest in web.manifests.all()]
    for digest in dice.sample(manifests, 4):
        await web.manifests.delete(digest, force=True)
    await gone.remove()
    await collect(registry, timedelta(hours=1), timedelta(hours=1))
    needed = explained(auditor, sql)
    assert needed
    await collect(registry)
    stay = {digest for (digest,) in sql.execute("select digest_text(digest) from blobs").fetchall()}
    assert stay <= needed
    assert explained(auditor, sql) == stay, "nothing is left that only waits"
    assert auditor.execute("select kind from garbage where kind <> 'subject'").fetchall() == []


def explained(auditor: psycopg.Connection[tuple[Any, ...]], sql: psycopg.Connection[tuple[object, ...]]) -> set[object]:
    """The blobs that some manifest needs; of the others it makes sure that they are told to wait for collection."""
    waiting = auditor.execute("select kind, digest, repository from garbage where tenant = 'acme'").fetchall()
    found = set()
    for (digest,) in sql.execute("select digest_text(digest) from blobs").fetchall():
        reasons = auditor.execute("select * from why_kept('acme', %s)", [digest]).fetchall()
        assert reasons, digest
        for repository, manifest, _, role in reasons:
            if role in {"config", "layer", "blob"}:
                found.add(digest)
            elif role == "deleted repository":
                assert ("repository", None, repository) in waiting
            elif role == "restorable":
                assert ("deleted_manifest", manifest, repository) in waiting
            else:
                assert any(row[0] in {"layer", "blob"} and row[1] == digest for row in waiting), role
    return found
