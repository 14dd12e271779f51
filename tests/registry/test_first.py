import httpx

from distsql.oci.digest import Digest
from distsql.registry.namespace import StoredNamespace


async def test_upload(namespace: StoredNamespace) -> None:
    r = namespace.repository("acme/web")
    async with await r.layers.upload() as up:
        await up.write(b"x" * 10)
        layer = await up.finish(Digest.of(b"x" * 10))
    assert await layer.read() == b"x" * 10


async def test_http(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/")).status_code == 200
    assert [x async for x in _()] == [1]


async def _():
    yield 1
