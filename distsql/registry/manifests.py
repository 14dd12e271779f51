"""The manifests of one repository."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple

from distsql import contract
from distsql.errors import (
    ContentCorruptError,
    DigestInvalidError,
    InUseError,
    ManifestUnknownError,
    NameInvalidError,
    ReferenceInvalidError,
    RegistryError,
    TagUnknownError,
    TooManyTagsError,
)
from distsql.oci.descriptor import NO_ANNOTATIONS, Descriptor
from distsql.oci.digest import Digest
from distsql.oci.jws import verify_signatures
from distsql.oci.manifest import SCHEMA1, ParsedManifest, Role, parse
from distsql.oci.manifest.image_config import IMAGE_CONFIGS
from distsql.oci.names import RepositoryName, check_tag, is_tag
from distsql.registry import paging
from distsql.registry.admissions import Admission
from distsql.registry.context import RepositoryService
from distsql.registry.pushes import Push, admit_pushes, write_pushes
from distsql.registry.tags import Tags
from distsql.sql import (
    manifest_deletions,
    manifest_marks,
    manifests,
    promises,
    referrers,
    signatures,
)
from distsql.sql.database import transactional
from distsql.sql.manifests import FoundManifestRow, ManifestRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.usage import add_usage
from distsql.values import Action

MAX_TAGS: Final = 100


class StoredManifest(NamedTuple):
    """A manifest as the catalogue has it. What is inside the payload is read only when it is asked for."""

    media_type: str
    payload: bytes
    digest: Digest

    def _parsed(self) -> ParsedManifest:
        return parse(self.payload, self.media_type, self.digest)

    @property
    def subject(self) -> Descriptor | None:
        """What the manifest says something about."""
        return self._parsed().subject

    @property
    def annotations(self) -> Mapping[str, str]:
        """The manifest's own annotations."""
        return self._parsed().annotations

    @property
    def artifact_type(self) -> str | None:
        """As written, else the config's media type for an image."""
        return self._parsed().artifact_type

    def references(self) -> Sequence[Descriptor]:
        """Everything that the manifest needs."""
        return self._parsed().references()


class Manifests(RepositoryService):
    """`distsql.contract.ManifestService` over the catalogue."""

    __slots__ = ()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def exists(self, digest: Digest) -> bool:
        """Whether the repository has the manifest."""
        return await self._find(digest) is not None

    async def get(self, digest: Digest) -> StoredManifest:
        """The manifest, checked against its digest."""
        row = await self._find(digest)
        if row is None:
            await self._context.get()
            raise _unknown(digest)
        return _checked(row)

    async def exists_by_tag(self, tag: str) -> bool:
        """Whether there is a live tag of this name."""
        return await self._find_tagged(tag) is not None

    async def get_by_tag(self, tag: str) -> StoredManifest:
        """The manifest that the tag points to, in one read."""
        row = await self._find_tagged(tag)
        if row is None:
            await self._context.get()
            raise TagUnknownError(f"{self._context.name} has no tag {tag[:128]!r}", detail={"tag": tag[:128]})
        return _checked(row)

    async def _find(self, digest: Digest) -> FoundManifestRow | None:
        """The manifest, which stays for as long as it takes to push what refers to it."""
        fresh = self._context.backend.fresh
        row = await self.database.pull(manifests.find_manifest, self._context.name, digest, fresh=fresh)
        return None if row is None or (row.doubtful and not await self._promise(digest)) else row

    async def _promise(self, digest: Digest) -> bool:
        """Whether it is there for the grace from now on: who asks may push an index that needs it.

        A write once in a good part of the grace, and only for what nothing holds.
        """
        repository = await self._context.find()
        if repository is None or self._context.backend.read_only:  # nobody pushes
            return repository is not None
        held = await self.database.read(promises.find_hold, repository, digest)
        return held is True or (held is False and await self._promise_manifest(repository, digest))

    @transactional
    async def _promise_manifest(self, tx: Transaction, repository: RepositoryRow, digest: Digest) -> bool:
        return await promises.promise_manifest(tx, repository, digest)

    async def _find_tagged(self, tag: str) -> ManifestRow | None:
        if not is_tag(tag):
            return None
        return await self.database.pull(manifests.find_tagged_manifest, self._context.name, tag)

    async def all(self, *, after: Digest | None = None) -> AsyncIterator[StoredManifest]:
        """Every manifest, in the order of its digest."""
        repository = await self._context.get()

        # Payloads may be megabytes: few at a time.
        while page := await self.database.pull(manifests.list_manifests, repository, after=after, limit=20):
            for row in page:
                yield _checked(row)
            after = page[-1].digest

    async def referrers(
        self, digest: Digest, *, artifact_type: str | None = None, after: Digest | None = None, limit: int | None = None
    ) -> AsyncIterator[Descriptor]:
        """Manifests with this subject, in the order of their digests."""
        left = limit
        while left is None or left > 0:
            size = paging.PAGE if left is None else min(paging.PAGE, left)
            page = await self.database.pull(
                referrers.list_referrers,
                self._context.name,
                digest,
                artifact_type=artifact_type,
                after=after,
                limit=size,
            )
            told = [row for row in page if not row.beyond]
            for found, media_type, length, kind, shown, _ in told:
                yield Descriptor(media_type, length, found, kind, None, shown or NO_ANNOTATIONS)
            if len(told) < len(page):
                size = len(told)
            elif len(page) < size:
                return
            after, left = told[-1].digest, None if left is None else left - size

    def tags(self) -> AsyncIterator[str]:
        """Names of all live tags."""
        return Tags(self._context).list()

    # -- writing ------------------------------------------------------------------------------------------------------

    async def put(self, manifest: contract.Manifest, tags: Sequence[str] = ()) -> Digest:
        """Creates or updates the manifest with all its tags, or nothing of that."""
        parsed = (
            manifest
            if isinstance(manifest, ParsedManifest)
            else parse(manifest.payload, manifest.media_type, manifest.digest)
        )
        names = sorted({check_tag(tag) for tag in tags})
        _check_declared(parsed, self._context.name, names)
        if len(names) > MAX_TAGS:
            raise TooManyTagsError(f"{len(names)} tags in one push: at most {MAX_TAGS} are taken")
        if parsed.signatures:
            await asyncio.to_thread(verify_signatures, parsed)  # public keys take their time
        # One without a tag that was there already may be about to be collected: it is pushed again, or promised.
        while not await self._put(parsed, names) and not names and not await self.exists(parsed.digest):
            pass  # or its repository was removed, and the name is another's now
        if parsed.config_media_type in IMAGE_CONFIGS:
            self._look_into_config(parsed)
        return parsed.digest

    def _look_into_config(self, manifest: ParsedManifest) -> None:
        labels = self._context.backend.image_labels
        config = next((part.descriptor for part in manifest.parts if part.role is Role.CONFIG), None)
        if labels is not None and config is not None:
            labels.add(self._context.name.tenant, config.digest)

    async def _put(self, manifest: ParsedManifest, names: Sequence[str]) -> bool:
        """Whether it is new."""
        push = Push(self._context, manifest, names)
        pushes, length = self._context.backend.pushes, len(manifest.payload)
        return await pushes.write(push.place, push, self._write_together, key=manifest.digest, length=length)

    async def _write_together(self, pushes: Sequence[Push]) -> list[bool]:
        return await self._write(pushes, await admit_pushes(pushes))

    @transactional
    async def _write(self, tx: Transaction, pushes: Sequence[Push], admission: Admission) -> list[bool]:
        return await write_pushes(tx, pushes, admission)

    async def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Removes the manifest and every tag on it."""
        repository, admission = await self._context.admit_existing(Action.DELETE)
        await self._delete(repository, admission, digest, force=force)

    @transactional
    async def _delete(
        self, tx: Transaction, repository: RepositoryRow, admission: Admission, digest: Digest, *, force: bool
    ) -> None:
        actor = self._context.caller.actor
        place = await manifest_marks.lock_manifest(tx, repository, digest)
        if place is None:
            raise _unknown(digest)
        parent = None if force else await manifests.find_parent(tx, repository, digest)
        if parent is not None:
            raise InUseError(
                f"The index {parent} still has {digest} as a child: delete the index first, or force it",
                detail={"digest": str(digest), "referrer": str(parent)},
            )
        names = await manifest_marks.mark_manifest_deleted(tx, repository, digest, place=place, actor=actor)
        admission.check_fixed(names)
        signatures.delete_cosign_tags(tx, repository, names)
        manifest_deletions.delete_references(tx, repository, digest)
        self._context.audit(tx, repository.tenant_id, "manifest.delete", references=names or (None,), digest=digest)
        add_usage(tx, repository.tenant_id, manifests=-1, tags=-len(names))


def _check_declared(manifest: ParsedManifest, name: RepositoryName, tags: Sequence[str]) -> None:
    """A schema 1 manifest says which repository and tag it is: those of the push, where it says anything."""
    declared = manifest.declared_name
    if declared and RepositoryName.parse(declared) != name:
        raise NameInvalidError(
            f"The manifest says that it is of {declared}, and is pushed to {name}", detail={"name": declared}
        )
    others = [tag for tag in tags if manifest.declared_tag and tag != manifest.declared_tag]
    if others:
        raise ReferenceInvalidError(
            f"The manifest says that its tag is {(manifest.declared_tag or '')[:128]!a}, and is pushed as {others[0]}",
            detail={"tag": others[0]},
        )


def _checked(row: ManifestRow | FoundManifestRow) -> StoredManifest:
    check_payload(row.digest, row.media_type, row.payload)
    return StoredManifest(row.media_type, row.payload, row.digest)


def check_payload(digest: Digest, media_type: str, payload: bytes) -> None:
    """Raises `ContentCorruptError` unless the payload has the digest; for schema 1, without its signatures."""
    if digest.verifies(payload):
        return
    try:
        if media_type not in SCHEMA1:
            raise DigestInvalidError("not its content")
        parse(payload, media_type, digest)
    except RegistryError as error:
        raise ContentCorruptError(
            f"The catalogue's payload of {digest} is damaged: delete the manifest and push it again"
        ) from error


def _unknown(digest: Digest) -> ManifestUnknownError:
    return ManifestUnknownError(f"The repository has no manifest {digest}", detail={"digest": str(digest)})
