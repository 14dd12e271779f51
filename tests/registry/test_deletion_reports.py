"""The reports that tell what a deletion would do and why a blob is kept, as who reads reports sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.deletion_effects import DeletionPreviews
from distsql.registry.namespace import StoredNamespace
from tests.registry.pushing import CONFIG, index, push_blob, push_image

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
