"""What a deletion would free, keep and break: asked before it, and told by who refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distsql.errors import NameUnknownError, TenantUnknownError
from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName, parse_reference
from distsql.sql import deletion_effects, repositories
from distsql.sql.database import Database, transactional
from distsql.sql.deletion_effects import UNTAGGED_KEPT, EffectRow
from distsql.sql.transactions import Transaction


@dataclass(frozen=True, slots=True)
class DeletionEffects:
    """Everything that a deletion would do, as it is in one snapshot."""

    rows: Sequence[EffectRow]

    @property
    def freed_bytes(self) -> int:
        """Of blobs that nothing needs any more; they go when they can't be restored any more."""
        return sum(row.length or 0 for row in self.rows if row.effect == "freed")

    @property
    def kept(self) -> Sequence[EffectRow]:
        """What somebody else needs."""
        return [row for row in self.rows if row.effect == "kept"]

    @property
    def left_untagged(self) -> int:
        """Manifests that lose their last tag and stay, as nobody said `--untagged collect`."""
        return sum(row.because_of == UNTAGGED_KEPT for row in self.rows)

    @property
    def broken(self) -> Sequence[EffectRow]:
        """Indexes that would lack a child, and referrers that would lack their subject."""
        return [row for row in self.rows if row.effect == "broken"]


class DeletionPreviews:
    """Deletions that aren't done."""

    __slots__ = ("database",)

    def __init__(self, database: Database) -> None:
        self.database = database

    @transactional
    async def what_if_delete(self, tx: Transaction, name: str, *references: str) -> DeletionEffects:
        """What deleting this would do: a tenant, ``tenant/repository``, or of a repository these tags and digests.

        Raises `TenantUnknownError`, `NameInvalidError`, `NameUnknownError`, `DigestInvalidError`,
        `ReferenceInvalidError`.
        """
        if "/" not in name:
            tenant_id = await repositories.find_tenant(tx, name)
            if tenant_id is None:
                raise TenantUnknownError(f"There is no tenant {name[:80]!r}")
            return DeletionEffects(await deletion_effects.list_tenant_deletion_effects(tx, tenant_id))
        parsed = [parse_reference(reference) for reference in references]
        repository = await repositories.find_repository(tx, RepositoryName.parse(name))
        if repository is None:
            raise NameUnknownError(f"There is no repository {name}", detail={"name": name})
        if not parsed:
            return DeletionEffects(await deletion_effects.list_repository_deletion_effects(tx, repository))
        return DeletionEffects(
            await deletion_effects.list_deletion_effects(
                tx,
                repository,
                tags=[each for each in parsed if isinstance(each, str)],
                digests=[each for each in parsed if isinstance(each, Digest)],
            )
        )
