"""Signatures of one repository's manifests, and what the namespace knows of trust."""

from __future__ import annotations

from collections.abc import Sequence

from distsql.errors import ManifestUnknownError
from distsql.oci.digest import Digest
from distsql.registry.context import RepositoryService
from distsql.sql import manifests, signatures
from distsql.sql.database import transactional
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction


class Signatures(RepositoryService):
    """`distsql.contract.SignatureService` over the catalogue."""

    __slots__ = ()

    async def get(self, digest: Digest) -> Sequence[bytes]:
        """Every signature of the manifest, in the order of arrival."""
        repository = await self._context.get()
        return [row.payload for row in await self.database.pull(signatures.list_signatures, repository, digest)]

    async def put(self, digest: Digest, *payloads: bytes) -> None:
        """Adds signatures to the manifest."""
        repository, _ = await self._context.admit_existing()
        await self._put(repository, digest, payloads)

    @transactional
    async def _put(self, tx: Transaction, repository: RepositoryRow, digest: Digest, payloads: Sequence[bytes]) -> None:
        if digest not in await manifests.lock_references(tx, repository, manifests={digest}, blobs=()):
            raise ManifestUnknownError(f"The repository has no manifest {digest}", detail={"digest": str(digest)})
        signatures.insert_signatures(tx, repository, digest, payloads)
        self._context.audit(tx, repository.tenant_id, "signature.put", digest=digest)
