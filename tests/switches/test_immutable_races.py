"""An immutable tag is made once, however many try at the same time (CVE-2026-31801)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from distsql.contract import Repository
from distsql.errors import TagImmutableError
from distsql.registry.context import Backend
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.registry.pushing import image, push_image
from tests.registry.recounts import use_of
from tests.registry.soundness import namespace_of, opened

WRITERS = 16
ADMINISTRATOR = Caller(actor="administrator")


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[Backend]:
    async with opened(database_url, pool_size=WRITERS) as machinery:
        yield machinery


@pytest.fixture
async def web(backend: Backend) -> Repository:
    tenants = Tenants(backend.everything, ADMINISTRATOR)
    await tenants.create("acme")
    await tenants.set("acme", {"immutable_tags": ["v*"]})
    repository = namespace_of(backend).repository("acme/web")
    await push_image(repository, b"layer", tags=["latest"])
    return repository


async def test_of_many_who_make_a_tag_one_wins(backend: Backend, web: Repository) -> None:
    manifests = [image(b"layer", number=str(number)) for number in range(WRITERS)]
    for round_ in range(8):
        tag = f"v{round_}"
        done = await asyncio.gather(*(web.manifests.put(each, [tag]) for each in manifests), return_exceptions=True)
        won = [each for each in done if not isinstance(each, BaseException)]
        assert [type(each) for each in done if isinstance(each, BaseException)] == [TagImmutableError] * (WRITERS - 1)
        assert [(await web.tags.get(tag)).digest] == won
        assert [move.digest async for move in web.tags.history(tag)] == won
    await use_of(backend, "acme")


async def test_a_refused_push_leaves_neither_its_manifest_nor_its_other_tags(web: Repository) -> None:
    await web.manifests.put(image(b"layer", number="1"), ["v1"])
    refused = image(b"layer", number="2")
    with pytest.raises(TagImmutableError, match="v1"):
        await web.manifests.put(refused, ["v1", "v2", "latest"])
    assert not await web.manifests.exists(refused.digest)
    assert not await web.manifests.exists_by_tag("v2")
    assert (await web.tags.get("latest")).digest != refused.digest


async def test_pushing_the_same_again_changes_nothing(web: Repository) -> None:
    manifest = image(b"layer", number="1")
    await web.manifests.put(manifest, ["v1"])
    await web.manifests.put(manifest, ["v1"])
    await web.tags.tag("v1", manifest.digest)
    assert len([move async for move in web.tags.history("v1")]) == 1


async def test_a_pattern_holds_for_tags_that_were_there_before(backend: Backend, web: Repository) -> None:
    await RepositoryAdministration(backend.everything, ADMINISTRATOR).set("acme/web", {"immutable_tags": ["late*"]})
    with pytest.raises(TagImmutableError):
        await web.tags.untag("latest")
    assert await web.manifests.exists_by_tag("latest")
