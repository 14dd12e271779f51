"""Verification finds each kind of damage, and nothing where nothing is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.verification import Finding, Verifier
from distsql.values import Caller
from tests.registry.pushing import index, push_blob, push_image

Sql = psycopg.Connection[tuple[object, ...]]


async def verify(registry: Registry, *, read_bytes: bool = False) -> list[Finding]:
    verifier = Verifier(registry.backend, read_bytes=read_bytes, grace=timedelta(0), notify=lambda what, count: None)
    return [finding async for finding in verifier.findings()]


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
