"""What was deleted of one repository of a registry; only distsql has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, cast

from distsql.errors import ManifestUnknownError, RegistryError, TagUnknownError
from distsql.oci.digest import Digest
from distsql.oci.names import is_tag
from distsql.remote.connection import Address
from distsql.values import DeletedThing


class Restorations:
    """`distsql.contract_undo.RestorationService` over HTTP."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    async def deleted(self, *, limit: int = 1000) -> Sequence[DeletedThing]:
        """What can be restored, the newest first."""
        path = await self._address.extension("deleted")
        answer = await self._address.connection.get(path, params={"n": str(limit)})
        with answer.understood() as told:
            return [_read_thing(each) for each in told["deleted"]]

    async def restore_manifest(self, digest: Digest) -> None:
        """The manifest is there again."""
        await self._address.connection.request(
            "POST", await self._address.extension("manifests", str(digest), "restore")
        )

    async def restore_tag(self, tag: str) -> Digest:
        """Points an ended tag to what it pointed to last."""
        return await self._point(tag, "restore", {})

    async def roll_back(self, tag: str, *, at: datetime | None = None) -> Digest:
        """Points the tag to what it pointed to before."""
        return await self._point(tag, "rollback", {"at": at.isoformat()} if at else {})

    async def _point(self, tag: str, how: str, params: Mapping[str, str]) -> Digest:
        if not is_tag(tag):
            await self._address.check()
            raise TagUnknownError(f"{tag[:128]!a} can't be a tag, so there is none", detail={"tag": tag[:128]})
        path = await self._address.extension("tags", tag, how)
        try:
            answer = await self._address.connection.request("POST", path, params=params)
        except ManifestUnknownError as error:
            raise _of_tag(error) from None
        with answer.understood() as told:
            return Digest.parse(told["digest"])

    async def restore_repository(self) -> None:
        """The repository that was removed last under this name is there again."""
        await self._address.connection.request("POST", await self._address.extension("restore"))


def _of_tag(error: ManifestUnknownError) -> RegistryError:
    """HTTP has one code for both: what is missing, the tag or its manifest, the detail says."""
    if isinstance(error.detail, Mapping) and "tag" in error.detail:
        return TagUnknownError(error.message, detail=error.detail)
    return error


def _read_thing(told: Mapping[str, Any]) -> DeletedThing:
    return DeletedThing(
        cast("Literal['tag', 'manifest', 'repository']", told["kind"]),
        told["tag"],
        Digest.parse(told["digest"]) if told["digest"] else None,
        datetime.fromisoformat(told["deleted_at"]),
        told["deleted_by"],
        datetime.fromisoformat(told["restorable_until"]),
    )
