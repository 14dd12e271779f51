"""One upload session, from its beginning to its end; several writers at a time are in `test_uploads_at_once`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from distsql.contract import LayerUpload, Namespace, Repository
from distsql.errors import BlobUnknownError, DigestInvalidError, UploadRangeError, UploadUnknownError
from distsql.oci.digest import Digest
from tests.contract.covering import covers
from tests.contract.test_layers import content_of

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)
LARGE = os.urandom(1 << 20) + b"end"


async def pieces(*contents: bytes) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


async def begun(repository: Repository, content: bytes = b"") -> LayerUpload:
    async with await repository.layers.upload() as upload:
        await upload.write(content)
    return upload


@covers("LayerService.upload", "LayerUpload.write", "LayerUpload.finish", "LayerUpload.tell")
async def test_what_is_written_becomes_a_blob(repository: Repository) -> None:
    async with await repository.layers.upload() as upload:
        assert upload.tell() == 0
        for piece in (b"0123", bytearray(b"45"), memoryview(b"67"), b"", b"89"):
            assert await upload.write(piece) == len(piece)
        assert upload.tell() == 10
        async with await upload.finish(DIGEST) as layer:
            assert (layer.digest, layer.length, await layer.read()) == (DIGEST, 10, CONTENT)
    assert await content_of(repository, DIGEST) == CONTENT


@covers("LayerUpload.write")
async def test_a_buffer_may_be_used_again_at_once(repository: Repository) -> None:
    async with await repository.layers.upload() as upload:
        buffer = bytearray(len(LARGE) // 2)
        for half in (LARGE[: len(buffer)], LARGE[len(buffer) : 2 * len(buffer)]):
            buffer[:] = half
            await upload.write(buffer)
        buffer[:] = bytes(len(buffer))
        await upload.finish(Digest.of(LARGE[: 2 * len(buffer)]))


@covers("LayerUpload.read_from", "LayerUpload.finish")
async def test_a_stream_becomes_a_blob(repository: Repository) -> None:
    async with await repository.layers.upload() as upload:
        assert await upload.read_from(pieces()) == 0
        assert await upload.read_from(pieces(b"", b"01", b"23")) == 4
        assert await upload.read_from(pieces(b"456789")) == 6
        await upload.finish(DIGEST)
    async with await repository.layers.upload() as upload:
        assert await upload.read_from(pieces(LARGE, LARGE)) == 2 * len(LARGE)
        await upload.finish(Digest.of(LARGE + LARGE))
    assert await content_of(repository, Digest.of(LARGE + LARGE)) == LARGE + LARGE


@covers("LayerUpload.finish", "LayerService.upload")
async def test_any_algorithm_may_close_any_session(repository: Repository) -> None:
    for hint in ("sha256", "sha512"):
        for closing in ("sha256", "sha512"):
            content = f"{hint} {closing}".encode()
            async with await repository.layers.upload(hint) as upload:
                await upload.write(content)
                await upload.finish(Digest.of(content, closing))
            assert await content_of(repository, Digest.of(content, closing)) == content


@covers("LayerService.upload")
async def test_an_unknown_algorithm_is_refused(repository: Repository) -> None:
    for algorithm in ("", "md5", "SHA256", "sha256\0"):
        with pytest.raises(DigestInvalidError):
            await repository.layers.upload(algorithm)
    assert not await repository.exists()


@covers("LayerUpload.finish")
async def test_nothing_is_a_content_too(repository: Repository) -> None:
    async with await repository.layers.upload() as upload, await upload.finish(Digest.of(b"")) as layer:
        assert (layer.length, await layer.read()) == (0, b"")
    assert await content_of(repository, Digest.of(b"")) == b""


@covers(
    "LayerUpload.uuid",
    "LayerUpload.started_at",
    "LayerUpload.minimum_chunk",
    "LayerUpload.expires_at",
    "LayerService.resume",
)
async def test_a_session_tells_of_itself(repository: Repository, elsewhere: Namespace) -> None:
    upload, other = await repository.layers.upload(), await repository.layers.upload()
    assert upload.uuid != other.uuid
    assert abs(upload.started_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert upload.expires_at > datetime.now(UTC)
    assert upload.minimum_chunk == 0  # both stores take chunks of any size
    again = await elsewhere.repository("acme/web").layers.resume(upload.uuid)
    assert (again.uuid, again.started_at, again.tell()) == (upload.uuid, upload.started_at, 0)


@covers("LayerService.resume", "LayerUpload.close", "Closable.close", "LayerUpload.tell")
async def test_any_process_goes_on_with_it(namespace: Namespace, elsewhere: Namespace) -> None:
    content = LARGE + CONTENT + LARGE
    uuid = (await namespace.repository("acme/web").layers.upload()).uuid
    done = 0
    for turn, end in enumerate((len(LARGE) + 3, len(LARGE) + 10, len(content))):
        upload = await (elsewhere, namespace)[turn % 2].repository("acme/web").layers.resume(uuid)
        assert upload.tell() == done
        await upload.write(content[done:end])
        await upload.close()
        await upload.close()
        done = end
        assert upload.tell() == done
    async with await elsewhere.repository("acme/web").layers.resume(uuid) as upload:
        await upload.finish(Digest.of(content))
    assert await content_of(namespace.repository("acme/web"), Digest.of(content)) == content


@covers("LayerService.resume")
async def test_what_was_never_begun_cant_be_resumed(namespace: Namespace, repository: Repository) -> None:
    with pytest.raises(UploadUnknownError):
        await repository.layers.resume(uuid4())
    upload = await begun(repository, CONTENT)
    # The session is its repository's own.
    await namespace.repository("acme/other").layers.upload()
    for name in ("acme/other", "acme/nowhere", "other/web", "web"):
        with pytest.raises(UploadUnknownError):
            await namespace.repository(name).layers.resume(upload.uuid)
    assert (await repository.layers.resume(upload.uuid)).tell() == 10


@covers("LayerUpload.seek", "LayerUpload.tell")
async def test_an_upload_only_grows_at_its_end(repository: Repository) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(CONTENT)
        assert upload.seek(10) == upload.seek(0, os.SEEK_END) == upload.seek(0, os.SEEK_CUR) == upload.tell() == 10
        for offset, whence in ((0, os.SEEK_SET), (9, os.SEEK_SET), (11, os.SEEK_SET), (-1, os.SEEK_END), (-20, 1)):
            with pytest.raises(UploadRangeError) as refusal:
                upload.seek(offset, whence)
            assert refusal.value.offset == upload.tell() == 10
        await upload.finish(DIGEST)


@covers("LayerUpload.finish", "LayerUpload.tell")
async def test_a_wrong_digest_stores_nothing(repository: Repository) -> None:
    upload = await repository.layers.resume((await begun(repository, b"0123")).uuid)
    async with upload:
        for wrong in (Digest.of(b"other"), Digest.of(b"0123"), Digest.of(b"other", "sha512")):
            await upload.write(b"456789")
            with pytest.raises(DigestInvalidError):
                await upload.finish(wrong)
            assert upload.tell() == 4
            assert not await repository.layers.exists(wrong)
        assert not await repository.layers.exists(DIGEST)
        await upload.write(b"456789")
        await upload.finish(DIGEST)
    assert await content_of(repository, DIGEST) == CONTENT


@covers("LayerUpload.finish", "LayerUpload.cancel")
async def test_after_a_wrong_digest_it_can_be_cancelled(repository: Repository) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(LARGE)
        with pytest.raises(DigestInvalidError):
            await upload.finish(DIGEST)
        await upload.cancel()
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(Digest.of(LARGE))


@covers("LayerUpload.read_from", "LayerUpload.tell")
async def test_a_source_that_breaks_leaves_what_came_before(repository: Repository, elsewhere: Namespace) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield LARGE
        yield CONTENT
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with await repository.layers.upload() as upload:
            await upload.read_from(breaking())
    again = await elsewhere.repository("acme/web").layers.resume(upload.uuid)
    assert upload.tell() == again.tell() == len(LARGE) + 10
    async with again:
        await again.write(b"!")
        await again.finish(Digest.of(LARGE + CONTENT + b"!"))


@covers("LayerUpload.read_from", "LayerUpload.tell")
async def test_a_reader_that_is_cancelled_leaves_what_came_before(repository: Repository, elsewhere: Namespace) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield LARGE
        yield CONTENT
        waiting.set()
        await asyncio.Event().wait()

    upload = await repository.layers.upload()

    async def receive() -> None:
        async with upload:
            await upload.read_from(endless())

    task = asyncio.create_task(receive())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await elsewhere.repository("acme/web").layers.resume(upload.uuid)
    assert again.tell() == len(LARGE) + 10


@covers("LayerUpload.cancel", "LayerService.resume")
async def test_a_cancelled_session_is_over(repository: Repository, elsewhere: Namespace) -> None:
    upload = await begun(repository, CONTENT)
    async with await elsewhere.repository("acme/web").layers.resume(upload.uuid) as again:
        await again.write(CONTENT)
        await again.cancel()
    with pytest.raises(UploadUnknownError):
        await repository.layers.resume(upload.uuid)
    with pytest.raises(UploadUnknownError):
        await again.cancel()


@covers("LayerUpload.finish", "LayerService.resume", "LayerUpload.cancel", "LayerUpload.write")
async def test_a_finished_session_is_over(repository: Repository) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(CONTENT)
        await upload.finish(DIGEST)
        for end in (upload.finish(DIGEST), upload.cancel(), upload.write(b"more")):
            with pytest.raises(UploadUnknownError):
                await end
    with pytest.raises(UploadUnknownError):
        await repository.layers.resume(upload.uuid)
    assert await content_of(repository, DIGEST) == CONTENT


@covers("LayerUpload.finish")
async def test_the_same_content_may_come_often(namespace: Namespace, repository: Repository) -> None:
    for each in (repository, repository, namespace.repository("acme/other"), namespace.repository("other/web")):
        async with await each.layers.upload() as upload:
            await upload.write(CONTENT)
            async with await upload.finish(DIGEST) as layer:
                assert await layer.read() == CONTENT
    for name in ("acme/web", "acme/other", "other/web"):
        assert await content_of(namespace.repository(name), DIGEST) == CONTENT
