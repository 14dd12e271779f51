"""The object store is full, slow, failing, away, dies in the middle; credentials expire. Each is told, and passes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from distsql.bytestore.s3 import S3Store
from distsql.bytestore.s3_address import parse_address
from distsql.errors import StoreFullError, StoreUnavailableError
from tests.bytestore.conftest import MIB, SMALL_PARTS
from tests.bytestore.steps import append, complete, found, writing
from tests.faultyproxy import FaultyProxy, one_in
from tests.objectstore import ObjectStore

PART = SMALL_PARTS.smallest


@pytest.fixture
async def store(object_store: ObjectStore, proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    """Reached through the proxy, and patient for a second only."""
    async with opened_store(object_store.url(endpoint=proxy.endpoint) + "&timeout=1s") as store:
        yield store
        proxy.reset()


@asynccontextmanager
async def opened_store(url: str) -> AsyncIterator[S3Store]:
    store = S3Store(parse_address(urlsplit(url)), sizes=SMALL_PARTS)
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize(("status", "code"), [(507, "InsufficientStorage"), (403, "QuotaExceeded")])
async def test_full_store_is_told_and_uploads_go_on_when_there_is_room(
    store: S3Store, proxy: FaultyProxy, status: int, code: str
) -> None:
    staged = await append(store, await store.begin(), content := os.urandom(PART + 10))
    staged = await store.claim(staged)
    proxy.fault = lambda head: (status, code) if head.startswith((b"PUT", b"POST")) else None
    with pytest.raises(StoreFullError) as caught:
        await append(store, staged, os.urandom(2 * PART))
    assert caught.value.retry_after > 0
    proxy.reset()
    completed = await complete(store, await append(store, staged, b"rest"))
    assert await store.read(completed.key, 0, completed.length) == content + b"rest"


async def test_one_request_in_ten_fails_and_nobody_notices(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = one_in(10)
    contents = [os.urandom(length) for length in (10, PART + 3, 2 * PART, 700)]
    for content in contents:
        completed = await complete(store, await append(store, await store.begin(), content))
        assert await store.read(completed.key, 0, completed.length) == content
        await store.settle(completed)
        assert len(await found(store, completed)) == 1
    assert proxy.requests > 20


async def test_slow_store_is_waited_for(store: S3Store, proxy: FaultyProxy) -> None:
    """Each answer comes late, an object's bytes over several times what silence is suffered; others are served."""
    content = os.urandom(2 * PART + 5)
    proxy.pause_s = 0.5
    completed = await complete(store, await append(store, await store.begin(), content))
    proxy.pause_s, proxy.piece = 0.3, 40_000
    reading = asyncio.create_task(store.read(completed.key, 0, 300_000))
    ticks = 0
    while not reading.done():
        await asyncio.sleep(0.02)
        ticks += 1
    assert await reading == content[:300_000]
    assert ticks > 60  # longer than the second after which silence is given up


async def test_silent_store_is_given_up_in_bounded_time_beside_others(store: S3Store, proxy: FaultyProxy) -> None:
    completed = await complete(store, await append(store, await store.begin(), b"some bytes"))
    proxy.silent = True
    asked = proxy.requests
    ticks, waiting = 0, asyncio.create_task(store.read(completed.key, 0, 5))
    while not waiting.done() and ticks < 2000:
        await asyncio.sleep(0.02)  # the event loop serves others meanwhile
        ticks += 1
    with pytest.raises(StoreUnavailableError, match="silent") as caught:
        await waiting
    assert caught.value.retry_after > 0
    assert ticks > 20
    assert proxy.requests == asked + 2  # other failures are tried four times
    proxy.reset()
    assert await store.read(completed.key, 0, 4) == b"some"


async def test_store_that_was_away_is_used_again_by_itself(store: S3Store, proxy: FaultyProxy) -> None:
    staged = await append(store, await store.begin(), content := os.urandom(PART + 1))
    staged = await store.claim(staged)
    proxy.away = True
    proxy.break_off()
    with pytest.raises(StoreUnavailableError):
        await append(store, staged, b"lost")
    with pytest.raises(StoreUnavailableError):
        await store.length((await store.begin()).key + "-00000000")
    proxy.reset()
    completed = await complete(store, await append(store, staged, b"rest"))
    assert await store.read(completed.key, 0, completed.length) == content + b"rest"


async def test_part_that_breaks_off_is_sent_again(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.cut_requests_after, proxy.cuts = 2 * MIB, 2
    completed = await complete(store, await append(store, await store.begin(), content := os.urandom(PART + 1)))
    assert proxy.cuts == 0
    assert await store.read(completed.key, 0, completed.length) == content


async def test_stream_that_breaks_off_goes_on_behind_what_was_had(store: S3Store, proxy: FaultyProxy) -> None:
    completed = await complete(store, await append(store, await store.begin(), content := os.urandom(2 * PART)))
    proxy.cut_answers_after, proxy.cuts = 3 * MIB, 2
    got = b"".join([piece async for piece in store.stream(completed.key, 5, completed.length)])
    assert proxy.cuts == 0
    assert got == content[5:]


async def test_stream_that_breaks_off_for_good_is_an_error_and_not_an_end(store: S3Store, proxy: FaultyProxy) -> None:
    completed = await complete(store, await append(store, await store.begin(), content := os.urandom(2 * PART)))
    got = b""
    with pytest.raises(StoreUnavailableError):  # noqa: PT012 - what came before is looked at
        async for piece in store.stream(completed.key, 0, completed.length):
            got += piece
            proxy.away = True
            proxy.break_off()
    assert content.startswith(got)
    assert len(got) < len(content)


Credentials = Callable[..., None]


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Credentials:
    """Writes the file that the store's credentials are read from, which may be looked at each time."""
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setattr("distsql.bytestore.s3_client._RENEWAL_S", 0.0)
    monkeypatch.setattr("distsql.bytestore.s3_client._LOOK_S", 0.0)

    def write(access_key: str, secret_key: str, *more: str) -> None:
        lines = "[default]", f"aws_access_key_id = {access_key}", f"aws_secret_access_key = {secret_key}", *more
        file.write_text("\n".join(lines))

    return write


async def test_credentials_that_are_renewed_are_found_without_a_restart(
    object_store: ObjectStore, credentials: Credentials
) -> None:
    credentials("gone", "hunter2")
    store = S3Store(parse_address(urlsplit(object_store.url())), sizes=SMALL_PARTS)
    with pytest.raises(StoreUnavailableError, match="refuses our credentials") as caught:
        await store.open()
    assert "hunter2" not in caught.value.message
    credentials(object_store.access_key, object_store.secret_key)
    staged = await append(store, await store.begin(), b"renewed")
    assert await store.length((await complete(store, staged)).key) == 7
    await store.close()


async def test_addresses_are_signed_with_renewed_credentials(
    object_store: ObjectStore, credentials: Credentials, tmp_path: Path
) -> None:
    """By whoever only redirects, too: no request of its own is ever refused."""
    credentials(object_store.access_key, object_store.secret_key)
    async with opened_store(object_store.url()) as store:
        completed = await complete(store, await append(store, await store.begin(), b"bytes"))
        credentials("another", "key")
        assert await signer(store, completed.key) == "another"
        for unusable in ("[default]\naws_access_key_id = half\n", "nonsense", ""):
            (tmp_path / "credentials").write_text(unusable)
            assert await signer(store, completed.key) == "another"
        credentials(object_store.access_key, object_store.secret_key)
        assert await signer(store, completed.key) == object_store.access_key


async def signer(store: S3Store, key: str) -> str:
    """Whose key the object's address is signed with."""
    address = await store.redirect_url(key, expires_s=60)
    assert address is not None
    return parse_qs(urlsplit(address).query)["X-Amz-Credential"][0].partition("/")[0]


async def test_a_part_whose_credentials_were_refused_is_sent_again_whole(
    object_store: ObjectStore, proxy: FaultyProxy, credentials: Credentials
) -> None:
    """The client library has read the part by the time of the refusal."""
    credentials(object_store.access_key, object_store.secret_key)
    sent = []

    def expire_once(head: bytes) -> tuple[int, str] | None:
        if not re.match(rb"PUT \S+partNumber=1\b", head):
            return None
        sent.append(head)
        # Others, and the store takes them as well: it isn't told of the account.
        credentials(object_store.access_key, object_store.secret_key, "aws_account_id = 210987654321")
        return (400, "ExpiredToken") if len(sent) == 1 else None

    credentials(object_store.access_key, object_store.secret_key)
    async with opened_store(object_store.url(endpoint=proxy.endpoint) + "&timeout=5s") as store:
        proxy.fault = expire_once
        completed = await complete(store, await append(store, await store.begin(), content := os.urandom(PART + 1)))
        assert len(sent) == 2  # else what came first was not the part, and only a timeout helped
        assert await store.read(completed.key, 0, completed.length) == content


async def test_expired_credentials_are_told_and_lose_nothing(store: S3Store, proxy: FaultyProxy) -> None:
    staged = await append(store, await store.begin(), content := os.urandom(PART + 1))
    staged = await store.claim(staged)
    proxy.fault = lambda _head: (400, "ExpiredToken")
    with pytest.raises(StoreUnavailableError, match="ExpiredToken"):
        await append(store, staged, b"lost")
    proxy.reset()
    completed = await complete(store, await append(store, staged, b"rest"))
    assert await store.read(completed.key, 0, completed.length) == content + b"rest"


async def test_nothing_half_written_shows(store: S3Store, proxy: FaultyProxy) -> None:
    """The answer to completing is lost each time: it is either whole or not there, and the next one finds out."""
    staged = await append(store, await store.begin(), content := os.urandom(PART + 1))
    async with writing(store, staged) as writer:
        sealed = await writer.seal()
        assert sealed is not None
        proxy.fault = lambda head: (503, "SlowDown") if head.startswith(b"POST") else None
        with pytest.raises(StoreUnavailableError, match="SlowDown"):
            await writer.complete()
    proxy.reset()
    assert not [item for item in await found(store, staged) if item.complete]
    completed = await complete(store, sealed)
    assert await store.read(completed.key, 0, completed.length) == content
