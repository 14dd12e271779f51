"""Deleting many tags and manifests of a repository in one transaction, each as a client's deletion does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from distsql.oci.digest import Digest
from distsql.registry.context import RepositoryContext
from distsql.sql import audit, manifest_deletions, mass_deletions, signatures
from distsql.sql.database import Transaction
from distsql.sql.repositories import RepositoryRow
from distsql.sql.usage import add_usage


async def delete_content(
    tx: Transaction,
    context: RepositoryContext,
    repository: RepositoryRow,
    *,
    tags: Mapping[str, str],
    digests: Mapping[Digest, str],
) -> None:
    """Ends the tags and deletes the manifests, which the transaction has locked; each by its actor.

    Of a manifest all tags have to be among them. They can be restored, and are in the audit, as any others.
    """
    ended = await mass_deletions.end_tags(tx, repository, tags) if tags else []
    signatures.delete_cosign_tags(tx, repository, [row.name for row in ended])
    of_digest: dict[Digest, list[str]] = defaultdict(list)
    for row in ended:
        of_digest[row.digest].append(row.name)
    deleted = [each for each in digests if await _delete_manifest(tx, repository, each, actor=digests[each])]
    for digest in deleted:
        _audit(tx, context, repository, digests[digest], "manifest.delete", digest, of_digest.pop(digest, []))
    for digest, names in of_digest.items():
        for name in names:
            _audit(tx, context, repository, tags[name], "tag.delete", digest, [name])
    add_usage(tx, repository.tenant_id, manifests=-len(deleted), tags=-len(ended))


async def _delete_manifest(tx: Transaction, repository: RepositoryRow, digest: Digest, *, actor: str) -> bool:
    if not await manifest_deletions.mark_manifest_deleted(tx, repository, digest, actor=actor):
        return False
    signatures.delete_signatures(tx, repository, digest)
    manifest_deletions.delete_references(tx, repository, digest)
    return True


def _audit(
    tx: Transaction,
    context: RepositoryContext,
    repository: RepositoryRow,
    actor: str,
    action: str,
    digest: Digest,
    names: list[str],
) -> None:
    audit.insert_audit_events(
        tx,
        repository.tenant_id,
        action,
        caller=replace(context.caller, actor=actor),
        repository=str(context.name),
        references=names or (None,),
        digest=digest,
    )
