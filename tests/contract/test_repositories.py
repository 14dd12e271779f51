from __future__ import annotations

import pytest

from distsql.contract import Namespace, Repository
from distsql.errors import (
    BlobUnknownError,
    ManifestUnknownError,
    NameUnknownError,
    TagUnknownError,
    UploadUnknownError,
)
from distsql.oci.digest import Digest
from tests.contract.covering import covers
from tests.registry.pushing import CONFIG, push_blob, push_image


@covers("Repository.name", "Repository.manifests", "Repository.tags", "Repository.layers", "Repository.signatures")
async def test_its_services_are_those_of_one_repository(repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"])
    assert repository.name == "acme/web"
    assert await repository.manifests.exists(manifest.digest)
    assert await repository.layers.exists(Digest.of(b"layer"))
    assert (await repository.tags.get("v1")).digest == manifest.digest
    assert list(await repository.signatures.get(manifest.digest)) == []


@covers("Repository.exists")
async def test_it_comes_to_be_with_the_first_write(namespace: Namespace, elsewhere: Namespace) -> None:
    repository = namespace.repository("acme/web")
    assert not await repository.exists()
    await push_blob(repository, b"x")
    assert await repository.exists()
    assert await elsewhere.repository("acme/web").exists()
    assert not await namespace.repository("acme/web/deep").exists()
    assert not await namespace.repository("acme/we").exists()


@covers("Namespace.repository")
async def test_one_component_is_the_librarys(namespace: Namespace) -> None:
    await push_image(namespace.repository("web"), tags=["v1"])
    assert await namespace.repository("library/web").manifests.exists_by_tag("v1")
    assert [name async for name in namespace.repositories()] == ["library/web"]


@covers("Repository.remove", "Repository.exists")
async def test_removing_takes_everything_in_it(repository: Repository, elsewhere: Namespace) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1", "v2"])
    await repository.signatures.put(manifest.digest, b"signed")
    upload = await repository.layers.upload()
    await repository.remove()
    for each in (repository, elsewhere.repository("acme/web")):
        assert not await each.exists()
        assert not await each.manifests.exists(manifest.digest)
        assert not await each.layers.exists(Digest.of(CONFIG))
        with pytest.raises(NameUnknownError):
            await each.manifests.get(manifest.digest)
        with pytest.raises(NameUnknownError):
            await each.tags.get("v1")
        with pytest.raises(UploadUnknownError):
            await each.layers.resume(upload.uuid)
    assert [name async for name in elsewhere.repositories()] == []


@covers("Repository.remove")
async def test_others_keep_what_they_share_with_it(namespace: Namespace, repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"])
    other = namespace.repository("acme/other")
    await push_image(other, b"layer", tags=["v1"])
    await repository.remove()
    assert (await other.manifests.get_by_tag("v1")).digest == manifest.digest
    async with await other.layers.fetch(Digest.of(b"layer")) as layer:
        assert await layer.read() == b"layer"


@covers("Repository.remove")
async def test_what_was_removed_doesnt_come_back_with_the_name(repository: Repository) -> None:
    manifest = await push_image(repository, b"layer", tags=["v1"])
    await repository.remove()
    await push_blob(repository, b"new")
    assert [tag async for tag in repository.tags.list()] == []
    assert [move async for move in repository.tags.history("v1")] == []
    assert [each async for each in repository.manifests.all()] == []
    with pytest.raises(ManifestUnknownError):
        await repository.manifests.get(manifest.digest)
    with pytest.raises(TagUnknownError):
        await repository.tags.get("v1")
    with pytest.raises(BlobUnknownError):
        await repository.layers.fetch(Digest.of(b"layer"))


@covers("Repository.remove")
async def test_what_doesnt_exist_cant_be_removed(repository: Repository) -> None:
    with pytest.raises(NameUnknownError):
        await repository.remove()
    await push_blob(repository, b"x")
    await repository.remove()
    with pytest.raises(NameUnknownError):
        await repository.remove()
