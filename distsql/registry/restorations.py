"""Undo (`distsql.contract_undo`): what was deleted comes back as it was, for as long as it is kept.

Each manifest is a transaction of its own, children before the index that needs them and referrers behind their subject:
killed in between, what was restored is whole, and restoring again goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, cast

from distsql.errors import (
    ManifestUnknownError,
    RepositoryExistsError,
    TagChangedError,
    TagUnknownError,
)
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, Role, parse
from distsql.oci.names import is_tag
from distsql.oci.signing import signed_by_referrer
from distsql.registry.admissions import Admission
from distsql.registry.context import RepositoryService
from distsql.registry.tags import Tags
from distsql.sql import (
    deleted_things,
    garbage_queue,
    manifest_references,
    manifests,
    repositories,
    restorations,
    signatures,
    tags,
)
from distsql.sql.database import transactional
from distsql.sql.repositories import RepositoryRow
from distsql.sql.restorations import DeletedManifestRow
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage
from distsql.values import Action, DeletedThing


class Restorations(RepositoryService):
    """What can be restored in one repository, or of the repository itself."""

    __slots__ = ()

    async def deleted(self, *, limit: int = 1000) -> Sequence[DeletedThing]:
        """What can be restored, the newest first."""
        rows = await self.database.read(
            deleted_things.list_deleted_of_repository,
            self._context.name,
            period=self._context.backend.restore_period,
            limit=limit,
        )
        return [
            DeletedThing(
                cast("Literal['tag', 'manifest', 'repository']", row.kind),
                row.tag,
                row.digest,
                row.deleted_at,
                row.deleted_by,
                row.restorable_until,
            )
            for row in rows
        ]

    # -- manifests ----------------------------------------------------------------------------------------------------

    async def restore_manifest(self, digest: Digest) -> None:
        """The manifest with its children, the tags that ended with it, and the referrers that followed it."""
        repository, admission = await self._context.admit_existing()
        row = await self._find(repository, digest)
        if row is None:
            raise _gone(digest)
        await self._restore(repository, admission, row)

    async def _find(self, repository: RepositoryRow, digest: Digest) -> DeletedManifestRow | None:
        return await self.database.read(
            restorations.find_deleted_manifest, repository, digest, period=self._context.backend.restore_period
        )

    async def _restore(self, repository: RepositoryRow, admission: Admission, row: DeletedManifestRow) -> None:
        """Children as deep as there are some; then itself, its tags, and those that say something about it."""
        parsed = await asyncio.to_thread(parse, row.payload, row.media_type, row.digest)
        for part in parsed.parts:
            if part.role is Role.MANIFEST and (child := await self._find(repository, part.descriptor.digest)):
                await self._restore(repository, admission, child)
        await self._revive(repository, admission, parsed)
        await self._restore_tags(repository, row)
        followers = await self.database.read(
            restorations.list_followers, repository, row, period=self._context.backend.restore_period
        )
        for follower in followers:
            await self._restore(repository, admission, follower)

    @transactional
    async def _revive(
        self, tx: Transaction, repository: RepositoryRow, admission: Admission, manifest: ParsedManifest
    ) -> None:
        digest = manifest.digest
        row = await restorations.lock_deleted_manifest(
            tx, repository, digest, period=self._context.backend.restore_period
        )
        if row is None:  # restored, pushed again, or taken out meanwhile
            if digest not in await manifests.lock_references(tx, repository, manifests={digest}, blobs=()):
                raise _gone(digest)
            return
        needed = {part.descriptor.digest for part in manifest.parts}
        linked = await restorations.relink_layers(tx, repository, digest, needed=needed)
        missing = sorted(
            {
                str(part.descriptor.digest)
                for part in manifest.parts
                if part.required and part.role is not Role.MANIFEST and part.descriptor.digest not in linked
            }
        )
        if missing and not repository.sparse:
            raise ManifestUnknownError(
                f"{digest} can't be restored: {len(missing)} of its blobs are gone already", detail={"missing": missing}
            )
        await restorations.revive_manifest(tx, repository, digest)
        manifest_references.insert_references(tx, repository, manifest)
        if row.signatures:
            signatures.insert_signatures(tx, repository, digest, row.signatures)
        subject = signed_by_referrer(manifest)
        if subject is not None:
            signatures.insert_signing_manifest(tx, repository, digest, subject=subject)
        if admission.collecting:
            garbage_queue.queue_manifest(tx, repository, digest)
        self._context.audit(tx, repository.tenant_id, "manifest.restore", digest=digest)
        add_usage(tx, repository.tenant_id, manifests=1)

    async def _restore_tags(self, repository: RepositoryRow, row: DeletedManifestRow) -> None:
        names = await self.database.read(restorations.list_tags_ended_with, repository, row)
        if names:
            await self._create_tags(repository, names, row.digest)

    @transactional
    async def _create_tags(
        self, tx: Transaction, repository: RepositoryRow, names: Sequence[str], digest: Digest
    ) -> None:
        if digest not in await manifests.lock_references(tx, repository, manifests={digest}, blobs=()):
            raise _gone(digest)
        targets = tags.targets(names, digest=digest, actor=self._context.caller.actor)
        made = await tags.create_tags(tx, repository, targets)
        signatures.point_cosign_tags(tx, repository, made, digest=digest)
        if made:
            self._context.audit(tx, repository.tenant_id, "tag.restore", references=made, digest=digest)
        add_usage(tx, repository.tenant_id, tags=len(made))

    # -- tags ---------------------------------------------------------------------------------------------------------

    async def restore_tag(self, tag: str) -> Digest:
        """Points an ended tag to what it pointed to last."""
        repository, _ = await self._context.admit_existing()
        current = await self.database.read(tags.find_tag, repository, tag) if is_tag(tag) else None
        if current is not None:
            raise TagChangedError(
                f"The tag {tag} is there: rolling it back takes its last move back",
                detail={"tag": tag, "digest": str(current.digest)},
            )
        return await self.roll_back(tag)

    async def roll_back(self, tag: str, *, at: datetime | None = None) -> Digest:
        """Points the tag to what it pointed to at the instant, or before its last move; one that ended begins again."""
        repository, admission = await self._context.admit_existing()
        moving = Tags(self._context)
        current = await self.database.read(tags.find_tag, repository, tag) if is_tag(tag) else None
        target = (
            await self._last_but(tag, current.digest if current else None)
            if at is None
            else await moving.resolve(tag, at=at)
        )
        if target is None:
            raise TagUnknownError(
                f"{self._context.name} has no {'earlier ' if at is None else ''}{tag[:128]!r} to go back to",
                detail={"tag": tag[:128]},
            )
        deleted = await self._find(repository, target)
        if deleted is not None:
            await self._restore(repository, admission, deleted)
            current = await self.database.read(tags.find_tag, repository, tag)  # it may have come back with it
        if current is None or current.digest != target:
            await moving.tag(tag, target, current.digest if current else None)
        return target

    async def _last_but(self, tag: str, current: Digest | None) -> Digest | None:
        async for move in Tags(self._context).history(tag):
            if move.digest != current:
                return move.digest
        return None

    # -- the repository -----------------------------------------------------------------------------------------------

    async def restore_repository(self) -> None:
        """The repository that was deleted last under this name, with all that was in it."""
        await self._context.admit(Action.PUSH)
        await self._restore_repository()

    @transactional
    async def _restore_repository(self, tx: Transaction) -> None:
        context = self._context
        if await repositories.find_repository(tx, context.name) is not None:
            raise RepositoryExistsError(f"There is a repository {context.name} already: rename or delete it first")
        row = await restorations.restore_repository(
            tx, tenant=context.name.tenant, path=context.name.path, period=context.backend.restore_period
        )
        if row is None:
            raise context.unknown()
        # While it was away, collection forgot what it found of it.
        garbage_queue.queue_untagged(tx, row.tenant_id, row.id)
        context.audit(tx, row.tenant_id, "repository.restore")


def _gone(digest: Digest) -> ManifestUnknownError:
    return ManifestUnknownError(
        f"There is no deleted manifest {digest} (any more) that could be restored", detail={"digest": str(digest)}
    )
