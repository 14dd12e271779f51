"""The catalogue against the bytes, in both directions, while the registry serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from distsql.errors import BytesMissingError, ContentCorruptError
from distsql.oci.digest import Digest, new_hash
from distsql.registry.context import Backend
from distsql.registry.manifests import check_payload
from distsql.registry.orphans import find_orphans
from distsql.sql import recounts, verification
from distsql.sql.verification import VerifiedBlobRow, VerifiedManifestRow

_BLOBS: Final = 200
_MANIFESTS: Final = 20

Notify = Callable[[str, int], None]
"""Hears what was verified (``blobs``, ``manifests``, ``orphans``) and how many of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    ``kind`` is ``missing``, ``length``, ``content``, ``payload`` or ``reference`` for damage; ``usage`` for a tenant
    whose use is kept wrong, which can be mended; and ``orphan`` for bytes that no row names, which garbage collection
    takes.
    """

    kind: str
    subject: str
    explanation: str

    @property
    def damage(self) -> bool:
        """Whether something that was acknowledged can't be had any more."""
        return self.kind not in {"orphan", "usage"}


class Verifier:
    """Reads everything once. What changes meanwhile is looked at again before it is called damaged."""

    def __init__(
        self, backend: Backend, *, read_bytes: bool, grace: timedelta, notify: Notify, repair: bool = False
    ) -> None:
        self._backend = backend
        self._read_bytes = read_bytes
        self._repair = repair
        self._grace = grace
        self._notify = notify

    async def count(self) -> int:
        """How many blobs there are to verify."""
        return await self._backend.everything.read(verification.count_live_blobs)

    async def findings(self) -> AsyncIterator[Finding]:
        """Everything that is wrong, as it is found."""
        async for finding in self._verify_blobs():
            yield finding
        async for finding in self._verify_manifests():
            yield finding
        async for finding in self._verify_usage():
            yield finding
        async for orphan in find_orphans(self._backend, grace=self._grace):
            self._notify("orphans", 1)
            yield Finding("orphan", orphan.key, f"{orphan.length} bytes in the store that no row names")

    # -- what tenants use ---------------------------------------------------------------------------------------------

    async def _verify_usage(self) -> AsyncIterator[Finding]:
        everything = self._backend.everything
        uses = await (everything.transact(recounts.mend_uses) if self._repair else everything.read(recounts.list_uses))
        for row in uses:
            if row.counted != row.found:
                kept, found = (", ".join(map(str, use)) for use in (row.counted, row.found))
                mended = ": mended" if self._repair else ": mend it by --repair"
                explanation = f"kept are {kept} bytes, repositories, manifests and tags, there are {found}{mended}"
                yield Finding("usage", row.tenant, explanation)

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def _verify_blobs(self) -> AsyncIterator[Finding]:
        read, after = self._backend.everything.read, (-1, b"")
        while page := await read(verification.list_live_blobs, after=after, limit=_BLOBS):
            for blob in page:
                finding = await self._verify_blob(blob)
                if finding and await read(verification.find_live_blob, blob.tenant_id, blob.digest) == blob:
                    yield finding
            self._notify("blobs", len(page))
            after = (page[-1].tenant_id, page[-1].digest.packed)

    async def _verify_blob(self, blob: VerifiedBlobRow) -> Finding | None:
        subject = f"{blob.tenant} {blob.digest}"
        length = await self._backend.store.length(blob.store_key)
        if length is None:
            return Finding("missing", subject, f"the store has no bytes under {blob.store_key}")
        if length != blob.length:
            return Finding("length", subject, f"the store has {length} of {blob.length} bytes under {blob.store_key}")
        if self._read_bytes and (found := await self._digest(blob)) != blob.digest:
            return Finding("content", subject, f"the bytes under {blob.store_key} have the digest {found}")
        return None

    async def _digest(self, blob: VerifiedBlobRow) -> Digest | None:
        hasher = new_hash(blob.digest.algorithm)
        try:
            async for piece in self._backend.store.stream(blob.store_key, 0, blob.length):
                await asyncio.to_thread(hasher.update, piece)
        except BytesMissingError:
            return None
        return Digest.from_hash(hasher)

    # -- manifests ----------------------------------------------------------------------------------------------------

    async def _verify_manifests(self) -> AsyncIterator[Finding]:
        read, after = self._backend.everything.read, (-1, -1, b"")
        while page := await read(verification.list_all_manifests, after=after, limit=_MANIFESTS):
            for manifest in page:
                async for finding in self._verify_manifest(manifest):
                    yield finding
            self._notify("manifests", len(page))
            last = page[-1]
            after = (last.tenant_id, last.repository_id, last.digest.packed)

    async def _verify_manifest(self, row: VerifiedManifestRow) -> AsyncIterator[Finding]:
        subject = f"{row.repository}@{row.digest}"
        try:
            check_payload(row.digest, row.media_type, row.payload)
        except ContentCorruptError as error:
            yield Finding("payload", subject, str(error))
        missing = await self._backend.everything.read(
            verification.list_missing_references, row.tenant_id, row.repository_id, row.digest
        )
        for reference in missing:
            yield Finding("reference", subject, f"its {reference.role} {reference.digest} is not in the repository")
