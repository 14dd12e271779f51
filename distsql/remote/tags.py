"""The tags of one repository of a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from distsql.errors import ManifestUnknownError, TagUnknownError, UnsupportedError
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.oci.names import check_tag, is_tag
from distsql.remote.connection import Address
from distsql.remote.manifests import Manifests
from distsql.values import ANY, Anything, TagMove


class Tags:
    """`distsql.contract.TagService` over HTTP."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    async def get(self, tag: str) -> Descriptor:
        """What the tag points to."""
        manifest = await Manifests(self._address).get_by_tag(tag)
        return Descriptor(
            manifest.media_type, len(manifest.payload), manifest.digest, artifact_type=manifest.artifact_type
        )

    def list(self, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the live tags behind ``after``."""
        path = self._address.path("tags", "list")
        return self._address.connection.names(path, "tags", after=after, limit=limit)

    async def lookup(self, digest: Digest, *, after: str = "", limit: int | None = None) -> AsyncIterator[str]:
        """Names of the live tags on this digest."""
        path = await self._address.extension("manifests", str(digest), "tags")
        async for name in self._address.connection.names(path, "tags", after=after, limit=limit):
            yield name

    async def history(
        self, tag: str, *, before: datetime | None = None, limit: int | None = None
    ) -> AsyncIterator[TagMove]:
        """What the tag ever pointed to, newest first."""
        if not is_tag(tag):
            await self._address.check()
            return
        path = await self._address.extension("tags", tag, "history")
        left = limit
        params = {"before": before.isoformat()} if before else {}
        async for page in self._address.connection.pages(path, params, limit=limit):
            with page.understood() as told:
                moves = [_read_move(tag, move) for move in told["moves"]]
            for move in moves[:left]:
                yield move
            left = None if left is None else left - len(moves)
            if left is not None and left <= 0:
                return

    async def resolve(self, tag: str, *, at: datetime) -> Digest | None:
        """What the tag pointed to at that instant."""
        if not is_tag(tag):
            await self._address.check()
            return None
        path = await self._address.extension("tags", tag)
        try:
            answer = await self._address.connection.get(path, params={"at": at.isoformat()})
        except ManifestUnknownError:
            return None
        with answer.understood() as told:
            return Digest.parse(told["digest"])

    async def tag(self, tag: str, digest: Digest, expected: Digest | Anything | None = ANY) -> None:
        """Points the tag to a manifest of the repository, if it points to what was expected.

        Only distsql has the condition; another registry is sent the manifest again, under the tag.
        """
        check_tag(tag)
        if await self._address.connection.extended():
            path = await self._address.extension("tags", tag)
            await self._address.connection.request(
                "PUT", path, params={"digest": str(digest)}, headers=_conditions(expected)
            )
        elif expected is ANY:
            manifests = Manifests(self._address)
            await manifests.put(await manifests.get(digest), [tag])
        else:
            raise UnsupportedError("This registry is no distsql: it can't move a tag under a condition")

    async def untag(self, tag: str) -> None:
        """Ends the tag; its manifest stays."""
        if not is_tag(tag):
            await self._address.check()
            raise TagUnknownError(f"{tag[:128]!a} can't be a tag, so there is none", detail={"tag": tag[:128]})
        try:
            await self._address.connection.request("DELETE", self._address.path("manifests", tag))
        except ManifestUnknownError as error:
            raise TagUnknownError(error.message, detail=error.detail) from None


def _read_move(tag: str, move: Mapping[str, Any]) -> TagMove:
    return TagMove(
        tag,
        Digest.parse(move["digest"]),
        datetime.fromisoformat(move["valid_from"]),
        datetime.fromisoformat(move["valid_to"]) if move["valid_to"] else None,
        move["actor"],
        move["ended_by"],
    )


def _conditions(expected: Digest | Anything | None) -> dict[str, str]:
    """The headers that say what is expected (RFC 9110, section 13.1)."""
    if expected is None:
        return {"if-none-match": "*"}
    return {"if-match": f'"{expected}"'} if isinstance(expected, Digest) else {}
