"""The tags of one repository."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from distsql.errors import ManifestUnknownError, TagChangedError, TagUnknownError
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.oci.names import check_tag, is_tag, name_bound
from distsql.oci.signing import signed_by_tags
from distsql.registry.admissions import Admission
from distsql.registry.context import RepositoryService
from distsql.registry.paging import iterate, pages
from distsql.sql import manifests, signatures, tag_pages, tags
from distsql.sql.database import transactional
from distsql.sql.repositories import RepositoryRow
from distsql.sql.tags import TagMoveRow, TagRow, TagTarget
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage
from distsql.values import ANY, Action, Anything, TagMove

_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


class Tags(RepositoryService):
    """`distsql.contract.TagService` over the catalogue."""

    __slots__ = ()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def get(self, tag: str) -> Descriptor:
        """What the tag points to."""
        repository = await self._context.get()
        row = await self.database.pull(tags.find_tag, repository, tag) if is_tag(tag) else None
        if row is None:
            raise self._unknown(tag)
        return Descriptor(row.media_type, row.length, row.digest, artifact_type=row.artifact_type)

    async def list(self, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the live tags behind ``after``."""

        async def fetch(last: str, size: int) -> list[str]:
            names = await self.database.pull(tag_pages.list_tags, self._context.name, after=last, limit=size)
            if names is None:
                raise self._context.unknown()
            return names

        # By pages, for a step of another iterator is a fifth of what a name costs.
        async for page in pages(fetch, str, after=name_bound(after), limit=limit):
            for name in page:
                yield name

    async def lookup(self, digest: Digest, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the live tags on this digest."""
        repository = await self._context.get()

        async def fetch(last: str, size: int) -> list[TagRow]:
            return await self.database.pull(tag_pages.list_tags_of_digest, repository, digest, after=last, limit=size)

        async for row in iterate(fetch, lambda row: row.name, after=name_bound(after), limit=limit):
            yield row.name

    async def history(
        self, tag: str, *, before: datetime | None = None, limit: int | None = None
    ) -> AsyncIterator[TagMove]:
        """What the tag ever pointed to, newest first."""
        repository = await self._context.get()
        if not is_tag(tag):
            return

        async def fetch(last: datetime, size: int) -> list[TagMoveRow]:
            return await self.database.pull(tags.list_tag_moves, repository, tag, before=last, limit=size)

        async for row in iterate(fetch, lambda row: row.valid_from, after=before or _END_OF_TIME, limit=limit):
            yield TagMove(tag, row.digest, row.valid_from, row.valid_to, row.actor, row.ended_by)

    async def resolve(self, tag: str, *, at: datetime) -> Digest | None:
        """What the tag pointed to at that instant."""
        repository = await self._context.get()
        return await self.database.pull(tags.resolve_tag, repository, tag, at=at) if is_tag(tag) else None

    # -- writing ------------------------------------------------------------------------------------------------------

    async def tag(self, tag: str, digest: Digest, expected: Digest | Anything | None = ANY) -> None:
        """Points the tag to a manifest of the repository, if it points to what was expected."""
        repository, admission = await self._context.admit_existing()
        await self._tag(repository, admission, check_tag(tag), digest, expected)

    @transactional
    async def _tag(
        self,
        tx: Transaction,
        repository: RepositoryRow,
        admission: Admission,
        tag: str,
        digest: Digest,
        expected: Digest | Anything | None,
    ) -> None:
        targets = tags.targets([tag], digest=digest, actor=self._context.caller.actor)
        if digest not in await manifests.lock_references(tx, repository, manifests={digest}, blobs=()):
            raise ManifestUnknownError(f"The repository has no manifest {digest}", detail={"digest": str(digest)})
        if expected is None:
            if not await tags.create_tags(tx, repository, targets):
                raise _changed(tag, await tags.lock_tag(tx, repository, tag))
            signatures.point_cosign_tags(tx, repository, [tag], digest=digest)
            add_usage(tx, repository.tenant_id, tags=1)
        else:
            if isinstance(expected, Digest):
                current = await tags.lock_tag(tx, repository, tag)
                if current != expected:
                    raise _changed(tag, current)
            await point(tx, repository, admission, targets)
        self._context.audit(tx, repository.tenant_id, "tag.put", references=[tag], digest=digest)

    async def untag(self, tag: str) -> None:
        """Ends the tag; its manifest stays."""
        repository, admission = await self._context.admit_existing(Action.DELETE)
        if not is_tag(tag):
            raise self._unknown(tag)
        await self._untag(repository, admission, tag)

    @transactional
    async def _untag(self, tx: Transaction, repository: RepositoryRow, admission: Admission, tag: str) -> None:
        digest = await tags.end_tag(tx, repository, tag, actor=self._context.caller.actor)
        if digest is None:
            raise self._unknown(tag)
        admission.check_fixed([tag])
        signatures.delete_cosign_tags(tx, repository, [tag])
        self._context.audit(tx, repository.tenant_id, "tag.delete", references=[tag], digest=digest)
        add_usage(tx, repository.tenant_id, tags=-1)

    def _unknown(self, tag: str) -> TagUnknownError:
        return TagUnknownError(f"{self._context.name} has no tag {tag[:128]!r}", detail={"tag": tag[:128]})


async def point(
    tx: Transaction,
    repository: RepositoryRow,
    admission: Admission,
    targets: Sequence[TagTarget],
    *,
    new_manifests: int = 0,
) -> None:
    """Points each of the tags, none of them twice, and counts what is new: tags, and as many manifests.

    Whether a tag is made or moved is known when its row is locked, and no sooner: an immutable one that has moved takes
    all of it back, by `TagImmutableError`; and cosign's leave something that is no signature any more.
    """
    names = [target.tag for target in targets]
    if not admission.immutable(names) and not signed_by_tags(names):
        tags.point_tags(tx, repository, targets, new_manifests=new_manifests, collecting=admission.collecting)
        return
    moved = await tags.move_tags(tx, repository, targets, new_manifests=new_manifests, collecting=admission.collecting)
    admission.check_fixed(moved)
    for digest, several in groupby(targets, lambda target: target.digest):
        on_it = [target.tag for target in several]
        signatures.point_cosign_tags(tx, repository, on_it, digest=digest, moved=not set(moved).isdisjoint(on_it))


def _changed(tag: str, current: Digest | None) -> TagChangedError:
    return TagChangedError(
        f"The tag {tag} points to {current or 'nothing'}, not to what was expected",
        detail={"tag": tag, "digest": str(current) if current else None},
    )
