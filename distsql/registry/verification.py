"""The catalogue against the bytes, in both directions, while the registry serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from distsql.bytestore.contract import Staged, StoredObject
from distsql.errors import BytesMissingError, ContentCorruptError, DistsqlError
from distsql.oci.digest import Digest, new_hash
from distsql.registry.context import Backend
from distsql.registry.manifests import check_payload
from distsql.registry.orphans import find_orphans
from distsql.registry.throttles import Throttle
from distsql.sql import audit, recounts, stores, verification, verification_runs
from distsql.sql.tables import SERVER_TENANT_ID
from distsql.sql.transactions import Transaction
from distsql.sql.verification import VerifiedBlobRow, VerifiedManifestRow
from distsql.sql.verification_runs import FindingRow, ProgressRow
from distsql.values import Caller

_BLOBS: Final = 200
_MANIFESTS: Final = 20
_SAVE_S: Final = 5
_TOLD: Final = 10
_NOBODY: Final = Caller(actor="verify")

Notify = Callable[[str, int], None]
"""Hears what was verified (``blobs``, ``bytes``, ``manifests``, ``orphans``) and how many of it."""


class VerifyingElsewhereError(DistsqlError):
    """Another process goes on with the verification."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    ``kind`` is ``missing``, ``length``, ``content``, ``payload`` or ``reference`` for damage; ``usage`` for a tenant
    whose use is kept wrong; and ``orphan`` for bytes that no row names. What was ``mended`` is right again; the same
    kind and subject may come once more, when that turns out later.
    """

    kind: str
    subject: str
    explanation: str
    mended: bool = False

    @property
    def damage(self) -> bool:
        """Whether something that was acknowledged can't be had."""
        return self.kind not in {"orphan", "usage"} and not self.mended

    @property
    def wrong(self) -> bool:
        """Whether it is damage, or counted wrongly, and stays so."""
        return self.kind != "orphan" and not self.mended


@dataclass(frozen=True, slots=True)
class _DamagedBlob:
    finding: Finding
    row: VerifiedBlobRow


class Verifier:
    """Reads everything once, and goes on where it was stopped, in whatever process.

    What changes meanwhile is looked at again before it is called damaged. With ``repair`` it mends what it can: blobs
    that a repository lost sight of, bytes under another key, what is kept of tenants' use; and orphans go, all of it
    as ``caller``. ``rate`` is how many bytes a second it reads at most.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        read_bytes: bool,
        grace: timedelta,
        notify: Notify,
        repair: bool = False,
        resume: bool = True,
        rate: int | None = None,
        caller: Caller = _NOBODY,
    ) -> None:
        self._backend = backend
        self._caller = caller
        self._read_bytes = read_bytes
        self._repair = repair
        self._resume = resume
        self._grace = grace
        self._notify = notify
        self._throttle = Throttle(rate)
        self._progress = ProgressRow(0, 0, "blobs", -1, -1, None, 0, 0, 0)
        self._saved_at = time.monotonic()
        self._damaged: dict[tuple[int, Digest], _DamagedBlob] = {}

    async def totals(self) -> dict[str, int]:
        """How much there is to verify: ``blobs``, ``manifests``, and their ``bytes`` if they are read."""
        row = await self._backend.everything.read(verification.count_content)
        return {"blobs": row.blobs, "manifests": row.manifests, "bytes": row.bytes}

    async def findings(self) -> AsyncIterator[Finding]:
        """Everything that is wrong, as it is found; first what was found before it was stopped.

        Raises `VerifyingElsewhereError` when another process goes on with it.
        """
        everything = self._backend.everything
        self._progress = await everything.transact(self._begin)
        remembered = [
            await self._remember(row)
            for row in await everything.read(verification_runs.list_findings, self._progress.id)
        ]
        self._mend_what_was_only_found(remembered)
        for what in ("blobs", "bytes", "manifests"):
            if done := getattr(self._progress, what):
                self._notify(what, done)
        for finding in remembered:
            yield finding
        phases = {
            "blobs": self._verify_blobs,
            "manifests": self._verify_manifests,
            "usage": self._verify_usage,
            "orphans": self._verify_orphans,
        }
        names = list(phases)
        for name in names[names.index(self._progress.phase) :] if self._progress.phase in phases else ():
            self._progress = self._progress._replace(phase=name)
            async for finding in phases[name]():
                yield finding
            following = names[names.index(name) + 1] if name != names[-1] else "done"
            await self._save(phase=following, after_tenant_id=-1, after_repository_id=-1, after_digest=None)

    async def _begin(self, tx: Transaction) -> ProgressRow:
        if self._repair:
            self._audit(tx, SERVER_TENANT_ID, "verify.repair")
        return await verification_runs.begin_verification(tx, read_bytes=self._read_bytes, resume=self._resume)

    def _audit(
        self,
        tx: Transaction,
        tenant_id: int,
        action: str,
        *,
        repository: str | None = None,
        references: Sequence[str | None] = (None,),
        digest: Digest | None = None,
    ) -> None:
        audit.insert_audit_events(
            tx, tenant_id, action, caller=self._caller, repository=repository, references=references, digest=digest
        )

    async def _remember(self, row: FindingRow) -> Finding:
        """What was found before; of a blob whose bytes may be found elsewhere, still."""
        finding = Finding(row.kind, row.subject, row.explanation, row.mended)
        if row.blob_tenant_id is not None and row.digest is not None and not row.mended:
            blob = await self._backend.everything.read(
                verification.find_live_blob, row.blob_tenant_id, Digest(row.digest)
            )
            if blob is not None:
                self._damaged[blob.tenant_id, blob.digest] = _DamagedBlob(finding, blob)
        return finding

    def _mend_what_was_only_found(self, remembered: Sequence[Finding]) -> None:
        """A repair goes back behind the blobs, whose bytes take the time, if one that only looked found more there."""
        left = any(not each.mended and each.kind in {"reference", "usage"} for each in remembered)
        if self._repair and left and self._progress.phase != "blobs":
            self._progress = self._progress._replace(
                phase="manifests", after_tenant_id=-1, after_repository_id=-1, after_digest=None, manifests=0
            )

    # -- progress -----------------------------------------------------------------------------------------------------

    async def _save(self, **changes: Any) -> None:
        self._progress = self._progress._replace(**changes)
        version = await self._backend.everything.transact(
            partial(verification_runs.save_verification, progress=self._progress)
        )
        if version is None:
            raise VerifyingElsewhereError("Another process goes on with this verification: leave it to that one")
        self._progress = self._progress._replace(version=version)
        self._saved_at = time.monotonic()

    async def _advance(self, **changes: Any) -> None:
        """As `_save`, now and then."""
        self._progress = self._progress._replace(**changes)
        if time.monotonic() > self._saved_at + _SAVE_S:
            await self._save()

    async def _found(self, finding: Finding, blob: VerifiedBlobRow | None = None) -> Finding:
        row = FindingRow(
            finding.kind,
            finding.subject,
            finding.explanation,
            finding.mended,
            blob.tenant_id if blob else None,
            blob.digest.packed if blob else None,
        )

        async def remember(tx: Transaction) -> None:
            await verification_runs.insert_finding(tx, verification_id=self._progress.id, finding=row)
            if finding.kind == "orphan" and finding.mended:
                self._audit(tx, SERVER_TENANT_ID, "orphan.delete", references=[finding.subject])

        await self._backend.everything.transact(remember)
        if blob is not None and not finding.mended:
            self._damaged[blob.tenant_id, blob.digest] = _DamagedBlob(finding, blob)
        return finding

    # -- what tenants use ---------------------------------------------------------------------------------------------

    async def _verify_usage(self) -> AsyncIterator[Finding]:
        everything = self._backend.everything
        uses = await (everything.transact(self._mend_uses) if self._repair else everything.read(recounts.list_uses))
        for row in uses:
            if row.counted != row.found:
                kept, found = (", ".join(map(str, use)) for use in (row.counted, row.found))
                mended = ": mended" if self._repair else ": mend it by --repair"
                explanation = f"kept are {kept} bytes, repositories, manifests and tags, there are {found}{mended}"
                yield await self._found(Finding("usage", row.tenant, explanation, self._repair))

    async def _mend_uses(self, tx: Transaction) -> Sequence[recounts.TenantRecount]:
        wrong = await recounts.mend_uses(tx)
        if wrong:
            self._audit(tx, SERVER_TENANT_ID, "usage.mend", references=[row.tenant for row in wrong])
        return wrong

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def _verify_blobs(self) -> AsyncIterator[Finding]:
        read = self._backend.everything.read
        after = self._progress.after_tenant_id, self._progress.after_digest or b""
        while page := await read(verification.list_live_blobs, after=after, limit=_BLOBS):
            for blob in page:
                finding = await self._verify_blob(blob)
                if finding and await read(verification.find_live_blob, blob.tenant_id, blob.digest) == blob:
                    yield await self._found(finding, blob)
                after = blob.tenant_id, blob.digest.packed
                self._notify("blobs", 1)
                await self._advance(after_tenant_id=after[0], after_digest=after[1], blobs=self._progress.blobs + 1)

    async def _mark_lost(self, blob: VerifiedBlobRow) -> None:
        """So that nobody is given damaged bytes, and clients don't take the blob for being there when they push it."""

        async def mark(tx: Transaction) -> None:
            stores.mark_bytes_lost(tx, blob.tenant_id, blob.digest, store_key=blob.store_key)
            self._audit(tx, blob.tenant_id, "blob.lost", references=[blob.store_key], digest=blob.digest)

        if self._repair:
            await self._backend.everything.transact(mark)

    async def _verify_blob(self, blob: VerifiedBlobRow) -> Finding | None:
        subject = f"{blob.tenant} {blob.digest}"
        length = await self._backend.store.length(blob.store_key)
        if length is None:
            return Finding("missing", subject, f"the store has no bytes under {blob.store_key}")
        if length != blob.length:
            return Finding("length", subject, f"the store has {length} of {blob.length} bytes under {blob.store_key}")
        if self._read_bytes and (found := await self._digest(blob.store_key, blob.length, blob.digest)) != blob.digest:
            return Finding("content", subject, f"the bytes under {blob.store_key} have the digest {found}")
        return None

    async def _digest(self, store_key: str, length: int, like: Digest) -> Digest | None:
        hasher = new_hash(like.algorithm)
        try:
            async for piece in self._backend.store.stream(store_key, 0, length):
                await self._throttle.take(len(piece))
                await asyncio.to_thread(hasher.update, piece)
                self._notify("bytes", len(piece))
                self._progress = self._progress._replace(bytes=self._progress.bytes + len(piece))
        except BytesMissingError:
            return None
        return Digest.from_hash(hasher)

    # -- manifests ----------------------------------------------------------------------------------------------------

    async def _verify_manifests(self) -> AsyncIterator[Finding]:
        read, at = self._backend.everything.read, self._progress
        after = at.after_tenant_id, at.after_repository_id, at.after_digest or b""
        while page := await read(verification.list_all_manifests, after=after, limit=_MANIFESTS):
            for manifest in page:
                async for finding in self._verify_manifest(manifest):
                    yield await self._found(finding)
            self._notify("manifests", len(page))
            last = page[-1]
            after = (last.tenant_id, last.repository_id, last.digest.packed)
            await self._advance(
                after_tenant_id=after[0],
                after_repository_id=after[1],
                after_digest=after[2],
                manifests=self._progress.manifests + len(page),
            )

    async def _verify_manifest(self, row: VerifiedManifestRow) -> AsyncIterator[Finding]:
        subject = f"{row.repository}@{row.digest}"
        try:
            check_payload(row.digest, row.media_type, row.payload)
        except ContentCorruptError as error:
            yield Finding("payload", subject, str(error))
        everything = self._backend.everything
        missing = await everything.read(
            verification.list_missing_references, row.tenant_id, row.repository_id, row.digest
        )
        linked = {
            each.digest
            for each in (missing if self._repair else ())
            if await everything.transact(partial(self._relink_layer, row=row, digest=each.digest))
        }
        left = [each for each in missing if each.digest not in linked]
        if missing:
            told = ", ".join(f"{each.role} {each.digest}" for each in (left or missing)[:_TOLD])
            more = "" if len(left) <= _TOLD else f" and {len(left) - _TOLD} more"
            mended = "" if left else ": mended, the tenant has it"
            yield Finding("reference", subject, f"its {told}{more} is not in the repository{mended}", not left)

    async def _relink_layer(self, tx: Transaction, *, row: VerifiedManifestRow, digest: Digest) -> bool:
        linked = await verification_runs.relink_layer(
            tx, tenant_id=row.tenant_id, repository_id=row.repository_id, digest=digest
        )
        if linked:
            self._audit(tx, row.tenant_id, "blob.relink", repository=row.repository, digest=digest)
        return linked

    # -- bytes that no row names --------------------------------------------------------------------------------------

    async def _verify_orphans(self) -> AsyncIterator[Finding]:
        async for orphan in find_orphans(self._backend, grace=self._grace):
            self._notify("orphans", 1)
            damaged = await self._relink(orphan) if self._repair and orphan.complete else None
            if damaged is not None:
                explanation = f"{damaged.finding.explanation}: mended, they are under {orphan.key}"
                self._damaged.pop((damaged.row.tenant_id, damaged.row.digest))
                yield await self._found(
                    Finding(damaged.finding.kind, damaged.finding.subject, explanation, mended=True), damaged.row
                )
                continue
            if self._repair:
                store = self._backend.store
                await (store.delete(orphan.key) if orphan.complete else store.abort(Staged(orphan.key)))
            done = ": removed" if self._repair else ""
            explanation = f"{orphan.length} bytes in the store that no row names{done}"
            yield await self._found(Finding("orphan", orphan.key, explanation, self._repair))
        for lasting in self._damaged.values():
            await self._mark_lost(lasting.row)

    async def _relink(self, orphan: StoredObject) -> _DamagedBlob | None:
        """The blob whose bytes these are, if there is one that lost its own: it has them now."""
        for damaged in list(self._damaged.values()):
            row = damaged.row
            if row.length == orphan.length and await self._digest(orphan.key, row.length, row.digest) == row.digest:
                relink = partial(self._relink_bytes, row=row, found_key=orphan.key)
                if await self._backend.everything.transact(relink):
                    return damaged
        return None

    async def _relink_bytes(self, tx: Transaction, *, row: VerifiedBlobRow, found_key: str) -> bool:
        found = await verification_runs.relink_bytes(
            tx, tenant_id=row.tenant_id, digest=row.digest, store_key=row.store_key, found_key=found_key
        )
        if found:
            self._audit(tx, row.tenant_id, "blob.mend", references=[found_key], digest=row.digest)
        return found
