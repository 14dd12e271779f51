"""The manifests of one repository of a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

import httpx

from distsql import contract
from distsql.errors import (
    ContentCorruptError,
    DigestInvalidError,
    ManifestUnknownError,
    NameUnknownError,
    TagUnknownError,
    UnsupportedError,
)
from distsql.oci.descriptor import Descriptor
from distsql.oci.digest import Digest
from distsql.oci.manifest import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    DOCKER_SCHEMA1_SIGNED,
    OCI_IMAGE,
    OCI_INDEX,
    ParsedManifest,
    parse,
)
from distsql.oci.names import check_tag, is_tag
from distsql.remote.connection import Address, Answer

# Everything that there is: some registries convert for those who don't say so.
_ACCEPT: Final = f"{OCI_INDEX}, {OCI_IMAGE}, {DOCKER_LIST}, {DOCKER_IMAGE}, {DOCKER_SCHEMA1_SIGNED}, */*"


class Manifests:
    """`distsql.contract.ManifestService` over HTTP."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    # -- reading ------------------------------------------------------------------------------------------------------

    async def exists(self, digest: Digest) -> bool:
        """Whether the repository has the manifest."""
        return await self._address.connection.head(self._path(str(digest))) is not None

    async def get(self, digest: Digest) -> ParsedManifest:
        """The manifest, checked against its digest."""
        return await self._get(str(digest), digest)

    async def exists_by_tag(self, tag: str) -> bool:
        """Whether there is a live tag of this name."""
        return is_tag(tag) and await self._address.connection.head(self._path(tag)) is not None

    async def get_by_tag(self, tag: str) -> ParsedManifest:
        """The manifest that the tag points to, in one read."""
        if not is_tag(tag):
            await self._address.check()
            raise TagUnknownError(f"{tag[:128]!a} can't be a tag, so there is none", detail={"tag": tag[:128]})
        try:
            return await self._get(tag, None)
        except ManifestUnknownError as error:
            raise TagUnknownError(error.message, detail=error.detail) from None

    async def _get(self, reference: str, digest: Digest | None) -> ParsedManifest:
        answer = await self._address.connection.get(self._path(reference), accept=_ACCEPT)
        told = answer.headers.get("docker-content-digest")
        try:
            return parse(
                answer.body, answer.headers.get("content-type"), digest or (Digest.parse(told) if told else None)
            )
        except DigestInvalidError as error:
            raise ContentCorruptError(f"{answer.url} is not what its digest says: {error}") from error

    def _path(self, reference: str) -> str:
        return self._address.path("manifests", reference)

    async def all(self, *, after: Digest | None = None) -> AsyncIterator[ParsedManifest]:
        """Every manifest, in the order of its digest."""
        path = await self._address.extension("manifests")
        async for page in self._address.connection.pages(path, {"last": str(after)} if after else {}):
            for each in _listed(page):
                with suppress(ManifestUnknownError):  # deleted since it was listed
                    yield await self.get(each.digest)

    async def referrers(
        self, digest: Digest, *, artifact_type: str | None = None, after: Digest | None = None, limit: int | None = None
    ) -> AsyncIterator[Descriptor]:
        """Manifests with this subject, in the registry's order, which is that of the digests where it is distsql."""
        left = limit
        async for page in self._referrers(digest, artifact_type=artifact_type, after=after, limit=limit):
            # The filter is the client's to apply where the registry didn't.
            for each in (item for item in _listed(page) if artifact_type in {None, item.artifact_type}):
                if left == 0:
                    return
                yield each
                left = None if left is None else left - 1
            if left == 0:
                return

    async def _referrers(
        self, digest: Digest, *, artifact_type: str | None, after: Digest | None, limit: int | None
    ) -> AsyncIterator[Answer]:
        """Pages of referrers; of a registry that doesn't know them, the index that clients keep instead.

        Distribution specification, "Listing Referrers" and "Unavailable Referrers API".
        """
        params = {"artifactType": artifact_type or "", "last": str(after) if after else ""}
        wanted = {name: value for name, value in params.items() if value}
        try:
            path = self._address.path("referrers", str(digest))
            async for page in self._address.connection.pages(path, wanted, limit=limit):
                yield page
        except (NameUnknownError, UnsupportedError):
            with suppress(ManifestUnknownError, NameUnknownError):
                fallback = self._path(f"{digest.algorithm}-{digest.encoded}"[:128])
                yield await self._address.connection.get(fallback, accept=_ACCEPT)

    def tags(self) -> AsyncIterator[str]:
        """Names of all live tags."""
        return self._address.connection.names(self._address.path("tags", "list"), "tags")

    # -- writing ------------------------------------------------------------------------------------------------------

    async def put(self, manifest: contract.Manifest, tags: Sequence[str] = ()) -> Digest:
        """Creates or updates the manifest with all its tags.

        All or nothing where the registry takes ``?tag=`` (as the specification after 1.1.1); elsewhere tag by tag.
        """
        names = list(dict.fromkeys(check_tag(tag) for tag in tags))
        answer = await self._put(str(manifest.digest), manifest, names)
        taken = answer.headers.get_list("oci-tag", split_commas=True)
        for name in names:
            if name not in taken:
                await self._put(name, manifest, ())
        return manifest.digest

    async def _put(self, reference: str, manifest: contract.Manifest, tags: Sequence[str]) -> Answer:
        return await self._address.connection.request(
            "PUT",
            self._path(reference),
            params=httpx.QueryParams({"tag": list(tags)}),
            headers={"content-type": manifest.media_type},
            content=manifest.payload,
        )

    async def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Removes the manifest and every tag on it."""
        params = {"force": "true"} if force else None
        await self._address.connection.request("DELETE", self._path(str(digest)), params=params)


def _listed(page: Answer) -> Sequence[Descriptor]:
    """A page of descriptors has an index's form."""
    return parse(page.body, OCI_INDEX).references()
