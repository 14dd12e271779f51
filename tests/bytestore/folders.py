"""A byte store's folder, as tests that look into it see it."""

from __future__ import annotations

from pathlib import Path

from distsql.bytestore.contract import ByteStore, Staged


def finished(root: Path, key: str) -> Path:
    """Where an object is that can be read."""
    return root / "objects" / key


def unfinished(root: Path, key: str) -> Path:
    """Where one is that is being written."""
    return root / "staging" / key[3:]


async def append(store: ByteStore, staged: Staged, content: bytes) -> Staged:
    """Adds to it, as whoever has claimed it already."""
    async with store.writer(staged) as writer:
        await writer.write(content)
        return await writer.flush()
