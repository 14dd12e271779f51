"""Whatever is in a repository, and whatever the policies say: running gives the preview, no more and no less."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from distsql.app import Registry
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from distsql.registry.ecr_policies import import_ecr
from distsql.registry.garbage import GarbageCollector
from distsql.registry.namespace import StoredNamespace
from distsql.registry.repositories import StoredRepository
from distsql.registry.retention import Outcome, Retention
from distsql.registry.retention_rules import Policy, own_policy
from distsql.registry.reviews import Periods
from distsql.values import Caller
from tests.registry.pushing import CONFIG, image, index, push_blob

Sql = psycopg.Connection[tuple[Any, ...]]
LAYERS: Final = [b"layer of %d bytes" % number + b"." * number for number in range(12)]
TAGS: Final = [f"{prefix}{number}" for prefix in ("v", "dev-", "rc") for number in range(4)]
SELECTIONS: Final = ["", "v*: ", "dev-?,rc*: ", "untagged: ", "any: "]
KEEP: Final = ["all", "latest {}", "pushed within {}d", "pulled within {}d", "signed"]
DELETE: Final = ["all", "beyond {}", "pushed before {}d", "pulled before {}d", "unsigned"]


def own(dice: random.Random) -> Policy:
    """Some rules of each kind, as people write them."""

    def some(criteria: Sequence[str], most: int) -> list[str]:
        made = {dice.choice(SELECTIONS) + dice.choice(criteria).format(dice.randint(1, 6)) for _ in range(most)}
        return sorted(made)

    return own_policy(some(KEEP, dice.randint(0, 1)), some(DELETE, dice.randint(2, 3)))


def ecr(dice: random.Random) -> Policy:
    """A lifecycle policy: what is about any image comes last."""
    statuses = dice.sample(["tagged", "tagged", "untagged", "any"], dice.randint(1, 4))
    rules = []
    for priority, status in enumerate(sorted(statuses, key=lambda each: each == "any"), 1):
        selection: dict[str, object] = {"tagStatus": status, "countNumber": dice.randint(1, 6)}
        selection["countType"] = dice.choice(["imageCountMoreThan", "sinceImagePushed", "sinceImagePulled"])
        if selection["countType"] != "imageCountMoreThan":
            selection["countUnit"] = "days"
        if status == "tagged":
            selection |= dice.choice([{"tagPrefixList": ["v"]}, {"tagPatternList": ["*1", "dev-*"]}])
        rules.append({"rulePriority": priority, "selection": selection, "action": {"type": "expire"}})
    return import_ecr(json.dumps({"rules": rules}))


async def fill(web: StoredRepository, dice: random.Random, sql: Sql) -> None:
    """Images that share layers, some tagged, signed, in an index or about another one; of various ages."""
    for content in (CONFIG, *LAYERS):
        await push_blob(web, content)
    made: list[ParsedManifest] = []
    for number in range(9):
        subject = dice.choice(made).digest if made and dice.random() < 0.2 else None
        several = len(made) > 1 and dice.random() < 0.2
        manifest = (
            index(*dice.sample(made, 2))
            if several
            else image(*dice.sample(LAYERS, 2), subject=subject, number=f"{web.name} {number}")
        )
        await web.manifests.put(manifest, dice.sample(TAGS, dice.choice([0, 1, 1, 2])))
        if dice.random() < 0.3:
            await web.signatures.put(manifest.digest, b"signature")
        made.append(manifest)
    for table, column, key, some in (
        ("manifests", "pushed_at", "digest", "true"),
        ("tags", "valid_from", "name", "valid_to is null"),
    ):
        here = f"{some} and repository_id = (select max(id) from repositories)"
        for (each,) in sql.execute(f"select {key} from {table} where {here} order by 1").fetchall():
            days = "now() - interval '1 day' * %s"
            sql.execute(
                f"update {table} set {column} = {days} where {here} and {key} = %s", [dice.randint(0, 9) + 0.5, each]
            )
            if dice.random() < 0.4:
                sql.execute(
                    f"insert into {table[:-1]}_pulls (tenant_id, repository_id, {key}, last_pulled_at) "
                    f"select tenant_id, repository_id, {key}, {days} from {table} where {here} and {key} = %s",
                    [dice.randint(0, 9) + 0.5, each],
                )


async def there(web: StoredRepository) -> tuple[dict[str, Digest], set[Digest]]:
    """Live tags with their digests, and manifests."""
    tags = [tag async for tag in web.tags.list()]
    digests = {manifest.digest async for manifest in web.manifests.all()}
    return {tag: (await web.tags.get(tag)).digest for tag in tags}, digests


def decided(found: Outcome) -> list[object]:
    return [(each.row, each.reason, each.rule) for each in found.decisions]


@pytest.mark.parametrize("kind", [own, ecr], ids=["own", "ecr"])
async def test_running_is_the_preview_whatever_the_policies(
    registry: Registry, namespace: StoredNamespace, sql: Sql, kind: Callable[[random.Random], Policy]
) -> None:
    """Decisions, effects, what is there afterwards; and each deletion is in the audit, by its rule."""
    retention = Retention(registry.backend, Caller(actor="ann"))
    deletions = 0
    for seed in range(5):
        dice = random.Random(seed)
        web = namespace.repository(f"acme/web-{seed}")
        await fill(web, dice, sql)
        await retention.set("acme", own(dice) if dice.random() < 0.5 else None)
        await retention.set(web.name, kind(dice))
        for turn in range(2):
            told = f"seed {seed}, turn {turn}"
            tags, digests = await there(web)
            (preview,) = [each async for each in retention.preview(web.name)]
            assert await there(web) == (tags, digests), told
            (found,) = [each async for each in retention.run(web.name)]
            assert decided(found) == decided(preview), told
            assert list(found.effects.rows) == list(preview.effects.rows), told
            gone_tags = {each.row.tag for each in found.deleted if each.row.tag}
            gone_digests = {each.row.digest for each in found.deleted if each.row.tag is None}
            assert await there(web) == (
                {tag: digest for tag, digest in tags.items() if tag not in gone_tags and digest not in gone_digests},
                digests - gone_digests,
            ), told
            assert {tag for tag, digest in tags.items() if digest in gone_digests} <= gone_tags, told
            assert sorted(audited(sql)) == sorted(expected_events(found, tags)), told
            rules = {f"{each.name}#{priority}" for each in await retention.all() for priority in each.policy.rules}
            assert {each.rule for each in found.deleted} <= rules, told
            deletions += len(found.deleted)
    assert deletions > 20


def expected_events(found: Outcome, tags: dict[str, Digest]) -> list[tuple[Any, ...]]:
    """One for each manifest with each of its tags, as of a client's deletion, and for each tag of the others."""
    manifests = {each.row.digest: f"retention:{each.rule}" for each in found.deleted if each.row.tag is None}
    events = [
        ("manifest.delete", actor, name, str(digest))
        for digest, actor in manifests.items()
        for name in [tag for tag, target in tags.items() if target == digest] or [""]
    ]
    return events + [
        ("tag.delete", f"retention:{each.rule}", each.row.tag, str(each.row.digest))
        for each in found.deleted
        if each.row.tag and each.row.digest not in manifests
    ]


def audited(sql: Sql) -> list[tuple[Any, ...]]:
    """Deletions that retention did since it was asked last."""
    return sql.execute(
        "with gone as (delete from audit_events returning *) "
        "select action, actor, coalesce(reference, ''), digest_text(digest) from gone where actor like 'retention:%'"
    ).fetchall()


async def test_what_a_preview_says_is_freed_is_what_collection_frees(
    registry: Registry, namespace: StoredNamespace, sql: Sql
) -> None:
    """Once it can't be restored any more."""
    now = timedelta(0)
    retention = Retention(registry.backend, Caller(actor="ann"))
    freed = []
    for seed in range(3):
        dice = random.Random(seed)
        web = namespace.repository(f"tenant-{seed}/web")
        await fill(web, dice, sql)
        await retention.set(web.name, own_policy([], ["any: pushed before 5d", "v*: beyond 1"]))
        collector = GarbageCollector(
            registry.backend, Caller(), periods=Periods(now, now), notify=lambda what, count: None
        )
        await collector.run()
        (found,) = [each async for each in retention.run(web.name)]
        collected = await GarbageCollector(
            registry.backend, Caller(), periods=Periods(now, now), notify=lambda what, count: None
        ).run()
        freed.append((found.effects.freed_bytes, collected.freed_bytes))
    assert [told for told, _ in freed] == [done for _, done in freed]
    assert sum(told for told, _ in freed)
