"""What the registry promises beyond the contract: a second writer of an upload is shut out from the first byte."""

from __future__ import annotations

import pytest

from distsql.errors import ReadOnlyError, UploadBusyError, UploadRangeError, UploadUnknownError
from distsql.oci.digest import Digest
from distsql.registry import uploads
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.registry.tenants import Tenants
from distsql.registry.uploads import Upload
from distsql.values import Caller


async def test_while_one_writes_the_other_is_refused_at_once(namespace: StoredNamespace) -> None:
    layers = namespace.repository("acme/web").layers
    mine = await layers.upload()
    yours = await layers.resume(mine.uuid)
    await mine.write(b"mine")
    for _ in range(2):
        with pytest.raises(UploadBusyError):
            await yours.write(b"yours")
        assert yours.tell() == 0
    await yours.close()
    await mine.close()
    assert (await layers.resume(mine.uuid)).tell() == 4


async def test_who_comes_second_or_late_learns_it_with_the_first_byte(namespace: StoredNamespace) -> None:
    layers = namespace.repository("acme/web").layers
    mine = await layers.upload()
    async with await layers.resume(mine.uuid) as yours:
        await yours.write(b"yours")
    with pytest.raises(UploadRangeError) as refusal:
        await mine.write(b"mine")
    assert refusal.value.offset == 5
    late = await layers.resume(mine.uuid)
    await yours.cancel()
    with pytest.raises(UploadUnknownError):
        await late.write(b"late")


async def test_who_was_faster_to_finish_keeps_the_blob(namespace: StoredNamespace) -> None:
    """Bytes of a blob are never taken back for a session that has ended, whether who is late adds any or not."""
    layers = namespace.repository("acme/web").layers
    digest = Digest.of(b"mine")
    mine = await layers.upload()
    await mine.write(b"mine")
    await mine.close()
    adding, ending = [await layers.resume(mine.uuid) for _ in range(2)]
    await mine.finish(digest)
    with pytest.raises(UploadUnknownError):
        await adding.write(b"more")
    with pytest.raises(UploadUnknownError):
        await ending.finish(digest)
    async with await layers.fetch(digest) as layer:
        assert await layer.read() == b"mine"


async def test_between_two_writers_nobody_asks_the_catalogue_who_was_faster(
    namespace: StoredNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store shows it: the object is as long as the session says."""

    async def ask(_: Upload) -> None:
        raise AssertionError("asked")

    layers = namespace.repository("acme/web").layers
    mine = await layers.upload()
    await mine.write(b"mi")
    await mine.close()
    monkeypatch.setattr(Upload, "_check_newest", ask)
    yours = await layers.resume(mine.uuid)
    await yours.write(b"ne")
    await yours.close()
    await (await layers.resume(mine.uuid)).finish(Digest.of(b"mine"))


async def test_what_a_session_says_of_switches_is_believed_once_and_not_for_long(
    backend: Backend, namespace: StoredNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = namespace.repository("acme/web").layers
    mine, yours = [await layers.resume((await layers.upload()).uuid) for _ in range(2)]
    await mine.write(b"mi")
    await mine.close()
    await Tenants(backend.everything, Caller()).set("acme", {"read_only": True})
    with pytest.raises(ReadOnlyError):
        await mine.write(b"ne")
    monkeypatch.setattr(uploads, "_RECENT_S", 0)
    with pytest.raises(ReadOnlyError):
        await yours.write(b"yours")
