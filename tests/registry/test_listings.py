"""What an account may list: what its grants are about, in the order of names, looked up and not sifted."""

from __future__ import annotations

import random
from itertools import product

from distsql.app import Registry
from distsql.oci.names import RepositoryName
from distsql.registry.authorities import Account, GrantedAuthority
from distsql.registry.grants import Grant, granted_actions, spans
from distsql.sql.transactions import Transaction
from distsql.values import Action, Caller
from tests.sql.rows import make_repository

PARTS = ["web", "web-x", "web.y", "api", "a"]
PATHS = sorted({"/".join(parts) for depth in (1, 2, 3) for parts in product(PARTS, repeat=depth)})
# Each kind of pattern, such as begin alike, and such as lie in one another.
PATTERNS = ["web", "web/*", "web/**", "*", "**", "*/api", "*/*", "web/*/a", "*/api/**", "web.y/a", "web-x/**", "a/*/**"]


def reader(*patterns: str) -> Caller:
    """An account that may pull there, and do other things elsewhere."""
    granted = [Grant("acme", pattern, frozenset({Action.PULL, Action.PUSH})) for pattern in patterns]
    others = Grant("acme", "**", frozenset({Action.PUSH, Action.DELETE}))
    account = Account((1, 1), "acme", "ci", None, 0, 0, (*granted, others))
    return Caller(authority=GrantedAuthority(account))


async def listed(registry: Registry, caller: Caller, *, after: str = "", limit: int | None = None) -> list[str]:
    return [name async for name in registry.namespace.acting_as(caller).repositories(after=after, limit=limit)]


async def test_as_the_patterns_say(registry: Registry) -> None:
    """For any patterns together, from any name on, in pages of any size: what matches, once, in byte order."""

    async def make(tx: Transaction) -> None:
        for path in PATHS:
            await make_repository(tx, f"acme/{path}")
        for name in ("acm/web", "acme-x/web", "acme0/web"):
            await make_repository(tx, name)

    await registry.backend.everything.transact(make)
    choose = random.Random(1)
    combinations = [[pattern] for pattern in PATTERNS] + [choose.sample(PATTERNS, 3) for _ in range(20)]
    for patterns in combinations:
        caller = reader(*patterns)
        grants = [Grant("acme", pattern, frozenset({Action.PULL})) for pattern in patterns]
        expected = [f"acme/{path}" for path in PATHS if granted_actions(grants, RepositoryName("acme", path))]
        assert await listed(registry, caller) == expected, patterns
        after, limit = f"acme/{choose.choice(PATHS)}", choose.randrange(1, 9)
        rest = [name for name in expected if name > after][:limit]
        assert await listed(registry, caller, after=after, limit=limit) == rest, (patterns, after, limit)
    for before in ("", "aaa", "acme", "acme-x/z", "acme/"):
        assert (await listed(registry, reader("web"), after=before)) == ["acme/web"], before
    for behind in ("acme0", "zeta", "acme/web"):
        assert await listed(registry, reader("web"), after=behind) == [], behind


async def test_who_may_pull_nothing_sees_nothing(registry: Registry) -> None:
    async def make(tx: Transaction) -> None:
        await make_repository(tx, "acme/web")

    await registry.backend.everything.transact(make)
    assert await listed(registry, reader()) == []
    assert await listed(registry, Caller(authority=GrantedAuthority(None))) == []


def test_what_lies_in_another_span_is_left_out() -> None:
    """Each gives a page: the fewer the better."""
    assert spans(["web/**", "web/api", "web/*", "web", "web/**"]) == spans(["web", "web/**"])
    assert len(spans(["**", "web", "*", "*/x", "web/x/**"])) == 1
    assert [span.likeness for span in spans(["*/a.b", "*"])] == ["^[^/]+$", "^[^/]+/a[.]b$"]
