from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distsql.contract import Layer, Namespace, Repository
from distsql.errors import BlobUnknownError, InUseError, NameInvalidError, NameUnknownError
from distsql.oci.digest import Digest
from distsql.values import ASGIMessage
from tests.contract.covering import covers
from tests.registry.pushing import CONFIG, index, push_blob, push_image

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
NOWHERE = Digest.of(b"nowhere")


async def content_of(repository: Repository, digest: Digest) -> bytes:
    async with await repository.layers.fetch(digest) as layer:
        return await layer.read()


@covers("LayerService.fetch", "LayerService.exists", "Layer.digest", "Layer.length", "Layer.created_at", "Layer.read")
async def test_a_blob_comes_back_as_it_was_pushed(repository: Repository, elsewhere: Namespace) -> None:
    there = elsewhere.repository("acme/web").layers
    for content in (b"", b"x", CONTENT * 1000, os.urandom(100_000)):
        digest = await push_blob(repository, content)
        assert await there.exists(digest)
        for promised in (False, True):
            async with await there.fetch(digest, promised=promised) as layer:
                assert (layer.digest, layer.length) == (digest, len(content))
                assert abs(layer.created_at - datetime.now(UTC)) < timedelta(minutes=5)
                assert await layer.read() == content


@covers("LayerService.fetch", "LayerService.exists")
async def test_what_is_not_there(namespace: Namespace, repository: Repository) -> None:
    assert not await repository.layers.exists(NOWHERE)
    with pytest.raises(NameUnknownError):
        await repository.layers.fetch(NOWHERE)
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(NOWHERE, promised=True)
    await push_blob(repository, b"x")
    await push_blob(namespace.repository("acme/other"), CONTENT)
    for digest in (NOWHERE, DIGEST, Digest.of(b"x", "sha512")):
        assert not await repository.layers.exists(digest)
        for promised in (False, True):
            with pytest.raises(BlobUnknownError):
                await repository.layers.fetch(digest, promised=promised)


@covers("Layer.read", "Layer.seek", "Layer.tell")
async def test_a_layer_is_read_like_a_file(repository: Repository) -> None:
    await push_blob(repository, CONTENT)
    async with await repository.layers.fetch(DIGEST) as layer:
        assert layer.tell() == 0
        assert (await layer.read(3), layer.tell()) == (b"012", 3)
        assert (await layer.read(0), layer.tell()) == (b"", 3)
        assert layer.seek(2, os.SEEK_CUR) == 5
        assert (await layer.read(), layer.tell()) == (b"56789", 10)
        assert (await layer.read(), await layer.read(5), layer.tell()) == (b"", b"", 10)
        assert layer.seek(-4, os.SEEK_END) == 6
        assert (await layer.read(100), layer.tell()) == (b"6789", 10)
        assert layer.seek(1) == layer.tell() == 1
        assert await layer.read(1) == b"1"


@covers("Layer.seek", "Layer.read")
async def test_a_position_beyond_the_end_reads_nothing(repository: Repository) -> None:
    await push_blob(repository, CONTENT)
    async with await repository.layers.fetch(DIGEST) as layer:
        assert layer.seek(5, os.SEEK_END) == 15
        assert (await layer.read(), await layer.read(1), layer.tell()) == (b"", b"", 15)
        assert layer.seek(-6, os.SEEK_CUR) == 9
        assert await layer.read() == b"9"


@covers("Layer.seek")
async def test_a_position_before_the_beginning_is_refused(repository: Repository) -> None:
    await push_blob(repository, CONTENT)
    async with await repository.layers.fetch(DIGEST) as layer:
        layer.seek(4)
        for offset, whence in ((-1, os.SEEK_SET), (-5, os.SEEK_CUR), (-11, os.SEEK_END), (0, 7)):
            with pytest.raises(ValueError, match=r"position|whence"):
                layer.seek(offset, whence)
            assert layer.tell() == 4


@covers("Closable.close")
async def test_layers_are_independent_of_each_other(repository: Repository) -> None:
    await push_blob(repository, CONTENT)
    one, two = await repository.layers.fetch(DIGEST), await repository.layers.fetch(DIGEST)
    assert await one.read(4) == b"0123"
    assert await two.read(2) == b"01"
    await one.close()
    await one.close()
    assert await two.read() == CONTENT[2:]
    await two.close()


async def answer(layer: Layer, method: str, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    """What the layer's own handler answers to a request."""
    request: dict[str, Any] = {"type": "http", "method": method, "path": "/", "headers": list(headers)}
    messages: list[ASGIMessage] = []

    async def receive() -> ASGIMessage:
        return {"type": "http.request"}

    async def send(message: ASGIMessage) -> None:
        messages.append(message)

    await layer.handler(request)(request, receive, send)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return messages[0]["status"], dict(messages[0]["headers"]), body


@covers("Layer.handler")
async def test_the_handler_serves_the_content_or_tells_where_it_is(repository: Repository) -> None:
    for content in (CONTENT, os.urandom(200_000)):
        async with await repository.layers.fetch(await push_blob(repository, content)) as layer:
            status, headers, body = await answer(layer, "GET")
            if status == 307:
                assert headers[b"location"].startswith(b"http")
                continue
            assert (status, body) == (200, content)
            assert int(headers[b"content-length"]) == len(content)
            status, headers, body = await answer(layer, "HEAD")
            assert (status, int(headers[b"content-length"]), body) == (200, len(content), b"")
            status, headers, body = await answer(layer, "GET", (b"range", b"bytes=2-5"))
            assert (status, body) == (206, content[2:6])
            assert headers[b"content-range"] == b"bytes 2-5/%d" % len(content)


@covers("LayerService.mount", "LayerService.fetch")
async def test_a_mounted_blob_is_there_without_a_copy(namespace: Namespace, repository: Repository) -> None:
    source = namespace.repository("acme/source")
    await push_blob(source, CONTENT)
    async with await repository.layers.mount(DIGEST, "acme/source") as layer:
        assert (layer.digest, layer.length, await layer.read()) == (DIGEST, len(CONTENT), CONTENT)
    assert await content_of(repository, DIGEST) == CONTENT
    # Also when it is there already, from itself, and from wherever the tenant has it.
    for target, source_name in (("acme/web", "acme/source"), ("acme/web", "acme/web"), ("acme/third", None)):
        async with await namespace.repository(target).layers.mount(DIGEST, source_name) as layer:
            assert layer.digest == DIGEST
    await source.layers.delete(DIGEST)
    assert not await source.layers.exists(DIGEST)
    assert await content_of(namespace.repository("acme/third"), DIGEST) == CONTENT


@covers("LayerService.mount")
async def test_one_component_is_mounted_from_the_library(namespace: Namespace) -> None:
    await push_blob(namespace.repository("base"), CONTENT)
    async with await namespace.repository("web").layers.mount(DIGEST, "base") as layer:
        assert await layer.read() == CONTENT


@covers("LayerService.mount")
async def test_what_may_not_be_seen_is_refused_exactly_like_what_is_nowhere(
    namespace: Namespace, repository: Repository
) -> None:
    await push_blob(namespace.repository("other/source"), CONTENT)
    refusals = set()
    await push_blob(namespace.repository("acme/source"), b"another")
    for digest, source in (
        (DIGEST, "other/source"),
        (DIGEST, "acme/source"),
        (DIGEST, "acme/nowhere"),
        (DIGEST, "nobody/nowhere"),
        (DIGEST, None),
        (NOWHERE, "other/source"),
        (NOWHERE, None),
    ):
        with pytest.raises(BlobUnknownError) as refusal:
            await repository.layers.mount(digest, source)
        text = f"{type(refusal.value)} {refusal.value.message} {refusal.value.detail}"
        refusals.add(text.replace(str(digest), "DIGEST"))
    assert len(refusals) == 1
    assert not await repository.exists()


@covers("LayerService.mount")
async def test_a_malformed_source_is_refused(repository: Repository) -> None:
    for source in ("", "A/b", "acme//x", "acme/\0"):
        with pytest.raises(NameInvalidError):
            await repository.layers.mount(DIGEST, source)


@covers("LayerService.mount")
async def test_a_scoped_namespace_mounts_from_its_tenant_only(
    namespace: Namespace, scoped: Callable[[str], Namespace]
) -> None:
    await push_blob(namespace.repository("other/source"), CONTENT)
    target = scoped("acme").repository("acme/web")
    for source in ("other/source", None):
        with pytest.raises(BlobUnknownError):
            await target.layers.mount(DIGEST, source)


@covers("LayerService.delete", "LayerService.exists")
async def test_deleting_takes_it_out_of_this_repository_only(namespace: Namespace, repository: Repository) -> None:
    other = namespace.repository("acme/other")
    await push_blob(repository, CONTENT)
    await push_blob(other, CONTENT)
    await repository.layers.delete(DIGEST)
    assert not await repository.layers.exists(DIGEST)
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(DIGEST)
    assert await content_of(other, DIGEST) == CONTENT
    await push_blob(repository, CONTENT)
    assert await content_of(repository, DIGEST) == CONTENT


@covers("LayerService.delete")
async def test_what_isnt_there_cant_be_deleted(namespace: Namespace, repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.layers.delete(DIGEST)
    await push_blob(namespace.repository("acme/other"), CONTENT)
    await push_blob(repository, b"x")
    for _ in range(2):
        with pytest.raises(BlobUnknownError):
            await repository.layers.delete(DIGEST)
    assert await content_of(namespace.repository("acme/other"), DIGEST) == CONTENT


@covers("LayerService.delete")
async def test_a_blob_stays_while_a_manifest_needs_it(repository: Repository) -> None:
    manifest = await push_image(repository, CONTENT)
    for content in (CONTENT, CONFIG):
        with pytest.raises(InUseError) as refusal:
            await repository.layers.delete(Digest.of(content))
        assert refusal.value.detail == {"digest": str(Digest.of(content)), "referrer": str(manifest.digest)}
    parent = index(manifest)
    await repository.manifests.put(parent)
    await repository.manifests.delete(parent.digest)
    await repository.manifests.delete(manifest.digest)
    await repository.layers.delete(DIGEST)
    assert not await repository.layers.exists(DIGEST)


@covers("LayerService.delete", "LayerService.exists")
async def test_a_forced_deletion_takes_the_blob_and_leaves_the_manifest(
    namespace: Namespace, repository: Repository
) -> None:
    manifest = await push_image(repository, CONTENT, tags=["v1"])
    other = namespace.repository("acme/other")
    await push_image(other, CONTENT)
    await repository.layers.delete(DIGEST, force=True)
    assert not await repository.layers.exists(DIGEST)
    assert (await repository.manifests.get_by_tag("v1")).payload == manifest.payload
    assert await content_of(other, DIGEST) == CONTENT
    with pytest.raises(BlobUnknownError):
        await repository.layers.delete(DIGEST, force=True)
    await push_blob(repository, CONTENT)
    with pytest.raises(InUseError):
        await repository.layers.delete(DIGEST)
