"""Pushes that began before their repository was removed."""

from __future__ import annotations

import asyncio

import pytest

from distsql.errors import ManifestReferencesUnknownError
from distsql.registry.admissions import Admission
from distsql.registry.context import RepositoryContext
from distsql.registry.namespace import StoredNamespace
from distsql.values import Action
from tests.registry.pushing import push_image


async def test_a_manifest_that_is_pushed_again_asks_for_the_repository_of_now(
    namespace: StoredNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds itself in the removed repository, and nowhere under the name: it must not go on asking for ever."""
    web = namespace.repository("acme/web")
    manifest = await push_image(web, b"layer")
    original = RepositoryContext.admit
    known = [await web.manifests._context.admit()]
    await web.remove()

    async def admit(self: RepositoryContext, action: Action = Action.PUSH) -> Admission:
        return known.pop() if known else await original(self, action)

    monkeypatch.setattr(RepositoryContext, "admit", admit)
    async with asyncio.timeout(10):
        with pytest.raises(ManifestReferencesUnknownError):
            await web.manifests.put(manifest)
