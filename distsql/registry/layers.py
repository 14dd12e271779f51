"""The blobs of one repository: reading, mounting, deleting. Uploading is next door."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID, uuid4

from distsql.bytestore.contract import Staged
from distsql.errors import BlobUnknownError, InUseError, UploadUnknownError
from distsql.oci.digest import SHA256, Digest, new_hash
from distsql.oci.names import RepositoryName
from distsql.registry.admissions import Admission
from distsql.registry.context import RepositoryService
from distsql.registry.stored_layer import StoredLayer
from distsql.registry.uploads import Upload
from distsql.sql import layers, manifests, promises, uploads
from distsql.sql.database import transactional
from distsql.sql.layers import BlobRow
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.uploads import UploadRow
from distsql.values import Action


class Layers(RepositoryService):
    """`distsql.contract.LayerService` over the catalogue and a byte store."""

    __slots__ = ()

    async def exists(self, digest: Digest) -> bool:
        """Whether the repository has the blob, and a manifest may refer to it for the grace from now on."""
        return await self._promise(digest) is not None

    async def fetch(self, digest: Digest, *, promised: bool = False) -> StoredLayer:
        """The blob, ready to be read; ``promised`` if a manifest may refer to it for the grace from now on."""
        context = self._context
        row = await (self._promise(digest) if promised else self.database.pull(layers.find_layer, context.name, digest))
        if row is None:
            if not promised:  # before a push it makes no difference what isn't there, and each push asks
                await context.get()
            raise _unknown(digest)
        return StoredLayer(context.backend, row, promise=None if promised else self.exists)

    async def _promise(self, digest: Digest) -> BlobRow | None:
        """A write once in a good part of the grace, and only for content that nothing refers to."""
        context = self._context
        row = await self.database.pull(promises.find_layer_risk, context.name, digest, fresh=context.backend.fresh)
        if row is None or (row.at_risk and not await self._renew(digest)):
            return None
        return row.blob

    async def _renew(self, digest: Digest) -> bool:
        """Whether it is there for the grace from now on."""
        repository = await self._context.find()
        if repository is None or self._context.backend.read_only:  # nobody pushes
            return repository is not None
        return await self._renew_layer(repository, digest)

    @transactional
    async def _renew_layer(self, tx: Transaction, repository: RepositoryRow, digest: Digest) -> bool:
        return await promises.renew_layer(tx, repository, digest)

    async def upload(self, algorithm: str = SHA256) -> Upload:
        """Begins an upload session."""
        new_hash(algorithm)
        admission = await self._context.admit()
        store = await self._context.backend.store_named(admission.store)
        staged = await store.begin()
        return Upload(self._context, await self._begin(admission, algorithm, staged), store, begun_here=True)

    @transactional
    async def _begin(self, tx: Transaction, admission: Admission, algorithm: str, staged: Staged) -> UploadRow:
        context = self._context
        repository = await context.ensure(tx, admission)
        uuid = uuid4()
        context.audit(tx, repository.tenant_id, "upload.begin", references=[str(uuid)])
        return await uploads.insert_upload(
            tx,
            repository,
            uuid,
            algorithm=algorithm,
            store_key=staged.key,
            store_state=staged.state,
            uploader=context.uploader,
            lifetime=context.backend.upload_lifetime,
        )

    async def resume(self, uuid: UUID) -> Upload:
        """Goes on with a session that any process began."""
        context = self._context
        row = await self.database.read(uploads.find_upload, context.name, uuid, uploader=context.uploader)
        if row is None:
            raise UploadUnknownError(f"There is no upload {uuid} in {self._context.name}: begin a new one")
        return Upload(self._context, row, await self._context.backend.store_of(row.store_key))

    async def mount(self, digest: Digest, source: str | None = None) -> StoredLayer:
        """Makes a blob of another repository of the tenant appear in this one."""
        authority, path = self._context.caller.authority, None
        source_ids = authority.readable_ids
        if source is not None:
            name = RepositoryName.parse(source)
            if name.tenant != self._context.name.tenant or not authority.allows(name, Action.PULL):
                raise _unknown(digest)
            path, only_id = name.path, authority.repository_id(name)
            source_ids = None if only_id is None else [only_id]
        admission = await self._context.admit()
        if admission.tenant_id is None:
            raise _unknown(digest)
        row = await self._mount(admission, admission.tenant_id, digest, path, source_ids)
        return StoredLayer(self._context.backend, row)

    @transactional
    async def _mount(
        self,
        tx: Transaction,
        admission: Admission,
        tenant_id: int,
        digest: Digest,
        path: str | None,
        ids: Collection[int] | None,
    ) -> BlobRow:
        row = await layers.lock_mountable_blob(tx, tenant_id, digest, source_path=path, source_ids=ids)
        if row is None:
            raise _unknown(digest)
        repository = await self._context.ensure(tx, admission)
        layers.insert_layer(tx, repository, digest, length=row.length)
        self._context.audit(tx, tenant_id, "blob.mount", references=[path], digest=digest)
        return row

    async def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Takes the blob out of this repository."""
        repository, _ = await self._context.admit_existing(Action.DELETE)
        await self._delete(repository, digest, force=force)

    @transactional
    async def _delete(self, tx: Transaction, repository: RepositoryRow, digest: Digest, *, force: bool) -> None:
        if not await layers.lock_layer(tx, repository, digest):
            raise _unknown(digest)
        parent = None if force else await manifests.find_parent(tx, repository, digest)
        if parent is not None:
            raise InUseError(
                f"The manifest {parent} still needs {digest}: delete the manifest first, or force it",
                detail={"digest": str(digest), "referrer": str(parent)},
            )
        layers.delete_layer(tx, repository, digest)
        self._context.audit(tx, repository.tenant_id, "blob.delete", digest=digest)


def _unknown(digest: Digest) -> BlobUnknownError:
    return BlobUnknownError(f"The repository has no blob {digest}", detail={"digest": str(digest)})
