"""What pushes of manifests write: one, or several of a repository that go in one transaction (`group_commit`)."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from distsql.errors import ManifestReferencesUnknownError
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, Role
from distsql.oci.signing import signed_by_referrer
from distsql.registry.admissions import Admission
from distsql.registry.context import RepositoryContext
from distsql.registry.tags import point
from distsql.sql import audit, garbage_queue, manifests, signatures
from distsql.sql.audit import AuditEvent
from distsql.sql.repositories import RepositoryRow
from distsql.sql.tags import TagTarget
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage

# What a sparse repository may lack: platforms that nobody mirrored, layers that are fetched elsewhere.
_SPARSE: Final = frozenset({Role.MANIFEST, Role.LAYER})


class Push(NamedTuple):
    """A manifest with its tags, each of them once, and who pushes it where."""

    context: RepositoryContext
    manifest: ParsedManifest
    tags: Sequence[str]

    @property
    def place(self) -> Hashable:
        """What pushes have in common that go together: the repository, and as whom its rows are seen."""
        name = self.context.name
        return name, self.context.caller.authority.tenant_id(name.tenant)


class ApartError(Exception):
    """Of these pushes each goes by itself."""


async def admit_pushes(pushes: Sequence[Push]) -> Admission:
    """Asks for all of them, which are of one `Push.place`, whether they may be written.

    Raises what `RepositoryContext.admit` raises, `ManifestTooLargeError`; `ApartError` if one of them has to make the
    repository.
    """

    def warn(text: str) -> None:
        for push in pushes:
            push.context.caller.warn(text)

    context = pushes[0].context
    admission = await replace(context, caller=context.caller._replace(warn=warn)).admit()
    if len(pushes) > 1 and admission.repository is None:
        raise ApartError
    for push in pushes:
        admission.check_length(len(push.manifest.payload))
    return admission


async def write_pushes(tx: Transaction, pushes: Sequence[Push], admission: Admission) -> list[bool]:
    """Of each, whether the manifest is new. All were admitted together, and no two are of the same manifest."""
    context = pushes[0].context
    if admission.repository is None:
        _check_references(pushes, found=set(), sparse=admission.sparse)
    repository = await context.ensure(tx, admission)
    found = await manifests.lock_references(tx, repository, **_needed(pushes))
    absent = [push for push in pushes if push.manifest.digest not in found]
    _check_references(absent, found=found, sparse=repository.sparse)
    new = await _insert(tx, repository, absent)
    for push in pushes:
        _add_signatures(tx, repository, push.manifest, is_there=push.manifest.digest in found)
    uncounted = len(new)
    for targets in _rounds(pushes):
        await point(tx, repository, admission, targets, new_manifests=uncounted)
        uncounted = 0
    _audit(tx, repository, pushes)
    if admission.collecting:
        for push in pushes:
            if push.manifest.digest in new and not push.tags:
                garbage_queue.queue_manifest(tx, repository, push.manifest.digest)
    add_usage(tx, repository.tenant_id, manifests=uncounted)
    return [push.manifest.digest in new for push in pushes]


def _needed(pushes: Sequence[Push]) -> dict[str, set[Digest]]:
    """What to look for. A child may be a blob (build caches are indexes of layers); the manifest may be there too."""
    parts = [part for push in pushes for part in push.manifest.parts]
    children = {part.descriptor.digest for part in parts if part.role is Role.MANIFEST}
    every = {part.descriptor.digest for part in parts}
    return {"manifests": children | {push.manifest.digest for push in pushes}, "blobs": every}


def _check_references(pushes: Sequence[Push], *, found: Collection[Digest], sparse: bool) -> None:
    for push in pushes:
        missing = {
            part.descriptor.digest: part.role
            for part in push.manifest.parts
            if part.required and part.descriptor.digest not in found and not (sparse and part.role in _SPARSE)
        }
        if missing:
            raise ManifestReferencesUnknownError(
                f"{push.context.name} lacks {len(missing)} of what the manifest refers to: push that first",
                detail=[{"digest": str(digest), "role": role.value} for digest, role in missing.items()],
            )


async def _insert(tx: Transaction, repository: RepositoryRow, absent: Sequence[Push]) -> set[Digest]:
    """Which of the manifests it is this transaction that brings."""
    rows = [(push.manifest, push.context.caller.actor) for push in absent]
    referring = [row for row in rows if row[0].parts or row[0].subject]
    bare = [row for row in rows if not (row[0].parts or row[0].subject)]
    manifests.insert_manifests(tx, repository, referring)
    for manifest, _ in referring:
        subject = signed_by_referrer(manifest)
        if subject is not None:
            signatures.insert_signing_manifest(tx, repository, manifest.digest, subject=subject)
    return {manifest.digest for manifest, _ in referring} | await manifests.insert_bare_manifests(tx, repository, bare)


def _add_signatures(tx: Transaction, repository: RepositoryRow, manifest: ParsedManifest, *, is_there: bool) -> None:
    if manifest.signatures:
        if is_there:
            signatures.replace_unsigned_payload(tx, repository, manifest)
        signatures.insert_signatures(tx, repository, manifest.digest, manifest.signatures)


def _rounds(pushes: Sequence[Push]) -> Iterator[list[TagTarget]]:
    """What the tags are pointed to, in the order of the pushes: no tag twice at once."""
    rounds: list[dict[str, TagTarget]] = []
    for push in pushes:
        for tag in push.tags:
            target = TagTarget(tag, push.manifest.digest, push.context.caller.actor)
            earlier = next((each for each in rounds if tag not in each), None)
            if earlier is None:
                rounds.append({tag: target})
            else:
                earlier[tag] = target
    return (list(each.values()) for each in rounds)


def _audit(tx: Transaction, repository: RepositoryRow, pushes: Sequence[Push]) -> None:
    events = [
        AuditEvent(push.context.caller, tag, push.manifest.digest) for push in pushes for tag in push.tags or (None,)
    ]
    audit.insert_events(tx, repository.tenant_id, "manifest.put", repository=str(pushes[0].context.name), events=events)
