"""Deleting many tags and manifests of a repository in one transaction, each as a client's deletion does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from distsql.oci.digest import Digest
from distsql.registry.context import RepositoryContext
from distsql.sql import content_events, manifest_deletions, mass_deletions, signatures
from distsql.sql.content_events import ContentEvent
from distsql.sql.manifest_deletions import PlacedManifestRow
from distsql.sql.mass_deletions import NamedRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage


async def delete_content(
    tx: Transaction,
    context: RepositoryContext,
    repository: RepositoryRow,
    *,
    tags: Mapping[str, str],
    digests: Mapping[Digest, str],
    places: Mapping[Digest, str],
) -> None:
    """Ends the tags and deletes the manifests, which the transaction has locked at their places; each by its actor.

    What the manifests need was released before (`manifest_deletions.release_layers`), and their signatures are taken
    afterwards (`take_signatures`). Of a manifest all tags have to be among them. They can be restored, each by itself,
    and are in the audit, as any others. However many there are, it takes the same few statements, and some for each
    actor.
    """
    ended = await mass_deletions.end_tags(tx, repository, tags) if tags else []
    signatures.delete_cosign_tags(tx, repository, [row.name for row in ended])
    by_actor: dict[str, list[PlacedManifestRow]] = defaultdict(list)
    for digest, actor in digests.items():
        by_actor[actor].append(PlacedManifestRow(repository.tenant_id, repository.id, digest, places[digest]))
    deleted: set[Digest] = set()
    for actor, rows in by_actor.items():
        deleted |= {row.digest for row in await manifest_deletions.delete_manifests(tx, rows, actor=actor)}
    content_events.insert_events_of_repository(
        tx, repository, str(context.name), _events(ended, tags, {each: digests[each] for each in deleted})
    )
    add_usage(tx, repository.tenant_id, tags=-len(ended))


def _events(ended: Sequence[NamedRow], tags: Mapping[str, str], deleted: Mapping[Digest, str]) -> list[ContentEvent]:
    """One for each manifest with each of its tags, as a client's deletion of it has; and for each tag of the others."""
    names: dict[Digest, list[str | None]] = defaultdict(list)
    for row in ended:
        names[row.digest].append(row.name)
    with_manifests = [
        ContentEvent(actor, "manifest.delete", name, digest)
        for digest, actor in deleted.items()
        for name in names.get(digest, [None])
    ]
    alone = [ContentEvent(tags[row.name], "tag.delete", row.name, row.digest) for row in ended]
    return with_manifests + [each for each in alone if each.digest not in deleted]
