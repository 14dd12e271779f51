"""What a deletion would free, keep and break: the database's functions, which reports ask too. Statements.

Deleting a tag leaves its manifest untagged: it is kept, or where untagged manifests are collected it goes with the
garbage, and so does what nothing needs any more; then what is freed counts all of that. Sizes are blobs' bytes: a
manifest's payload counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Function, TableValuedAlias, Text, column, func, select

from distsql.oci.digest import Digest
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGESTS, REPOSITORY_ID, TENANT_ID, parameter, statement
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType

UNTAGGED_KEPT: Final = "untagged manifests are kept"
"""Why a manifest is kept that has no tag any more."""


class EffectRow(NamedTuple):
    """What happens to a blob or a manifest, and because of whom.

    ``effect`` is ``freed``, ``kept`` or ``broken``; ``kind`` is ``blob`` or ``manifest``, of what is broken ``index``
    or ``referrer``. ``length`` is a blob's. ``because_of`` is a repository, ``repository:tag`` or
    ``repository@digest``: who keeps it, or what is missing to it then; of a manifest that loses its last tag and stays,
    that untagged manifests are kept.
    """

    effect: str
    kind: str
    digest: Digest
    length: int | None
    because_of: str | None


_TAGS: Final = parameter("tags", ARRAY(Text(collation="C")))


def _effects(called: Function[Any]) -> TableValuedAlias:
    return called.table_valued(
        column("effect", Text()),
        column("kind", Text()),
        column("digest", DigestType()),
        column("length", BigInteger()),
        column("because_of", Text()),
        name="effects",
    )


_some = _effects(func.deletion_effects(TENANT_ID, REPOSITORY_ID, _TAGS, DIGESTS))
_repository = _effects(func.repository_deletion_effects(TENANT_ID, REPOSITORY_ID))
_tenant = _effects(func.tenant_deletion_effects(TENANT_ID))

LIST_DELETION_EFFECTS: Final = statement(
    "list_deletion_effects",
    "What deleting some tags and manifests of a repository would free, keep and break.",
    select(*_some.c).order_by(_some.c.effect, _some.c.kind, _some.c.digest),
    EffectRow,
)


async def list_deletion_effects(
    tx: Transaction, repository: RepositoryRow, *, tags: Sequence[str] = (), digests: Sequence[Digest] = ()
) -> list[EffectRow]:
    """What happens when the tags end and the manifests are deleted, needed or not."""
    return await tx.all(
        LIST_DELETION_EFFECTS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        tags=list(tags),
        digests=list(digests),
    )


LIST_REPOSITORY_DELETION_EFFECTS: Final = statement(
    "list_repository_deletion_effects",
    "What deleting a whole repository would free, and what other repositories keep of it.",
    select(*_repository.c).order_by(_repository.c.effect, _repository.c.kind, _repository.c.digest),
    EffectRow,
)


async def list_repository_deletion_effects(tx: Transaction, repository: RepositoryRow) -> list[EffectRow]:
    """What happens when the repository is deleted."""
    return await tx.all(LIST_REPOSITORY_DELETION_EFFECTS, tenant_id=repository.tenant_id, repository_id=repository.id)


LIST_TENANT_DELETION_EFFECTS: Final = statement(
    "list_tenant_deletion_effects",
    "What deleting a tenant would free, which is all that it has.",
    select(*_tenant.c).order_by(_tenant.c.effect, _tenant.c.kind, _tenant.c.digest),
    EffectRow,
)


async def list_tenant_deletion_effects(tx: Transaction, tenant_id: int) -> list[EffectRow]:
    """What happens when the tenant is deleted."""
    return await tx.all(LIST_TENANT_DELETION_EFFECTS, tenant_id=tenant_id)
