"""One repository of a registry: its services, and its life."""

from __future__ import annotations

from distsql.errors import NameUnknownError
from distsql.oci.names import RepositoryName
from distsql.remote.connection import Address
from distsql.remote.layers import Layers
from distsql.remote.manifests import Manifests
from distsql.remote.restorations import Restorations
from distsql.remote.signatures import Signatures
from distsql.remote.tags import Tags


class RemoteRepository:
    """`distsql.contract.Repository` over HTTP."""

    __slots__ = ("_address",)

    def __init__(self, address: Address) -> None:
        self._address = address

    @property
    def name(self) -> str:
        """The full name, tenant included."""
        return str(RepositoryName.parse(self._address.name))

    @property
    def manifests(self) -> Manifests:
        """Its manifests."""
        return Manifests(self._address)

    @property
    def tags(self) -> Tags:
        """Its tags."""
        return Tags(self._address)

    @property
    def layers(self) -> Layers:
        """Its blobs."""
        return Layers(self._address)

    @property
    def signatures(self) -> Signatures:
        """Its manifests' signatures."""
        return Signatures(self._address)

    @property
    def restorations(self) -> Restorations:
        """What was deleted of it."""
        return Restorations(self._address)

    async def exists(self) -> bool:
        """Whether anything was ever written to it."""
        try:
            await self._address.check()
        except NameUnknownError:
            return False
        return True

    async def remove(self) -> None:
        """Removes the repository with everything in it."""
        await self._address.connection.request("DELETE", await self._address.extension(""))
