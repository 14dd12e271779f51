"""A mount needs to read its source by the token's scope: all else is as if the content existed nowhere."""

from __future__ import annotations

import pytest

from distsql.oci.digest import Digest
from tests.access.conftest import World

CONTENT = Digest.of(b"content")


@pytest.fixture
async def pushed(world: World) -> World:
    for name in ("acme/source", "acme/target", "other/source"):
        await world.push(name, b"content" if "source" in name else b"other")
    await world.make("acme/ci", "acme/**:pull,push")
    await world.make("acme/narrow", "acme/target:pull,push")
    return world


async def mount(world: World, header: dict[str, str], source: str | None, digest: Digest = CONTENT) -> int:
    more = f"&from={source}" if source else ""
    return await world.status("POST", f"/v2/acme/target/blobs/uploads/?mount={digest}{more}", header)


async def test_within_the_tokens_scope(pushed: World) -> None:
    header = await pushed.token("acme/ci", "repository:acme/target:pull,push", "repository:acme/source:pull")
    assert await mount(pushed, header, "acme/source") == 201


async def test_without_a_source_where_the_token_reads(pushed: World) -> None:
    """PROTOCOL 2.12."""
    header = await pushed.token("acme/ci", "repository:acme/target:push", "repository:acme/source:pull")
    assert await mount(pushed, header, None) == 201


async def test_a_narrow_token_of_a_powerful_account(pushed: World) -> None:
    """CVE-2026-117685: what the account could do elsewhere is nothing that this token can. Nowhere is the same."""
    for scopes in (
        ["repository:acme/target:pull,push"],
        ["repository:acme/target:pull,push", "repository:acme/source:push"],
    ):
        header = await pushed.token("acme/ci", *scopes)
        assert await mount(pushed, header, "acme/source") == 202
        assert await mount(pushed, header, None) == 202
        assert await mount(pushed, header, "acme/nowhere") == 202
        assert await mount(pushed, header, "acme/source", Digest.of(b"nowhere")) == 202
    assert await pushed.status("HEAD", f"/v2/acme/target/blobs/{CONTENT}", header) == 404


async def test_by_the_accounts_secret(pushed: World) -> None:
    """By its grants: from where it may pull, and nowhere else."""
    assert await mount(pushed, pushed.basic("acme/narrow"), "acme/source") == 202
    assert await mount(pushed, pushed.basic("acme/narrow"), None) == 202
    assert await mount(pushed, pushed.basic("acme/ci"), "other/source") == 202
    assert await mount(pushed, pushed.basic("acme/ci"), "acme/source") == 201


async def test_the_extension_mounts_alike(pushed: World) -> None:
    """Where a mount that can't be is 404."""
    path = f"/v2/acme/target/_distsql/blobs/{CONTENT}?from=acme/source"
    narrow = await pushed.token("acme/ci", "repository:acme/target:pull,push")
    assert await pushed.status("PUT", path, narrow) == 404
    wide = await pushed.token("acme/ci", "repository:acme/target:push", "repository:acme/source:pull")
    assert await pushed.status("PUT", path, wide) == 201


async def test_not_from_a_repository_that_got_the_name_later(pushed: World) -> None:
    header = await pushed.token("acme/ci", "repository:acme/target:pull,push", "repository:acme/source:pull")
    await pushed.repository("acme/source").remove()
    await pushed.push("acme/source", b"content")
    assert await mount(pushed, header, "acme/source") == 202
    assert await mount(pushed, header, None) == 202


async def test_public_is_readable_too(pushed: World) -> None:
    """Of the own tenant: blobs are shared within a tenant, never across."""
    await pushed.registry.namespace.repository("acme/source").set_public(public=True)
    await pushed.registry.namespace.repository("other/source").set_public(public=True)
    header = await pushed.token(
        "acme/narrow", "repository:acme/target:push", "repository:acme/source:pull", "repository:other/source:pull"
    )
    assert await mount(pushed, header, "other/source") == 202
    assert await mount(pushed, header, "acme/source") == 201
