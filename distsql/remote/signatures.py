"""Signatures of one repository's manifests: only distsql has them apart from manifests."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from distsql.oci.digest import Digest
from distsql.remote.connection import Address


class Signatures:
    """`distsql.contract.SignatureService` over HTTP."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    async def get(self, digest: Digest) -> Sequence[bytes]:
        """Every signature of the manifest, in the order of arrival."""
        answer = await self._address.connection.get(await self._path(digest))
        with answer.understood() as told:
            return [base64.b64decode(each) for each in told["signatures"]]

    async def put(self, digest: Digest, *signatures: bytes) -> None:
        """Adds signatures to the manifest."""
        document = {"signatures": [base64.b64encode(each).decode() for each in signatures]}
        await self._address.connection.request(
            "POST",
            await self._path(digest),
            headers={"content-type": "application/json"},
            content=json.dumps(document).encode(),
        )

    async def _path(self, digest: Digest) -> str:
        return await self._address.extension("manifests", str(digest), "signatures")
