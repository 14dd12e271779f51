"""What tests of byte stores do again and again."""

from __future__ import annotations

from distsql.bytestore.contract import ByteStore, Staged


async def complete(store: ByteStore, staged: Staged) -> Staged:
    """Makes what was flushed readable, as a process does that comes to it later."""
    async with store.writer(staged) as writer:
        return await writer.complete()
