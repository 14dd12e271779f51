"""Rows to begin with, and a look at any others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from distsql.oci.names import RepositoryName
from distsql.sql import layers, manifest_marks, manifests, repositories
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import unnamed
from distsql.sql.transactions import Transaction
from tests.registry.pushing import image


def digest(what: object) -> Digest:
    return Digest.of(str(what).encode())


async def look(tx: Transaction, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
    """Rows of a statement that only a test runs; parameters are written as ``%(name)s``."""
    return await tx.all(unnamed("look", sql), **parameters)


async def make_repository(tx: Transaction, name: str) -> RepositoryRow:
    row, _ = await repositories.insert_repository(tx, RepositoryName.parse(name))
    return row


async def lock_repository(tx: Transaction, repository: RepositoryRow) -> None:
    """Makes others wait who want the same."""
    await look(
        tx,
        "select 1 from repositories where tenant_id = %(tenant_id)s and id = %(id)s for update",
        tenant_id=repository.tenant_id,
        id=repository.id,
    )


async def make_layer(tx: Transaction, repository: RepositoryRow, what: object, store_key: str = "") -> Digest:
    made = digest(what)
    await layers.insert_blob(
        tx, repository.tenant_id, made, length=len(str(what)), store_key=store_key or f"key of {what}"
    )
    layers.insert_layer(tx, repository, made, length=len(str(what)))
    return made


async def make_manifest(
    tx: Transaction, repository: RepositoryRow, what: object = "", *, subject: Digest | None = None
) -> ParsedManifest:
    """An image of one layer; the layer isn't made."""
    manifest = image(b"layer", subject=subject, what=str(what))
    manifests.insert_manifests(tx, repository, [(manifest, "maker")])
    return manifest


async def mark_deleted(tx: Transaction, repository: RepositoryRow, target: Digest, *, actor: str) -> list[str]:
    """Deletes the manifest, which has to be there, as a caller does; gives the tags that ended with it."""
    place = await manifest_marks.lock_manifest(tx, repository, target)
    assert place is not None
    return await manifest_marks.mark_manifest_deleted(tx, repository, target, place=place, actor=actor)


async def make_digests(tx: Transaction, repository: RepositoryRow, whats: Sequence[object]) -> list[Digest]:
    return [(await make_manifest(tx, repository, what)).digest for what in whats]
