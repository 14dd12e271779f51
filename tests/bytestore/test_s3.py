"""What is particular to a store without locks: claims, parts, tails, and what late writers can't harm."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from distsql.bytestore.contract import Staged
from distsql.bytestore.s3 import S3Store
from distsql.bytestore.s3_address import parse_address
from distsql.bytestore.s3_client import S3Client
from distsql.bytestore.s3_layout import MAX_PARTS, PART_SIZES
from distsql.bytestore.s3_state import Parts, Piece, State
from distsql.errors import BytesMissingError, SettingsError
from tests.bytestore.conftest import MIB, SMALL_PARTS
from tests.bytestore.steps import append, complete, found, writing
from tests.objectstore import ObjectStore

PART = SMALL_PARTS.smallest


@pytest.fixture
async def store(object_store: ObjectStore) -> AsyncIterator[S3Store]:
    store = S3Store(parse_address(urlsplit(object_store.url())), sizes=SMALL_PARTS)
    await store.open()
    yield store
    await store.close()


def objects_of(staged: Staged) -> State:
    return State.from_json(staged.state)


async def content_of(store: S3Store, staged: Staged) -> bytes:
    return await store.read(staged.key, 0, staged.length)


# -- parts and tails ----------------------------------------------------------------------------------------------


async def test_chunks_smaller_than_a_part_are_durable_each(store: S3Store) -> None:
    """A tail is kept, read again and replaced; what came before lies in parts that are never touched again."""
    chunks = [os.urandom(700_000) for _ in range(17)]
    staged = await store.begin()
    for number, chunk in enumerate(chunks, 1):
        staged = await append(store, staged, chunk)
        assert staged.length == number * len(chunk)
        # Nothing more than the parts, this tail, and the one before, which goes when this value is known to be kept.
        assert len(await found(store, staged)) <= 3
    state = objects_of(staged)
    assert state.parts is not None
    assert state.parts.numbers == ((1, 2),)
    assert state.parts.bytes == 2 * PART
    staged = await complete(store, staged)
    await store.settle(staged)
    assert await content_of(store, staged) == b"".join(chunks)
    assert [item.key for item in await found(store, staged)] == [staged.key]


async def test_small_content_is_one_object_that_is_never_copied(store: S3Store) -> None:
    staged = await append(store, await store.begin(), b"some bytes")
    tail = objects_of(staged).tail
    assert tail is not None
    completed = await complete(store, staged)
    assert completed.key == tail.object
    await store.settle(completed)
    assert [item.key for item in await found(store, completed)] == [completed.key]


async def test_completed_parts_are_the_object_and_its_key_is_given(store: S3Store) -> None:
    staged = await append(store, await store.begin(), content := os.urandom(2 * PART + 5))
    parts = objects_of(staged).parts
    completed = await complete(store, staged)
    assert parts is not None
    assert completed.key == parts.object
    assert await content_of(store, completed) == content


def test_parts_grow_far_enough_for_a_hundred_gib_in_bounded_memory() -> None:
    whole = sum(PART_SIZES.of(number) for number in range(1, MAX_PARTS + 1))
    assert whole > 190 * 1024 * MIB
    for number in (1, 1000, 1001, 3001, MAX_PARTS):
        size = PART_SIZES.of(number)
        assert size >= 5 * MIB
        assert size * (PART_SIZES.in_flight(size) + 1) <= 24 * MIB


async def test_part_that_was_sent_twice_counts_once(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's answer was late, and the client library tried again."""
    call = S3Client.call

    async def call_twice(client: S3Client, operation: str, key: str, **arguments: object) -> object:
        if operation == "upload_part":
            await call(client, operation, key, **arguments)
        return await call(client, operation, key, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(S3Client, "call", call_twice)
        staged = await append(store, await store.begin(), content := os.urandom(2 * PART + 5))
    completed = await complete(store, staged)
    assert await content_of(store, completed) == content


# -- several writers ----------------------------------------------------------------------------------------------


async def test_late_writer_cannot_harm_what_the_next_one_was_told(store: S3Store, object_store: ObjectStore) -> None:
    """One is displaced in the middle, goes on regardless, and ends after the other."""
    twin = S3Store(parse_address(urlsplit(store.url)), sizes=SMALL_PARTS)
    await twin.open()
    start = await append(store, await store.begin(), begin := os.urandom(PART + 100))
    late = await store.claim(start)
    async with store.writer(late) as slow:
        await slow.write(os.urandom(PART))
        newer = await twin.claim(late)
        async with twin.writer(newer) as quick:
            await quick.write(rest := os.urandom(2 * PART + 7))
            kept = await quick.flush()
        await slow.write(os.urandom(2 * PART))
        await slow.flush()
    async with writing(twin, kept) as last:
        sealed = await last.seal()
        assert sealed is not None
        completed = await last.complete()
    assert await content_of(store, completed) == begin + rest
    await twin.settle(completed)  # knows that somebody was displaced, and leaves nothing of what he made
    assert [item.key for item in await found(twin, start)] == [completed.key]
    await twin.close()


async def test_sealed_content_is_completed_by_whoever_comes_next(store: S3Store) -> None:
    """The process died between sealing and completing, or between completing and the catalogue's commit."""
    for completes in (False, True):
        staged = await append(store, await store.begin(), content := os.urandom(PART + 9))
        async with writing(store, staged) as writer:
            sealed = await writer.seal()
            assert sealed is not None
            if completes:
                await writer.complete()
        completed = await complete(store, sealed)
        assert await content_of(store, completed) == content


async def test_completed_content_that_was_wrong_can_be_gone_on_with(store: S3Store) -> None:
    staged = await append(store, await store.begin(), content := os.urandom(2 * PART + 9))
    async with writing(store, staged) as writer:
        sealed = await writer.seal()
        await writer.complete()
    assert sealed is not None
    longer = await append(store, sealed, b"more")
    completed = await complete(store, longer)
    assert await content_of(store, completed) == content + b"more"
    await store.settle(completed)
    assert [item.key for item in await found(store, staged)] == [completed.key]


async def test_stream_goes_on_over_checkpoints(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distsql.bytestore.s3_state.RESERVED", 10)
    remembered, pieces = await store.claim(await store.begin()), []
    async with store.writer(remembered) as writer:
        while objects_of(remembered).first < 5:
            if writer.checkpoint_due:
                remembered = await writer.checkpoint()
            pieces.append(os.urandom(PART // 2))
            await writer.write(pieces[-1])
    # Died there: what was remembered last is whole.
    content = b"".join(pieces)[: remembered.length]
    assert remembered.length >= 4 * PART
    completed = await complete(store, await append(store, remembered, b"rest"))
    assert await content_of(store, completed) == content + b"rest"


# -- forgetting ---------------------------------------------------------------------------------------------------


async def test_abort_finds_everything_of_an_upload_by_its_key(store: S3Store) -> None:
    """Also what a process made that died before it could tell the catalogue."""
    start = await store.claim(await store.begin())
    for length in (PART + 1, 10, 2 * PART):
        async with store.writer(start) as writer:
            await writer.write(os.urandom(length))
            await writer.flush()
    other = await append(store, await store.begin(), b"of somebody else")
    assert len(await found(store, start)) >= 4
    await store.abort(Staged(start.key))
    assert await found(store, start) == []
    assert len(await found(store, other)) == 1


async def test_orphans_of_a_finished_upload_are_aborted_without_its_blob(store: S3Store) -> None:
    start = await store.claim(await store.begin())
    async with store.writer(start) as writer:
        await writer.write(os.urandom(PART + 1))
        await writer.flush()
    completed = await complete(store, start)
    for item in await found(store, start):
        if item.key != completed.key:
            await (store.delete(item.key) if item.complete else store.abort(Staged(item.key)))
    assert [item.key for item in await found(store, start)] == [completed.key]


async def test_parts_that_are_gone_are_missed(store: S3Store) -> None:
    staged = await append(store, await store.begin(), os.urandom(PART + 1))
    await store.abort(staged)
    with pytest.raises(BytesMissingError):
        await complete(store, staged)


# -- addresses ----------------------------------------------------------------------------------------------------


async def test_redirect_is_for_that_object_for_a_time_and_inert(store: S3Store) -> None:
    completed = await complete(store, await append(store, await store.begin(), b"<script>"))
    url = await store.redirect_url(completed.key, expires_s=60)
    assert url is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
        assert answer.content == b"<script>"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"
        part = await client.get(url, headers={"range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"scr")
        assert (await client.get(url.replace(completed.key, completed.key + "x"))).status_code == 403
        assert (await client.put(url, content=b"x")).status_code == 403
        soon = await store.redirect_url(completed.key, expires_s=1)
        await asyncio.sleep(2.1)
        assert (await client.get(str(soon))).status_code == 403
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in url
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["60"]


def test_public_endpoint_is_where_clients_are_sent() -> None:
    address = parse_address(urlsplit("s3://bucket/a/b?endpoint=http://s3:8333&public-endpoint=https://bytes.example"))
    assert (address.endpoint, address.public_endpoint) == ("http://s3:8333", "https://bytes.example")
    assert parse_address(urlsplit(address.url)) == address


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://B",
        "s3://bucket/ä",
        "s3://bucket/a?endpoint=ftp://x",
        "s3://bucket/a?endpoint=http://user:hunter2@x",
        "s3://bucket/a?region=x/y",
        "s3://bucket/a?secret=hunter2",
        "s3://bucket/a?timeout=5",
        "s3://key:hunter2@bucket/a",
        "s3://bucket/a#hunter2",
    ],
)
def test_malformed_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="s3:") as caught:
        parse_address(urlsplit(url))
    assert "hunter2" not in caught.value.message


def test_state_survives_json() -> None:
    state = State(
        parts=Parts("ab/x-1", "id", ((1, 5), (9, 9)), 100), tail=Piece("ab/x-2.tail", 7), first=10, free=138,
        opened=True, littered=True, sealed=True, stale=("ab/x-3",),
    )  # fmt: skip
    assert State.from_json(state.to_json()) == state
    assert State.from_json({}) == State()
    assert State().length == 0


async def test_lists_of_several_pages_are_read_to_their_end(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has a thousand entries: every blob of more than a thousand parts has several of them."""
    original = S3Client._attempt
    limits = {"list_parts": "MaxParts", "list_objects_v2": "MaxKeys", "list_multipart_uploads": "MaxUploads"}

    def of_two(self: S3Client, client: object, operation: str, arguments: dict[str, object]) -> dict[str, Any]:
        more = {limits[operation]: 2} if operation in limits else {}
        return original(self, client, operation, arguments | more)

    monkeypatch.setattr(S3Client, "_attempt", of_two)
    content = os.urandom(5 * PART + 3)
    completed = [await complete(store, await append(store, await store.begin(), content)) for _ in range(3)]
    assert await store.read(completed[0].key, 0, completed[0].length) == content
    unfinished = [await append(store, await store.begin(), content) for _ in range(3)]
    for staged in completed:
        await store.settle(staged)
    whole = [each.key async for each in store.walk() if each.complete]
    assert {each.key for each in completed} <= set(whole)
    for staged in unfinished:
        await store.abort(staged)
    assert sorted([each.key async for each in store.walk()]) == sorted(each.key for each in completed)
