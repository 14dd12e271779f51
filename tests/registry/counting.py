"""Pulls as far as reports show them: written down, and added up."""

from __future__ import annotations

from distsql.app import Registry
from distsql.registry.pulls import add_up


async def count_pulls(registry: Registry) -> None:
    """All that the registry remembers, and whatever else nobody has added up yet."""
    await registry.pulls.flush()
    await add_up(registry.backend.everything)
