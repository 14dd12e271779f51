"""Undo, the contract's second page: what was deleted comes back, and tags go back. See `distsql.contract` first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from distsql.oci.digest import Digest
from distsql.values import DeletedThing


class RestorationService(Protocol):
    """What was deleted of one repository, for as long as it can be restored (the registry's restore period).

    A manifest comes back with its children, the tags that ended with it and have not been used since, and the referrers
    that followed it; each of these is a transaction of its own, and doing it again goes on where it was stopped.
    """

    async def deleted(self, *, limit: int = 1000) -> Sequence[DeletedThing]:
        """Tags and manifests that can be restored, the newest first; of a removed repository, itself.

        Empty when there is nothing, or no such repository.
        """

    async def restore_manifest(self, digest: Digest) -> None:
        """The manifest is there again, as it was.

        Raises `ManifestUnknownError` when it isn't a deleted one that can be restored, or its blobs are gone already;
        `NameUnknownError`.
        """

    async def restore_tag(self, tag: str) -> Digest:
        """Points an ended tag to what it pointed to last, which is restored if need be, and gives that.

        Raises `TagChangedError` when the tag is live, `TagUnknownError` when it never was, `NameUnknownError`; and as
        `restore_manifest` when what it pointed to is gone for good.
        """

    async def roll_back(self, tag: str, *, at: datetime | None = None) -> Digest:
        """Points the tag to what it pointed to at the instant, or before its last move, and gives that.

        A manifest that was deleted since is restored, and a tag that ended begins again.

        Raises `TagUnknownError` when it pointed to nothing then, `NameUnknownError`; and as `restore_manifest`.
        """

    async def restore_repository(self) -> None:
        """The repository that was removed last under this name is there again, with all that was in it.

        Raises `RepositoryExistsError` when there is another one of the name, `NameUnknownError` when there was none.
        """
