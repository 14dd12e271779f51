"""What the registry promises beyond the contract: a second writer of an upload is shut out from the first byte."""

from __future__ import annotations

import pytest

from distsql.errors import UploadBusyError, UploadRangeError, UploadUnknownError
from distsql.registry.namespace import StoredNamespace


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
