"""Several writers or several ends of one upload session at the same time: one wins, and the content is the winner's."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from distsql.contract import Layer, LayerUpload, Namespace, Repository
from distsql.errors import DigestInvalidError, UploadBusyError, UploadRangeError, UploadUnknownError
from distsql.oci.digest import Digest
from tests.contract.covering import covers
from tests.contract.test_layers import content_of
from tests.contract.test_uploads import LARGE, begun

MINE, YOURS = b"mine" * 1000, b"yours" * 1000


async def stands(namespace: Namespace, uuid: UUID) -> int:
    return (await namespace.repository("acme/web").layers.resume(uuid)).tell()


async def add(upload: LayerUpload, content: bytes) -> None:
    """Writes it, and has it remembered: by then everything that is wrong is told."""
    await upload.write(content)
    await upload.close()


async def remembered(upload: LayerUpload, content: bytes) -> bool:
    """Whether the content was added, or another writer is ahead."""
    try:
        await upload.write(content)
        await upload.close()
    except (UploadBusyError, UploadRangeError):
        return False
    return True


@covers("LayerUpload.write", "LayerUpload.close")
async def test_of_two_who_have_begun_to_write_one_is_refused(repository: Repository, elsewhere: Namespace) -> None:
    mine = await repository.layers.upload()
    yours = await elsewhere.repository("acme/web").layers.resume(mine.uuid)
    await mine.write(MINE)
    yours_won = await remembered(yours, YOURS)
    assert await remembered(mine, b"") != yours_won
    await (mine if yours_won else yours).close()
    assert await stands(elsewhere, mine.uuid) == len(YOURS if yours_won else MINE)
    assert (mine if yours_won else yours).tell() == 0


@covers("LayerUpload.write")
async def test_who_comes_second_learns_that_the_other_was_faster(repository: Repository, elsewhere: Namespace) -> None:
    mine = await repository.layers.upload()
    async with await elsewhere.repository("acme/web").layers.resume(mine.uuid) as yours:
        await yours.write(YOURS)
    for _ in range(2):
        with pytest.raises(UploadRangeError) as refusal:
            await add(mine, MINE)
        assert refusal.value.offset == len(YOURS)
    await mine.close()
    async with await repository.layers.resume(mine.uuid) as again:
        await again.write(MINE)
        await again.finish(Digest.of(YOURS + MINE))
    assert await content_of(repository, Digest.of(YOURS + MINE)) == YOURS + MINE


@covers("LayerUpload.write", "LayerUpload.finish")
async def test_a_session_that_was_closed_may_be_anothers_meanwhile(
    repository: Repository, elsewhere: Namespace
) -> None:
    mine = await begun(repository, MINE)
    async with await elsewhere.repository("acme/web").layers.resume(mine.uuid) as yours:
        await yours.write(YOURS)
    with pytest.raises(UploadRangeError):
        await add(mine, MINE)
    # Without bytes of its own it may not notice the others before it looks at the whole.
    with pytest.raises((UploadRangeError, DigestInvalidError)):
        await mine.finish(Digest.of(MINE))
    async with await elsewhere.repository("acme/web").layers.resume(mine.uuid) as yours:
        await yours.finish(Digest.of(MINE + YOURS))
    assert await content_of(repository, Digest.of(MINE + YOURS)) == MINE + YOURS


async def append(upload: LayerUpload, content: bytes) -> bytes:
    async with upload:
        await upload.write(content)
    return content


@covers("LayerUpload.write", "LayerService.resume")
async def test_of_two_writers_one_wins(repository: Repository, elsewhere: Namespace) -> None:
    for _ in range(5):
        uuid = (await begun(repository, b"start")).uuid
        sessions = [await each.layers.resume(uuid) for each in (repository, elsewhere.repository("acme/web"))]
        outcomes = await asyncio.gather(
            *(append(session, content) for session, content in zip(sessions, (MINE, YOURS * 200), strict=True)),
            return_exceptions=True,
        )
        [winner] = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
        [loser] = [outcome for outcome in outcomes if not isinstance(outcome, bytes)]
        assert isinstance(loser, UploadBusyError | UploadRangeError)
        async with await repository.layers.resume(uuid) as upload:
            assert upload.tell() == len(b"start" + winner)
            await upload.finish(Digest.of(b"start" + winner))


@covers("LayerUpload.finish", "LayerService.resume")
async def test_of_several_ends_one_wins(repository: Repository, elsewhere: Namespace) -> None:
    digest = Digest.of(MINE)
    for _ in range(5):
        uuid = (await begun(repository, MINE)).uuid
        both = [repository, elsewhere.repository("acme/web")] * 2
        sessions = [await each.layers.resume(uuid) for each in both]
        outcomes = await asyncio.gather(*(each.finish(digest) for each in sessions), return_exceptions=True)
        [won] = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert won.digest == digest
        assert all(isinstance(each, UploadBusyError | UploadUnknownError) for each in lost), lost
        assert await content_of(repository, digest) == MINE
        await repository.layers.delete(digest)


@covers("LayerUpload.cancel", "LayerUpload.write", "LayerUpload.close")
async def test_a_writer_learns_that_the_session_was_cancelled(repository: Repository, elsewhere: Namespace) -> None:
    for content in (b"", MINE, LARGE):
        mine = await begun(repository, content)
        yours = await elsewhere.repository("acme/web").layers.resume(mine.uuid)
        late = await repository.layers.resume(mine.uuid)
        await mine.write(LARGE)
        await yours.cancel()
        with pytest.raises(UploadUnknownError):
            await mine.close()
        with pytest.raises(UploadUnknownError):
            await add(late, MINE)


@covers("LayerUpload.cancel", "LayerUpload.finish")
async def test_of_an_end_and_a_cancellation_one_wins(repository: Repository, elsewhere: Namespace) -> None:
    digest = Digest.of(MINE)
    for _ in range(5):
        mine = await begun(repository, MINE)
        yours = await elsewhere.repository("acme/web").layers.resume(mine.uuid)
        outcomes = await asyncio.gather(mine.finish(digest), yours.cancel(), return_exceptions=True)
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(each) for each in lost] == [UploadUnknownError]
        finished = not isinstance(outcomes[0], BaseException)
        assert await repository.layers.exists(digest) == finished
        if finished:
            assert await content_of(repository, digest) == MINE
            await repository.layers.delete(digest)


async def upload_whole(repository: Repository, content: bytes) -> Layer:
    async with await repository.layers.upload() as upload:
        await upload.write(content)
        return await upload.finish(Digest.of(content))


@covers("LayerUpload.finish")
async def test_many_sessions_of_the_same_content_at_once(repository: Repository, elsewhere: Namespace) -> None:
    both = [repository, elsewhere.repository("acme/web"), elsewhere.repository("acme/other")] * 3
    layers = await asyncio.gather(*(upload_whole(each, LARGE) for each in both))
    assert {layer.digest for layer in layers} == {Digest.of(LARGE)}
    for layer in layers:
        assert await layer.read() == LARGE
        await layer.close()
