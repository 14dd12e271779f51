"""A registry that answers nonsense: an error that says so, in bounded memory, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest

from distsql.contract import Namespace
from distsql.errors import ContentCorruptError, RegistryError, UnavailableError
from distsql.oci.digest import Digest
from distsql.remote import RemoteNamespace
from distsql.remote.connection import Connection
from distsql.values import Caller

DIGEST = Digest.of(b"x")
NOW = datetime.now(UTC)
BODIES = (
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b'{"tags": [1], "repositories": "x", "actions": {}}',
    b'{"moves": [{}], "signatures": [{"kind": 1}], "digest": "x", "length": "x"}',
    b'{"moves": 7, "signatures": 7, "digest": 7, "length": null, "manifests": 7}',
)


def namespace_of(answer: Callable[[httpx.Request], httpx.Response]) -> RemoteNamespace:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://registry.test")
    return RemoteNamespace(Connection(client, Caller(), extended=True))


async def listed(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


OPERATIONS: dict[str, Callable[[Namespace], Awaitable[object]]] = {
    "tags": lambda namespace: listed(namespace.repository("a/b").tags.list()),
    "repositories": lambda namespace: listed(namespace.repositories()),
    "history": lambda namespace: listed(namespace.repository("a/b").tags.history("v1")),
    "resolve": lambda namespace: namespace.repository("a/b").tags.resolve("v1", at=NOW),
    "blob": lambda namespace: namespace.repository("a/b").layers.fetch(DIGEST),
    "upload": lambda namespace: namespace.repository("a/b").layers.upload(),
    "manifests": lambda namespace: listed(namespace.repository("a/b").manifests.all()),
    "referrers": lambda namespace: listed(namespace.repository("a/b").manifests.referrers(DIGEST)),
    "signatures": lambda namespace: namespace.repository("a/b").signatures.get(DIGEST),
    "trust": lambda namespace: namespace.trust.signatures("a/b", DIGEST),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("body", BODIES)
async def test_nonsense_is_an_error_of_the_registry(name: str, body: bytes) -> None:
    # Null, and no list at all, are an empty list of names in some registries.
    empty = name in {"tags", "repositories"} and body.startswith(b"{")
    try:
        found = await OPERATIONS[name](namespace_of(lambda request: httpx.Response(200, content=body)))
    except RegistryError:
        return
    assert empty
    assert found == []


async def test_another_manifest_than_the_digest_says() -> None:
    namespace = namespace_of(lambda request: httpx.Response(200, content=b'{"other": 1}'))
    with pytest.raises(ContentCorruptError):
        await namespace.repository("a/b").manifests.get(DIGEST)


async def test_a_page_without_an_end() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024**2

    namespace = namespace_of(lambda request: httpx.Response(200, content=endless()))
    with pytest.raises(RegistryError, match="is over"):
        await listed(namespace.repository("a/b").tags.list())


async def test_a_connection_that_breaks() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset")

    with pytest.raises(UnavailableError, match="reset"):
        await namespace_of(broken).repository("a/b").exists()
