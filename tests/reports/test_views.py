"""What each report answers, where the right answer is known, and a wrong join would give another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from distsql.oci.digest import Digest
from distsql.sql.garbage_tables import KINDS
from distsql.sql.sql_roles import AUDITOR_ROLE
from tests.reports.world import ABSENT, CONFIG_LENGTH, EIGHT, FOUR, ONE, SIGNATURE, SPDX, TWO, World

Ask = Callable[..., list[tuple[Any, ...]]]
WEB, BASE, IDLE, RIVALS = "acme/web", "acme/base", "acme/idle", "rival/web"


def written(content: bytes) -> str:
    return str(Digest.of(content))


def test_tenant_usage(ask: Ask) -> None:
    """acme/web has each layer once, acme/base shares two of them; acme/removed has nothing any more."""
    in_base, in_web = CONFIG_LENGTH + 100 + 800, CONFIG_LENGTH + 100 + 200 + 400 + 800
    found = ask(
        "select tenant, repositories, manifests, tags, logical_bytes, stored_bytes, quota_bytes "
        "from report.tenant_usage order by tenant"
    )
    rivals = CONFIG_LENGTH + 100 + 200 + 400 + 800
    assert found == [
        ("acme", 3, 9, 5, in_base + in_web + CONFIG_LENGTH + 100, in_web, 10**6),
        ("rival", 1, 3, 3, rivals, rivals, None),
    ]


def test_tag_history(ask: Ask, world: World) -> None:
    found = ask(
        "select repository, tag, digest, previous_digest, valid_to is null, actor, ended_by from report.tag_history "
        "where tenant = 'acme' and repository <> 'acme/idle' order by repository, tag, valid_from"
    )
    assert found == [
        (BASE, "stable", world.old_base, None, False, "ann", "ann"),
        (BASE, "stable", world.new_base, world.old_base, True, "ann", None),
        (WEB, "all", world.index, None, True, "ann", None),
        (WEB, "gone", world.old_app, None, False, "ann", "ann"),
        (WEB, "latest", world.old_app, None, False, "ann", "ann"),
        (WEB, "latest", world.new_app, world.old_app, True, "ann", None),
        (WEB, "v1", world.old_app, None, True, "ann", None),
    ]


def test_resolve_tag(ask: Ask, world: World) -> None:
    [(moved,)] = ask(
        "select valid_to from report.tag_history where repository = %s and tag = 'latest' and valid_to is not null", WEB
    )
    resolve = "select digest from report.resolve_tag('acme', %s, 'latest', %s::timestamptz - %s::interval)"
    assert ask(resolve, WEB, moved, "0 s") == [(world.new_app,)]
    assert ask(resolve, WEB, moved, "1 microsecond") == [(world.old_app,)]
    assert ask(resolve, WEB, moved, "1 day") == []
    for name in ("web", "rival/web", "acmes/web", "acme-web", "acme/removed"):
        assert ask(resolve, name, moved, "0 s") == []
    assert ask("select * from report.resolve_tag('acme', %s, 'gone', now())", WEB) == []


def test_blob_usage(ask: Ask, world: World) -> None:
    where = "from report.blob_usage where blob_key = report.digest(%s) and blob_digest = %s"
    two = [written(TWO)] * 2
    assert set(ask(f"select repository, manifest_digest, role, length {where} and tenant = 'acme'", *two)) == {
        (WEB, world.old_app, "layer", 200),
        (WEB, world.new_app, "layer", 200),
    }
    assert ask(f"select count(*) {where} and tenant = 'rival'", *two) == [(1,)]
    config = [str(Digest.of(b'{"architecture":"amd64","os":"linux"}'))] * 2
    assert ask(f"select role, count(*) {where} and tenant = 'acme' group by role", *config) == [("config", 8)]
    assert ask("select count(*) from report.blob_usage where blob_digest = %s", world.new_app) == [(0,)]


def test_base_images(ask: Ask, world: World) -> None:
    found = ask(
        "select tenant, repository, manifest_digest, base_repository, base_digest, current from report.base_images"
    )
    own = {row[1:] for row in found if row[0] == "acme" and row[3] != IDLE}
    assert own == {
        (WEB, world.old_app, BASE, world.old_base, False),  # lags behind
        (WEB, world.new_app, BASE, world.new_base, True),
    }
    assert [row[1:3] for row in found if row[3] == IDLE] == [(WEB, world.old_app)]
    [(repository, base_repository, current)] = [(row[1], row[3], row[5]) for row in found if row[0] == "rival"]
    assert (repository, base_repository, current) == (RIVALS, RIVALS, True)


def test_untagged_manifests(ask: Ask, world: World) -> None:
    found = ask(
        "select repository, digest, in_index, subject_digest, media_type, length > 100 from report.untagged_manifests "
        "where tenant = 'acme'"
    )
    image = "application/vnd.oci.image.manifest.v1+json"
    assert set(found) == {
        (BASE, world.old_base, False, None, image, True),
        (WEB, world.signature, False, world.new_app, image, True),
        (WEB, world.sbom, False, world.new_app, image, True),
        (WEB, world.lost, False, str(ABSENT), image, True),
    }


def test_incomplete_indexes(ask: Ask, world: World) -> None:
    found = ask("select tenant, repository, digest, missing_digest, platform from report.incomplete_indexes")
    assert found == [("acme", WEB, world.index, str(ABSENT), "linux/arm64/v8")]


def test_dangling_referrers(ask: Ask, world: World) -> None:
    found = ask("select repository, digest, subject_digest, artifact_type from report.dangling_referrers")
    own = [row for row in found if row[0] != RIVALS]
    assert own == [(WEB, world.lost, str(ABSENT), SPDX)]
    assert [row[2:] for row in found if row[0] == RIVALS] == [(str(ABSENT), SIGNATURE)]


def test_signatures(ask: Ask, world: World) -> None:
    found = ask("select tenant, repository, digest, kind, signature_digest from report.signatures")
    assert {row for row in found if row[0] == "acme"} == {
        ("acme", WEB, world.old_app, "jws", written(b"a signature")),
        ("acme", WEB, world.new_app, "referrer", world.signature),
    }
    assert [row[1:4] for row in found if row[0] == "rival"] == [(RIVALS, str(ABSENT), "referrer")]


def test_unsigned_images(ask: Ask, world: World) -> None:
    """The index isn't signed, though its child is; rival's image isn't, though acme's tag of the same name is."""
    found = ask("select repository, tag from report.unsigned_images")
    assert set(found) == {
        (BASE, "stable"),
        (WEB, "all"),
        (IDLE, "latest"),
        *((RIVALS, tag) for tag in ("v1", "latest", "base")),
    }


def test_artifacts_without_sbom(ask: Ask, world: World) -> None:
    found = ask(
        "select repository, tag, digest from report.artifacts_without_sbom "
        "where tenant = 'acme' and repository <> 'acme/idle'"
    )
    assert set(found) == {
        (BASE, "stable", world.new_base),
        (WEB, "v1", world.old_app),
        (WEB, "all", world.index),
    }


def test_platforms(ask: Ask, world: World) -> None:
    found = ask(
        "select repository, tag, digest, os, architecture, variant from report.platforms "
        "where tenant = 'acme' and repository <> 'acme/idle'"
    )
    assert set(found) == {
        (WEB, "all", world.index, "linux", "amd64", None),
        (WEB, "all", world.index, "linux", "arm64", "v8"),
        (WEB, "latest", world.new_app, "linux", "amd64", None),  # as the index says
        (WEB, "v1", world.old_app, None, None, None),
        (BASE, "stable", world.new_base, None, None, None),
    }


def test_labels(ask: Ask, world: World) -> None:
    found = ask("select tenant, repository, digest, key, value from report.labels where key = 'title'")
    assert found == [("acme", WEB, world.new_app, "title", "web")]
    assert {row[0] for row in ask("select repository from report.labels where value = 'rival'")} == {RIVALS}
    found = ask("select tenant, repository, value, count(*) from report.labels where kind = 'label' group by 1, 2, 3")
    assert sorted(found) == [
        ("acme", BASE, "of acme", 2),
        ("acme", IDLE, "of acme", 1),
        ("acme", WEB, "of acme", 5),
        ("rival", RIVALS, "of rival", 3),
    ]
    found = ask("select digest, key, kind from report.labels where digest in (%s, %s)", world.new_app, world.index)
    assert sorted(found) == [(world.new_app, "stage", "label"), (world.new_app, "title", "annotation")]


def test_media_types(ask: Ask) -> None:
    found = ask("select kind, media_type, count, bytes from report.media_types where tenant = 'acme'")
    assert set(found) == {
        ("blob", "application/vnd.oci.image.config.v1+json", 1, CONFIG_LENGTH),
        ("blob", "application/vnd.oci.image.layer.v1.tar", 4, 1500),
        ("manifest", "application/vnd.oci.image.index.v1+json", 1, 0),
        ("manifest", "application/vnd.oci.image.manifest.v1+json", 8, 0),
    }
    assert len({ONE, TWO, FOUR, EIGHT}) == 4
    # rival's largest layer is there, and no manifest says what it is.
    assert ask("select count, bytes from report.media_types where tenant = 'rival' and media_type is null") == [
        (1, 800)
    ]
    added = "select tenant, sum(bytes)::bigint from report.media_types group by tenant order by tenant"
    assert ask(added) == ask("select tenant, stored_bytes from report.tenant_usage order by tenant")


def test_unused_credentials(ask: Ask) -> None:
    found = ask("select tenant, account, kind, last_used_at is null, idle_days from report.unused_credentials")
    assert set(found) == {
        ("acme", "acme/ann", "person", False, 2),
        ("acme", "acme/ci", "robot", True, 10),
        ("rival", "rival/ci", "robot", True, 10),
    }


def test_stuck_uploads(ask: Ask) -> None:
    found = ask("select tenant, repository, actor, offset_bytes, uuid is not null from report.stuck_uploads")
    assert found == [("acme", WEB, "ann", 1, True)]


def test_audit(ask: Ask, world: World) -> None:
    found = ask(
        "select actor, repository, digest, outcome, client_address, user_agent, request_id from report.audit "
        "where tenant = 'acme' and action = 'tag.delete'"
    )
    assert found == [("ann", WEB, world.old_app, "done", "192.0.2.1", "tests", "request-1")]
    assert ask("select count(*) from report.audit where tenant = 'rival' and action = 'manifest.put'") == [
        (4,)
    ]  # one for each tag


def test_actor_activity(ask: Ask) -> None:
    activity = "select repository, count, first_at < last_at from report.actor_activity(%s, %s) where "
    chosen = activity + "actor = 'ann' and tenant = 'acme' and action = 'tag.put'"
    assert ask(chosen, "-infinity", "infinity") == [(WEB, 1, False)]
    rivals = activity + "tenant = 'rival' and action = 'blob.put'"
    assert ask(rivals, "-infinity", "infinity") == [(RIVALS, 8, True)]
    [(last,)] = ask("select max(at) from report.audit")
    assert ask(activity + "true", last, last) == []
    assert len(ask(activity + "true", last, "infinity")) == 1


def test_schema_health(ask: Ask, world: World) -> None:
    found = {
        item: (status, detail) for item, status, detail in ask("select item, status, detail from report.schema_health")
    }
    partitions = {item: status for item, (status, _) in found.items() if item.startswith("partition ")}
    assert len(partitions) == 3
    assert set(partitions.values()) == {"ok"}
    assert found["index tags_live_key"][0] == "ok"
    assert found["table tags"][0] == "ok"
    assert found["sequence repositories_id_seq"][0] in {"ok", "unknown"}
    assert found["transactions"][0] == "ok"


def test_repository_usage(ask: Ask) -> None:
    """acme/idle has what acme/web has too; what acme/removed had is in nobody's way."""
    found = ask(
        "select repository, tags, manifests, logical_bytes, exclusive_bytes, last_pushed_at is not null, "
        "last_pulled_at::text from report.repository_usage order by repository"
    )
    assert found == [
        (BASE, 1, 2, CONFIG_LENGTH + 900, 0, True, None),
        (IDLE, 1, 1, CONFIG_LENGTH + 100, 0, True, None),
        (WEB, 3, 6, CONFIG_LENGTH + 1500, 600, True, "2026-11-07 00:00:00+00"),
        (RIVALS, 3, 3, CONFIG_LENGTH + 1500, CONFIG_LENGTH + 1500, True, "2026-11-09 00:00:00+00"),
    ]


def test_stale_tags(ask: Ask, world: World) -> None:
    found = ask("select repository, tag, digest, last_pulled_at is null, idle_days from report.stale_tags")
    assert {row for row in found if row[0] in {WEB, BASE}} == {
        (WEB, "v1", world.old_app, False, 3),  # pulled later than pushed
        (WEB, "latest", world.new_app, True, 0),
        (WEB, "all", world.index, True, 0),
        (BASE, "stable", world.new_base, False, 0),  # pushed later than pulled
    }
    assert {(row[1], row[3]) for row in found if row[0] == RIVALS} == {("latest", False), ("v1", True), ("base", True)}


def test_never_pulled_repositories(ask: Ask) -> None:
    found = ask("select tenant, repository, manifests, stored_bytes from report.never_pulled_repositories")
    assert found == [("acme", IDLE, 1, CONFIG_LENGTH + 100)]


def test_pulls_by_day(ask: Ask) -> None:
    found = ask(
        "select repository, day::text, actor_kind, pulls, bytes, requests from report.pulls_by_day "
        "where tenant = 'acme' order by day, actor_kind"
    )
    assert found == [
        (BASE, "2026-10-26", "account", 1, 7, 1),
        (WEB, "2026-11-05", "anonymous", 1, 5, 2),
        (WEB, "2026-11-05", "robot", 3, 120, 9),
    ]


def test_what_if_delete_and_why_kept(ask: Ask, world: World) -> None:
    """tests/registry/test_deletion_effects.py has all of it; here is that people can ask for it by name."""
    what = "select effect, length from report.what_if_delete('acme', 'acme/idle') where kind = 'blob'"
    assert sorted(ask(what)) == [("kept", CONFIG_LENGTH), ("kept", 100)]
    why = "select effect, kind, because_of from report.what_if_delete('acme', 'acme/idle', 'latest')"
    assert ask(why) == [("kept", "manifest", "untagged manifests are kept")]
    why = "select repository, manifest_digest, tag from report.why_kept('acme', %s)"
    assert {(WEB, world.sbom, "latest"), (WEB, world.sbom, "all")} <= set(ask(why, written(FOUR)))


def test_garbage(ask: Ask) -> None:
    """Both tenants have the content, under one digest; the grace is an hour, a recovery window a day.

    How long ago this world was made nobody knows, but not half an hour.
    """
    found = ask(
        "select tenant, digest, length, state, reason, eligible_at <= now(), kind, "
        "eligible_at - now() between '30 minutes' and '1 hour' from report.garbage"
    )
    young, due = "young: something may come that needs it", "goes with the next collection unless something needs it"
    one = written(ONE)
    assert {
        ("acme", one, 100, "queued", young, False, "layer", True),
        ("rival", one, 100, "queued", young, False, "layer", True),
        ("acme", one, 100, "queued", due, True, "blob", False),
        ("acme", "sha256:ff", 77, "condemned", "its bytes go with the next collection", True, "blob", False),
    } <= set(found)


def test_garbage_of_every_kind(world: World) -> None:
    """Each kind waits as a collection lets it: blobs not at all, what can be restored for that, all else the grace."""
    queue = (
        "insert into garbage_queue (tenant_id, id, kind, repository_id, digest, queued_at) select id, %s, %s, 0, "
        "'\\x01ee', now() - %s::interval from tenants where name = 'acme'"
    )
    told = "select kind, eligible_at <= now(), reason from report.garbage where digest = %s order by eligible_at desc"
    found: dict[str, list[tuple[bool, str]]] = {}
    with psycopg.connect(world.url) as owner:
        for number, kind in enumerate(KINDS):
            for which, age in enumerate(("1 minute", "2 hours", "8 days")):
                owner.execute(queue, [100 + 10 * number + which, kind, age])
        owner.execute(f"set local role {AUDITOR_ROLE}")
        for kind, due, reason in owner.execute(told, ["sha256:ee"]):
            found.setdefault(kind, []).append((due, reason))
        owner.rollback()
    due = (True, "goes with the next collection unless something needs it")
    young = (False, "young: something may come that needs it")
    restorable = (False, "can be restored until then")
    follows = "what says something about it follows"
    left = (True, "goes once nothing of it is left")
    assert found == {
        "layer": [young, due, due],
        "manifest": [young, due, due],
        "blob": [due, due, due],
        "subject": [(False, follows), (True, follows), (True, follows)],
        "deleted_manifest": [restorable, restorable, due],
        "repository": [restorable, restorable, due],
        "tenant": [(False, "its repositories are deleted then"), left, left],
    }


def test_pushes_by_day(ask: Ask) -> None:
    """What is rolled up, and what isn't yet; a push with two tags is one, and content that is pushed again arrives."""
    found = ask("select repository, day::text, pushes, bytes from report.pushes_by_day where tenant = 'acme'")
    assert {row for row in found if row[0] == WEB and row[1] < "2021"} == {(WEB, "2020-01-31", 5, 50)}
    today = {row[0]: row[2:] for row in found if row[1] > "2021"}
    assert today[WEB] == (6, 5 * CONFIG_LENGTH + 100 + 2 * 200 + 3 * 400 + 800)
    assert today[BASE] == (2, 2 * CONFIG_LENGTH + 100 + 800)


def test_quota_forecast(ask: Ask) -> None:
    """1537 bytes, 537 ten days ago: 100 more each day, 998463 to go. Who has no quota has no forecast."""
    found = ask(
        "select tenant, quota_bytes, used_bytes, percent, daily_growth_bytes, exhausted_on - current_date "
        "from report.quota_forecast"
    )
    assert found == [("acme", 10**6, 1537, 0, 100, 9985)]


def test_chargeback(ask: Ask) -> None:
    bill = "select tenant, stored_byte_days, egress_bytes, requests from report.chargeback(%s)"
    assert ask(bill, "2020-01-17") == [("acme", 300, 0, 0), ("past", 5, 0, 0), ("rival", 7, 0, 0)]
    assert ask(bill, "2020-02-29") == [("acme", 1000, 0, 0)]
    assert ask(bill, "2026-10-01") == [("acme", 0, 7, 1)]
    totals = (
        "select (select sum(stored_bytes) from daily_usage where day between '2020-01-01' and '2020-01-31'), "
        "sum(stored_byte_days) from report.chargeback('2020-01-01')"
    )
    [(stored, billed)] = ask(totals)
    assert stored == billed == 312


def test_denied(ask: Ask) -> None:
    found = ask("select tenant, actor, action, repository, cause, times from report.denied where at > '2021-01-01'")
    assert set(found) == {
        ("acme", "anonymous", "pull", WEB, "not allowed", 3),
        ("acme", "acme/ci", "pull", WEB, "quota", 1),
        ("rival", "anonymous", "pull", RIVALS, "not allowed", 70),
    }
    activity = (
        "select count from report.actor_activity('2021-01-01', 'infinity') where tenant = 'acme' and action = 'pull'"
    )
    assert sorted(ask(activity)) == [(1,), (3,)]
