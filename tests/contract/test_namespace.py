from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from distsql.contract import Namespace
from distsql.errors import NameInvalidError, NameUnknownError
from distsql.values import Caller
from tests.contract.covering import covers
from tests.registry.pushing import push_image

# Byte order of the full names: '-' and '.' come before '/', digits and letters behind it.
ORDERED = [
    "a-b/x",
    "a.b/x",
    "a/y",
    "a/y-z",
    "a/y/z",
    "a/y0",
    "a/yy",
    "a0/x",
    "ab/x",
    "library/x",
    "z/a/b/c",
    "z/a0",
]


async def make(namespace: Namespace, *names: str) -> None:
    for name in names:
        await (await namespace.repository(name).layers.upload()).close()


async def listed(names: AsyncIterator[str]) -> list[str]:
    return [name async for name in names]


@covers("Namespace.repository", "Repository.name")
def test_a_repository_is_known_by_its_full_name(namespace: Namespace) -> None:
    assert namespace.repository("acme/web").name == "acme/web"
    assert namespace.repository("web").name == "library/web"


@covers("Namespace.repository")
def test_a_malformed_name_is_refused(namespace: Namespace) -> None:
    for name in ("", "A/b", "a//b", "a/../b", "a/b\n", "a/%2e", "a/\0", "x" * 256):
        with pytest.raises(NameInvalidError):
            namespace.repository(name)


@covers("Namespace.repository")
def test_a_name_outside_the_scope_is_unknown(scoped: Callable[[str], Namespace]) -> None:
    assert scoped("acme").repository("acme/web").name == "acme/web"
    for name in ("other/web", "web", "acme-x/web"):
        with pytest.raises(NameUnknownError):
            scoped("acme").repository(name)


@covers("Namespace.repository", "Namespace.repositories")
async def test_a_reference_makes_nothing(namespace: Namespace) -> None:
    repository = namespace.repository("acme/web")
    assert not await repository.exists()
    assert await listed(namespace.repositories()) == []


@covers("Namespace.repositories")
async def test_repositories_come_in_byte_order_of_their_full_names(namespace: Namespace) -> None:
    assert sorted(ORDERED) == ORDERED
    await make(namespace, *reversed(ORDERED))
    assert await listed(namespace.repositories()) == ORDERED


@covers("Namespace.repositories")
async def test_a_listing_begins_behind_any_text(namespace: Namespace) -> None:
    await make(namespace, *ORDERED)
    texts = [*ORDERED, "a", "a-", "a/", "a/y/", "ab", "a/z", "library", "x", "zz", "A", "é", "a\0/", "a/y\U0001f600"]
    for after in texts:
        expected = [name for name in ORDERED if name.encode() > after.encode()]
        assert await listed(namespace.repositories(after=after)) == expected, after


@covers("Namespace.repositories")
async def test_a_listing_is_cut_at_its_limit(namespace: Namespace) -> None:
    await make(namespace, *ORDERED)
    for limit in range(len(ORDERED) + 2):
        assert await listed(namespace.repositories(limit=limit)) == ORDERED[:limit]
        assert await listed(namespace.repositories(after="a/y", limit=limit)) == ORDERED[3:][:limit]


@covers("Namespace.repositories")
async def test_listings_are_re_entrant(namespace: Namespace) -> None:
    await make(namespace, *ORDERED)
    first, second = namespace.repositories(), namespace.repositories(after="a/y")
    seen: list[str] = []
    async for name in first:
        seen.append(name)
        if len(seen) <= len(ORDERED) - 3:
            assert await anext(second) == ORDERED[2 + len(seen)]
        assert await listed(namespace.repositories(after=name)) == ORDERED[len(seen) :]
    assert seen == ORDERED


@covers("Namespace.repositories")
async def test_a_listing_goes_on_behind_a_name_that_is_gone(namespace: Namespace) -> None:
    await make(namespace, *ORDERED)
    names = namespace.repositories()
    seen = [await anext(names)]
    for name in ORDERED[:7]:
        await namespace.repository(name).remove()
    await make(namespace, "zz/new")
    seen += await listed(names)
    assert seen[-6:] == [*ORDERED[7:], "zz/new"]
    assert seen == sorted(set(seen))


@covers("Namespace.repositories")
async def test_a_scoped_listing_has_one_tenants_names(namespace: Namespace, scoped: Callable[[str], Namespace]) -> None:
    await make(namespace, *ORDERED)
    own = ["a/y", "a/y-z", "a/y/z", "a/y0", "a/yy"]
    for after in ["", "a", "a-", "a/", "a/y", "a/y/", "a/y0", "a0", "b", "z/a", "A"]:
        expected = [name for name in own if name > after]
        assert await listed(scoped("a").repositories(after=after)) == expected, after
    assert await listed(scoped("a").repositories(limit=2)) == own[:2]
    assert await listed(scoped("nobody").repositories()) == []


@covers("Namespace.acting_as")
async def test_history_remembers_on_whose_behalf(namespace: Namespace) -> None:
    ann = namespace.acting_as(Caller(actor="ann", client_address="192.0.2.1"))
    await push_image(ann.repository("acme/web"), tags=["v1"])
    await namespace.acting_as(Caller(actor="bob")).repository("acme/web").tags.untag("v1")
    [move] = [move async for move in namespace.repository("acme/web").tags.history("v1")]
    assert (move.actor, move.ended_by) == ("ann", "bob")
    assert namespace.acting_as(Caller()).scope() == namespace.scope()
