"""The machinery of a registry, for tests that work below its application."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from distsql.registry.context import Backend
from tests.registry.soundness import opened


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[Backend]:
    """Of a process of its own, over a store in memory."""
    async with opened(database_url) as machinery:
        yield machinery
