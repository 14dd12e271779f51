"""Every method of the interfaces, called by tenant B with what tenant A has: nothing tells it from what is nowhere.

The members are read from contract.py: a new one without a case fails. HAZARDS.md: CVE-2024-39897, CVE-2026-35172,
CVE-2026-32589, as in test_routes.py.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import pytest

from distsql.contract import LayerUpload, Namespace, Repository
from distsql.errors import DistsqlError
from distsql.oci.digest import Digest
from distsql.oci.manifest import parse
from distsql.values import Action
from tests.contract.test_completeness import members
from tests.isolation.things import ENDED, KINDS, Stock
from tests.isolation.world import RIVAL, World


class Asked(NamedTuple):
    """What a case is about: one thing of the stock, in one repository."""

    namespace: Namespace
    stock: Stock
    kind: str
    name: str
    tag: str

    @property
    def repository(self) -> Repository:
        return self.namespace.repository(self.name)

    @property
    def digest(self) -> Digest:
        return self.stock.digest(self.kind)


Case = Callable[[Asked], Awaitable[object]]
CASES: Final[dict[str, list[Case]]] = {}

# Whoever has one of these was given it by a service, whose member is tested; what it tells is of its own.
GIVEN: Final = {
    *("Manifest", "Layer", "Closable"),
    *("LayerUpload.uuid", "LayerUpload.started_at", "LayerUpload.minimum_chunk", "LayerUpload.expires_at"),
    *("LayerUpload.seek", "LayerUpload.tell"),
    # Only lead to what is tested.
    *("Namespace.access", "Namespace.trust", "Namespace.index", "Namespace.acting_as"),
    *("Repository.manifests", "Repository.tags", "Repository.layers", "Repository.signatures"),
    "Repository.restorations",
}
_LATE: Final = datetime(2100, 1, 1, tzinfo=UTC)


def case(*covered: str) -> Callable[[Case], Case]:
    """A call that covers members of the interfaces."""

    def register(called: Case) -> Case:
        for member in covered:
            CASES.setdefault(member, []).append(called)
        return called

    return register


async def listed(items: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in items]


async def value(result: object) -> object:
    return result


for _member, _case in {
    "Scope.name": lambda asked: value(asked.namespace.scope().name),
    "Scope.contains": lambda asked: value(asked.namespace.scope().contains(asked.name)),
    "Namespace.scope": lambda asked: value(asked.namespace.scope()),
    "Namespace.repository": lambda asked: value(asked.repository.name),
    "Namespace.repositories": lambda asked: listed(asked.namespace.repositories(after=asked.name)),
    "Access.allows": lambda asked: asked.namespace.access.allows(asked.name, Action.PULL),
    "Trust.signatures": lambda asked: asked.namespace.trust.signatures(asked.name, asked.digest),
    "Index.holders": lambda asked: listed(asked.namespace.index.holders(asked.digest)),
    "Repository.name": lambda asked: value(asked.repository.name),
    "Repository.exists": lambda asked: asked.repository.exists(),
    "ManifestService.exists": lambda asked: asked.repository.manifests.exists(asked.digest),
    "ManifestService.get": lambda asked: asked.repository.manifests.get(asked.digest),
    "ManifestService.delete": lambda asked: asked.repository.manifests.delete(asked.digest, force=True),
    "ManifestService.referrers": lambda asked: listed(asked.repository.manifests.referrers(asked.digest)),
    "ManifestService.tags": lambda asked: listed(asked.repository.manifests.tags()),
    "ManifestService.exists_by_tag": lambda asked: asked.repository.manifests.exists_by_tag(asked.tag),
    "ManifestService.get_by_tag": lambda asked: asked.repository.manifests.get_by_tag(asked.tag),
    "TagService.get": lambda asked: asked.repository.tags.get(asked.tag),
    "TagService.tag": lambda asked: asked.repository.tags.tag("latest", asked.digest),
    "TagService.untag": lambda asked: asked.repository.tags.untag(asked.tag),
    "TagService.list": lambda asked: listed(asked.repository.tags.list(after=asked.tag)),
    "TagService.lookup": lambda asked: listed(asked.repository.tags.lookup(asked.digest)),
    "TagService.history": lambda asked: listed(asked.repository.tags.history(asked.tag)),
    "TagService.resolve": lambda asked: asked.repository.tags.resolve(asked.tag, at=_LATE),
    "LayerService.exists": lambda asked: asked.repository.layers.exists(asked.digest),
    "LayerService.fetch": lambda asked: asked.repository.layers.fetch(asked.digest),
    "LayerService.resume": lambda asked: asked.repository.layers.resume(asked.stock.uuid),
    "LayerService.delete": lambda asked: asked.repository.layers.delete(asked.digest, force=True),
    "RestorationService.deleted": lambda asked: asked.repository.restorations.deleted(),
    "RestorationService.restore_manifest": lambda asked: asked.repository.restorations.restore_manifest(asked.digest),
    "RestorationService.restore_tag": lambda asked: asked.repository.restorations.restore_tag(asked.tag),
    "RestorationService.restore_repository": lambda asked: asked.repository.restorations.restore_repository(),
    "SignatureService.get": lambda asked: asked.repository.signatures.get(asked.digest),
    "SignatureService.put": lambda asked: asked.repository.signatures.put(asked.digest, b"signature"),
}.items():
    case(_member)(_case)


@case("ManifestService.all")
async def read_all(asked: Asked) -> object:
    return [each.digest async for each in asked.repository.manifests.all()]


@case("Repository.remove")
async def remove(asked: Asked) -> None:
    if asked.name != f"{RIVAL}/web":
        await asked.repository.remove()


@case("RestorationService.roll_back")
async def roll_back(asked: Asked) -> object:
    for at in (None, _LATE):
        try:
            return await asked.repository.restorations.roll_back(asked.tag, at=at)
        except DistsqlError as error:
            last = error
    raise last


@case("ManifestService.put")
async def put_what_refers_to_it(asked: Asked) -> object:
    return await asked.repository.manifests.put(parse(asked.stock.parent(asked.kind)), [asked.tag])


@case("ManifestService.put")
async def put_the_same(asked: Asked) -> object:
    if asked.kind in asked.stock.manifests:
        return await asked.repository.manifests.put(asked.stock.parsed(asked.kind), [asked.tag])
    return None


@case("TagService.tag")
async def swap(asked: Asked) -> None:
    await asked.repository.tags.tag("web", Digest.of(b"nothing"), asked.digest)


@case("LayerService.mount")
async def mount(asked: Asked) -> object:
    for source in (None, asked.stock.name, f"{RIVAL}/{asked.stock.word}", f"{RIVAL}/web"):
        try:
            return await asked.repository.layers.mount(asked.digest, source)
        except DistsqlError as error:
            last = error
    raise last


@case("LayerService.upload", "LayerUpload.write", "LayerUpload.finish")
async def upload(asked: Asked) -> object:
    """B has to bring the bytes itself, and they are stored."""
    async with await asked.repository.layers.upload() as session:
        await session.write(asked.stock.contents[asked.kind])
        layer = await session.finish(asked.digest)
        return layer.length, await layer.read()


@case("LayerUpload.finish")
async def finish_without_the_bytes(asked: Asked) -> object:
    async with await asked.repository.layers.upload() as session:
        return await session.finish(asked.digest)


async def _resumed(asked: Asked, use: Callable[[LayerUpload], Awaitable[object]]) -> object:
    async with await asked.repository.layers.resume(asked.stock.uuid) as session:
        return await use(session)


case("LayerUpload.cancel")(lambda asked: _resumed(asked, lambda session: session.cancel()))
case("LayerUpload.close")(lambda asked: _resumed(asked, lambda session: session.close()))
case("LayerUpload.finish")(lambda asked: _resumed(asked, lambda session: session.finish(asked.digest)))


@case("LayerUpload.read_from")
async def read_from(asked: Asked) -> object:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    return await _resumed(asked, lambda session: session.read_from(pieces()))


async def outcome(world: World, called: Case, asked: Asked) -> tuple[str, list[tuple[str, int]]]:
    """What the caller learns, and what PostgreSQL was asked."""
    world.statements.clear()
    try:
        found = repr(await called(asked))
    except DistsqlError as error:
        found = f"{type(error).__name__} {error} {error.detail!r}"
    return asked.stock.hide(found), world.statements.copy()


def questions(world: World, stock: Stock) -> Iterator[Asked]:
    """In the same order for every stock."""
    for kind in KINDS:
        for name in (f"{RIVAL}/web", f"{RIVAL}/{stock.word}", stock.name, stock.removed):
            for tag in (stock.tag, *([ENDED] if kind == "image" else [])):
                yield Asked(world.rival, stock, kind, name, tag)


@pytest.mark.parametrize("interface", sorted({member.partition(".")[0] for member in CASES}))
async def test_what_is_another_tenant_s_is_nowhere(
    interface: str, worlds: tuple[World, World], there: Stock, nowhere: Stock
) -> None:
    first, second = worlds
    before, _ = first.rows(there)
    for called in [each for member, cases in CASES.items() if member.startswith(f"{interface}.") for each in cases]:
        for real, unreal in zip(questions(first, there), questions(second, nowhere), strict=True):
            about = (inspect.getsource(called), real.kind, real.name)
            assert await outcome(first, called, real) == await outcome(second, called, unreal), about
    assert first.past_policies == []
    acme, others = first.rows(there)
    assert acme == before
    assert others == second.rows(nowhere)[1]
    assert await first.objects() == await second.objects()


@pytest.mark.parametrize(
    "member",
    [
        *("TagService.history", "RestorationService.restore_tag", "RestorationService.roll_back"),
        "RestorationService.restore_repository",
    ],
)
async def test_its_owner_has_what_was_deleted(member: str, world: World, there: Stock) -> None:
    """The ended tag, or the removed repository: one of the questions above, of A itself."""
    world.rival = world.registry.namespace
    name = there.removed if member.endswith("repository") else there.name
    about = [each for each in questions(world, there) if each.name == name and (each.tag == ENDED or "repo" in member)]
    [called] = CASES[member]
    assert await called(about[0]) != []


def test_every_member_has_a_case() -> None:
    covered = CASES.keys() | GIVEN
    assert sorted(each for each in members() if each not in covered and each.partition(".")[0] not in covered) == []
    assert sorted(CASES.keys() - members().keys()) == []
