"""What a deletion would free, keep and break: known answers, and that deleting it does just that."""

from __future__ import annotations

import random
from datetime import timedelta

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import InUseError, NameUnknownError, TenantUnknownError
from distsql.oci.digest import Digest
from distsql.registry.deletion_effects import DeletionEffects, DeletionPreviews
from distsql.registry.garbage import GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.reviews import Periods
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image
from tests.registry.test_retention_runs import fill

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def previews(registry: Registry) -> DeletionPreviews:
    return DeletionPreviews(registry.backend.everything)


def told(effects: DeletionEffects) -> set[tuple[str, str, str, int | None, str | None]]:
    rows = [(row.effect, row.kind, str(row.digest), row.length, row.because_of) for row in effects.rows]
    assert len(rows) == len(set(rows)), "everything is told once"
    return set(rows)


def blob(content: bytes) -> tuple[str, int]:
    return str(Digest.of(content)), len(content)


def collect_untagged(sql: Sql) -> None:
    """What a tag leaves is garbage then."""
    sql.execute("update tenants set untagged = 'collect'")


async def test_a_tag_frees_what_only_its_image_has(
    namespace: StoredNamespace, previews: DeletionPreviews, sql: Sql
) -> None:
    web, api = namespace.repository("acme/web"), namespace.repository("acme/api")
    first = await push_image(web, b"shared here", b"shared there", b"own", tags=["v1"])
    second = await push_image(web, b"shared here", tags=["v2"], number="2")
    await push_blob(api, b"shared there")
    collect_untagged(sql)
    effects = await previews.what_if_delete("acme/web", "v1")
    of_second = f"acme/web@{second.digest}"
    assert told(effects) == {
        ("freed", "manifest", str(first.digest), None, None),
        ("freed", "blob", *blob(b"own"), None),
        ("kept", "blob", *blob(b"shared here"), of_second),
        ("kept", "blob", *blob(CONFIG), of_second),
        ("kept", "blob", *blob(b"shared there"), "acme/api"),
    }
    assert effects.freed_bytes == len(b"own")


async def test_a_layer_counts_once_however_often_the_image_has_it(
    namespace: StoredNamespace, previews: DeletionPreviews, sql: Sql
) -> None:
    await push_image(namespace.repository("acme/web"), b"twice", b"twice", tags=["v1"])
    collect_untagged(sql)
    assert (await previews.what_if_delete("acme/web", "v1")).freed_bytes == len(b"twice") + len(CONFIG)


async def test_another_tag_an_index_or_a_subject_keeps_the_image(
    namespace: StoredNamespace, previews: DeletionPreviews, sql: Sql
) -> None:
    web = namespace.repository("acme/web")
    tagged = await push_image(web, b"1", tags=["v1", "latest"], number="1")
    child = await push_image(web, b"2", tags=["v2"], number="2")
    parent = index(child)
    await web.manifests.put(parent, ["multi"])
    signature = await push_image(web, b"3", tags=["v3"], subject=child.digest, number="3")
    assert told(await previews.what_if_delete("acme/web", "v1")) == {
        ("kept", "manifest", str(tagged.digest), None, "acme/web:latest")
    }
    assert told(await previews.what_if_delete("acme/web", "v2")) == {
        ("kept", "manifest", str(child.digest), None, f"acme/web@{parent.digest}")
    }
    assert told(await previews.what_if_delete("acme/web", "v3")) == {
        ("kept", "manifest", str(signature.digest), None, f"acme/web@{child.digest}")
    }
    both = await previews.what_if_delete("acme/web", "v1", "latest")
    assert told(both) == {("kept", "manifest", str(tagged.digest), None, "untagged manifests are kept")}
    collect_untagged(sql)
    both = await previews.what_if_delete("acme/web", "v1", "latest")
    assert ("freed", "manifest", str(tagged.digest), None, None) in told(both)


async def test_children_and_referrers_go_with_an_index_unless_others_need_them(
    namespace: StoredNamespace, previews: DeletionPreviews, sql: Sql
) -> None:
    web = namespace.repository("acme/web")
    alone, shared, named = [await push_image(web, bytes([n]), number=str(n)) for n in range(3)]
    await web.tags.tag("named", named.digest)
    first, other = index(alone, shared, named), index(shared)
    await web.manifests.put(first, ["first"])
    await web.manifests.put(other, ["other"])
    sbom = await push_image(web, b"sbom", subject=alone.digest)
    of_sbom = await push_image(web, b"signature", subject=sbom.digest)
    of_shared = await push_image(web, b"of shared", subject=shared.digest)
    collect_untagged(sql)
    effects = await previews.what_if_delete("acme/web", "first")
    assert {row.digest for row in effects.rows if (row.effect, row.kind) == ("freed", "manifest")} == {
        first.digest,
        alone.digest,
        sbom.digest,
        of_sbom.digest,
    }
    assert {row.digest for row in effects.rows if (row.effect, row.kind) == ("freed", "blob")} == {
        Digest.of(content) for content in (b"\0", b"sbom", b"signature")
    }
    assert of_shared.digest not in {row.digest for row in effects.rows}
    assert effects.broken == []


async def test_deleting_a_manifest_breaks_indexes_and_tagged_referrers(
    namespace: StoredNamespace, previews: DeletionPreviews
) -> None:
    web = namespace.repository("acme/web")
    child = await push_image(web, b"layer", tags=["a", "b"])
    parents = [index(child), index(child, await push_image(web, b"other", number="2"))]
    for number, parent in enumerate(parents):
        await web.manifests.put(parent, [f"multi-{number}"])
    kept = await push_image(web, b"kept", tags=["signature"], subject=child.digest, number="3")
    gone = await push_image(web, b"gone", subject=child.digest, number="4")
    effects = await previews.what_if_delete("acme/web", str(child.digest))
    lacking = f"acme/web@{child.digest}"
    assert {row for row in told(effects) if row[0] == "broken"} == {
        ("broken", "index", str(parents[0].digest), None, lacking),
        ("broken", "index", str(parents[1].digest), None, lacking),
        ("broken", "referrer", str(kept.digest), None, lacking),
    }
    freed = {row.digest for row in effects.rows if row.effect == "freed"}
    assert freed == {child.digest, gone.digest, Digest.of(b"layer"), Digest.of(b"gone")}
    with_all = await previews.what_if_delete("acme/web", str(child.digest), *(str(each.digest) for each in parents))
    assert {row.kind for row in with_all.broken} == {"referrer"}


async def test_what_is_refused_is_what_would_break_an_index(
    namespace: StoredNamespace, previews: DeletionPreviews, sql: Sql
) -> None:
    """Of every manifest of a generated repository; the refusal names one of the indexes that the answer tells."""
    web = namespace.repository("acme/web")
    await fill(web, random.Random(3), sql)
    refused = 0
    for digest in [manifest.digest async for manifest in web.manifests.all()]:
        effects = await previews.what_if_delete("acme/web", str(digest))
        indexes = {str(row.digest) for row in effects.broken if row.kind == "index"}
        if not indexes:
            await web.manifests.delete(digest)
            await web.restorations.restore_manifest(digest)
            continue
        with pytest.raises(InUseError) as refusal:
            await web.manifests.delete(digest)
        detail = refusal.value.detail
        assert isinstance(detail, dict)
        assert detail["referrer"] in indexes
        refused += 1
    assert refused >= 2


async def test_a_repository_and_a_tenant(namespace: StoredNamespace, previews: DeletionPreviews) -> None:
    web, api = namespace.repository("acme/web"), namespace.repository("acme/api")
    await push_image(web, b"shared", b"own", tags=["v1"])
    await push_blob(web, b"never referred to")
    await push_image(api, b"shared", tags=["v1"])
    await push_image(namespace.repository("other/web"), b"own", tags=["v1"])
    effects = await previews.what_if_delete("acme/web")
    assert {(row.effect, row.digest, row.because_of) for row in effects.rows if row.kind == "blob"} == {
        ("freed", Digest.of(b"own"), None),
        ("freed", Digest.of(b"never referred to"), None),
        ("kept", Digest.of(b"shared"), "acme/api"),
        ("kept", Digest.of(CONFIG), "acme/api"),
    }
    await api.remove()
    assert (await previews.what_if_delete("acme/web")).kept == []
    every = (b"shared", b"own", b"never referred to", CONFIG)
    assert (await previews.what_if_delete("acme")).freed_bytes == sum(map(len, every))


async def test_what_is_not_there_has_no_effect(namespace: StoredNamespace, previews: DeletionPreviews) -> None:
    web = namespace.repository("acme/web")
    await push_image(web, b"layer", tags=["v1"])
    await push_image(namespace.repository("acme/api"), b"layer", tags=["v2"])
    assert (await previews.what_if_delete("acme/web", "v2", str(Digest.of(b"nothing")))).rows == []
    with pytest.raises(NameUnknownError):
        await previews.what_if_delete("acme/nothing")
    with pytest.raises(TenantUnknownError):
        await previews.what_if_delete("nobody")


@pytest.mark.parametrize("untagged", ["collect", "keep"])
@pytest.mark.parametrize("by_tag", [True, False])
async def test_deleting_frees_exactly_that(
    registry: Registry,
    namespace: StoredNamespace,
    previews: DeletionPreviews,
    sql: Sql,
    untagged: str,
    by_tag: bool,
) -> None:
    """The answer against what a deletion and the garbage collection after it really do."""
    web = namespace.repository("acme/web")
    shared = await push_image(web, b"shared", number="0")
    gone = await push_image(web, b"gone", b"shared", number="1")
    await push_image(web, b"signature", subject=gone.digest, number="2")
    both = index(shared, gone)
    await web.manifests.put(both, ["multi"])
    referrer = await push_image(web, b"of both", subject=both.digest, tags=["sbom"], number="4")
    await push_image(web, b"of referrer", subject=referrer.digest, number="5")
    await web.manifests.put(index(shared), ["other"])
    await web.manifests.put(image(b"shared", title="another"), ["third"])
    await push_image(namespace.repository("acme/api"), b"signature", tags=["v1"], number="3")
    await Tenants(registry.backend.everything, Caller()).set("acme", {"untagged": untagged})
    effects = await previews.what_if_delete("acme/web", "multi" if by_tag else str(both.digest), "sbom")
    before = stored(sql)
    await web.tags.untag("sbom")
    await (web.tags.untag("multi") if by_tag else web.manifests.delete(both.digest))
    await GarbageCollector(
        registry.backend, Caller(), periods=Periods(timedelta(0), timedelta(0)), notify=lambda what, number: None
    ).run()
    after = stored(sql)
    assert {digest.packed for digest in {row.digest for row in effects.rows if row.effect == "freed"}} == before - after
    follow, child = len(b"of both") + len(b"of referrer"), len(b"gone")
    assert effects.freed_bytes == (follow + child if untagged == "collect" else 0 if by_tag else follow)


def stored(sql: Sql) -> set[object]:
    rows = sql.execute(
        "select digest from blobs where state = 'live' union all select digest from manifests where deleted_at is null"
    ).fetchall()
    return {bytes(digest) for (digest,) in rows if isinstance(digest, bytes)}
