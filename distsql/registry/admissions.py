"""Whether a repository may be written to just now: switches, limits, and tags that don't move."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from distsql.errors import (
    DeletionRefusedError,
    ManifestTooLargeError,
    ReadOnlyError,
    TagImmutableError,
    TenantSuspendedError,
)
from distsql.oci.names import RepositoryName
from distsql.sql.admissions import AdmissionRow
from distsql.sql.repositories import RepositoryRow
from distsql.values import Action

_WARN_ABOVE: Final = 0.9
_MEASURES: Final = ("bytes of blobs", "repositories", "manifests", "tags")


@dataclass(frozen=True, slots=True)
class Admission:
    """What a write may do, as it was just before its transaction; ``repository`` is None when it isn't there yet."""

    tenant_id: int | None = None
    repository: RepositoryRow | None = None
    sparse: bool = False
    creators: Action = Action.PUSH
    immutable_tags: Sequence[str] = ()
    manifest_limit: int | None = None
    collecting: bool = False
    """Whether manifests without tag, parent and subject are garbage."""
    store: str | None = None
    """The name of the byte store that the tenant's pushes go to; None: that of the settings."""

    def immutable(self, tags: Collection[str]) -> list[str]:
        """Those of the tags that may be made, but neither moved nor deleted."""
        return [tag for tag in tags if any(fnmatchcase(tag, pattern) for pattern in self.immutable_tags)]

    def check_fixed(self, moved: Collection[str]) -> None:
        """Raises `TagImmutableError` if one of the tags, which are about to move or to end, is immutable."""
        fixed = self.immutable(moved)
        if fixed:
            raise TagImmutableError(
                f"The tag {fixed[0]} is immutable ({', '.join(self.immutable_tags)}): push under another one",
                detail={"tags": fixed},
            )

    def check_length(self, length: int) -> None:
        """Raises `ManifestTooLargeError` if a manifest of so many bytes is over the tenant's limit."""
        if self.manifest_limit is not None and length > self.manifest_limit:
            raise ManifestTooLargeError(
                f"The manifest has {length} bytes, and the tenant's limit is {self.manifest_limit}"
            )


def admit(name: RepositoryName, row: AdmissionRow | None, action: Action) -> Admission:
    """Who comes through may write. Raises `TenantSuspendedError`, `ReadOnlyError`, `DeletionRefusedError`."""
    if row is None:
        return Admission()
    if row.suspended:
        raise suspension(name.tenant)
    if row.tenant_read_only or row.read_only:
        raise ReadOnlyError(f"{name.tenant if row.tenant_read_only else name} is read-only")
    if action is Action.DELETE and not row.deletable:
        raise DeletionRefusedError(f"Deleting from {name} is switched off")
    repository = None if row.repository_id is None else RepositoryRow(row.tenant_id, row.repository_id, row.sparse)
    return Admission(
        row.tenant_id,
        repository,
        row.sparse,
        Action(row.creators),
        row.immutable_tags,
        row.manifest_limit,
        row.collecting,
        row.store,
    )


def suspension(tenant: str) -> TenantSuspendedError:
    """Nothing of the tenant can be had."""
    return TenantSuspendedError(f"{tenant} is suspended: ask the registry's operator")


def warnings(tenant: str, row: AdmissionRow) -> Iterator[str]:
    """What the tenant's people should hear before the quota is used up."""
    for measure, quota, used in zip(_MEASURES, row.quotas, row.use, strict=True):
        if quota and used > quota * _WARN_ABOVE:
            yield f"{tenant} uses {used} of the {quota} {measure} in its quota"


def as_like(pattern: str) -> str:
    """The pattern as SQL's `like` takes it."""
    return pattern.replace("_", r"\_").replace("*", "%").replace("?", "_")
