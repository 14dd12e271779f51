"""How PostgreSQL runs each statement in a crowded database: by the index that was meant for it, for any parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper

from distsql.oci.digest import Digest
from distsql.sql import docs
from distsql.sql.statements import Statement, registered
from tests import postgres
from tests.plans.classes import COLD, COLLECTING, HOT
from tests.plans.crowd import BIG, SMALL, Connection, fill, working_as
from tests.sql.rows import digest

docs.load_statements()
INTERVALS = {"age", "grace", "lifetime", "restore_period", "recovery_window", "fresh"}

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("crowd")]  # which is filled once, not by each worker


class DigestDumper(Dumper):
    """Passes a digest to PostgreSQL as it is stored."""

    format = Format.BINARY
    oid = 17  # bytea

    def dump(self, obj: Digest) -> Buffer:
        return obj.packed


@pytest.fixture(scope="module")
def crowd(postgres_server: str, template_database: str) -> Iterator[Connection]:
    with postgres.new_database(postgres_server, template=template_database) as url:
        fill(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.adapters.register_dumper(Digest, DigestDumper)
            connection.adapters.register_dumper(list, ListBinaryDumper)
            yield connection


def plan(connection: Connection, statement: Statement[Any]) -> list[dict[str, Any]]:
    """All nodes of the plan for unknown parameters, which is the one that runs (see database.py)."""
    nodes, left = [], [root(connection, statement)]
    while left:
        node = left.pop()
        nodes.append(node)
        left += node.get("Plans", [])
    return nodes


def root(connection: Connection, statement: Statement[Any]) -> dict[str, Any]:
    """The plan's uppermost node."""
    sql = statement.numbered_sql.decode()
    for at, name in enumerate(statement.order, 1):
        if name in INTERVALS:  # their type comes with the value
            sql = re.sub(rf"\${at}\b", f"${at}::interval", sql)
    with working_as(connection, statement.name, tenant_id=BIG):
        [(explained,)] = connection.execute(f"explain (generic_plan, verbose, format json) {sql}").fetchall()
    found: dict[str, Any] = explained[0]["Plan"]
    return found


def indexes(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in nodes if "Index Name" in node}


def scanned(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["Relation Name"] for node in nodes if node["Node Type"] in {"Seq Scan", "Parallel Seq Scan"}}


def test_every_statement_is_hot_or_cold() -> None:
    assert sorted([*HOT, *COLLECTING, *COLD]) == sorted(registered), "say in tests/plans/classes.py, once, which it is"


def test_hot_statements_use_their_indexes(crowd: Connection) -> None:
    wrong = {}
    for name, intended in {**HOT, **COLLECTING}.items():
        nodes = plan(crowd, registered[name])
        if indexes(nodes) not in (intended if isinstance(intended, list) else [intended]) or scanned(nodes):
            wrong[name] = (sorted(indexes(nodes)), sorted(scanned(nodes)))
    assert wrong == {}


def test_an_upload_is_found_by_its_key_whatever_expired(crowd: Connection) -> None:
    """Statistics may be of sessions that have all expired: by the instants, all that there are today would be read."""
    with crowd.transaction(force_rollback=True):
        crowd.execute("update uploads set expires_at = now() - interval '1 day'")
        crowd.execute("analyze uploads")
        assert "uploads_expires_at_idx" not in indexes(plan(crowd, registered["find_upload"]))


def test_a_signature_is_found_by_what_it_signs_where_most_repositories_have_one(crowd: Connection) -> None:
    """By statistics of such a catalogue the repository alone would do, and all that the largest one has were read.

    So they are where cosign's tags end, which is seldom: another way would take more locks than there may be.
    """
    with crowd.transaction(force_rollback=True):
        crowd.execute("set local session_replication_role = replica")
        crowd.execute("delete from signing_manifests where kind = 'cosign' or repository_id > 1 or ctid > '(5,0)'")
        crowd.execute(
            "insert into signing_manifests (tenant_id, repository_id, subject_digest, manifest_digest, kind) "
            "select n % 10000, n, sha256(n::text::bytea), sha256(n::text::bytea), 'cosign' "
            "from generate_series(1000000, 1030000) n"
        )
        crowd.execute("analyze signing_manifests")
        for name in ("move_cosign_tags", "list_signature_relations"):
            found = {each for each in indexes(plan(crowd, registered[name])) if each.startswith("signing_manifests")}
            assert found == {"signing_manifests_pkey"}, name


def test_what_a_deletion_would_do_is_found_by_hashes_and_indexes(crowd: Connection) -> None:
    """However many are asked about: compared one by one, ten thousand took a minute instead of a second.

    So it is when the planner knows how many there are, and takes them for too many to be hashed.
    """
    nodes = plan(crowd, registered["list_deletion_effects"])
    compared = [text for node in nodes for text in node.values() if isinstance(text, str) and "(SubPlan" in text]
    assert compared == []
    assert any("(hashed SubPlan" in str(node.get("Filter")) for node in nodes)
    assert scanned(nodes) == set()


def test_labels_that_nobody_read_are_looked_for_in_what_was_pushed_lately(crowd: Connection) -> None:
    """For each tenant by the audit's key, from an instant on; and then by keys. Tenants are all looked at."""
    nodes = plan(crowd, registered["list_late_configs"])
    filled = "select relname from pg_class where relname = any (%s) and relname <> 'tenants' and reltuples > 0"
    assert crowd.execute(filled, [list(scanned(nodes))]).fetchall() == []  # months to come are empty
    audited = [node for node in nodes if str(node.get("Index Name")).startswith("audit_events")]
    assert audited
    assert all("at >= $" in node["Index Cond"] and "tenant_id = " in node["Index Cond"] for node in audited)
    keys = {"repositories_live_key", "manifests_pkey", "descriptors_pkey", "blobs_pkey", "image_configs_pkey"}
    assert keys <= indexes(nodes)
    now = datetime.now(UTC)
    span = {"since": now - timedelta(minutes=4), "until": now, "media_types": [], "limit": 100}
    pages = touched(crowd, "list_late_configs", {**span, "tenant_id": -1, "digest": b""}, tenant_id=BIG)
    assert pages <= 3 * 20_000 + 2000  # some of each tenant, whatever it has, and some dozen of each push


SHARED = [each.across for each in registered.values() if each.across is not None]
# What keeps no rows from one asker to the next: hashes, sorts and materialized rows would.
STEPS = {"Nested Loop", "Function Scan", "Result", "Limit", "Subquery Scan", "Index Scan", "Index Only Scan"}
STEPS |= {"Seq Scan", "Bitmap Heap Scan", "Bitmap Index Scan"}


def unguarded(node: dict[str, Any], *, is_set: bool = False) -> Iterator[str]:
    """Where the plan reads a table before the asker's tenant is set, or without the policy, or keeps what it read."""
    steps = node.get("Plans", [])
    if node["Node Type"] not in STEPS:
        yield f"{node['Node Type']} isn't read anew for each asker"
    if "Relation Name" in node and not is_set:
        yield f"{node['Relation Name']} is read before the tenant is set"
    if "(hashed SubPlan" in str([value for value in node.values() if isinstance(value, str)]):
        yield "a subplan's rows are kept"
    outer_sets = False
    for step in steps:  # the outer one comes first
        yield from unguarded(step, is_set=is_set or outer_sets)
        outer_sets = outer_sets or (node["Node Type"] == "Nested Loop" and sets_tenant(step))


def sets_tenant(node: dict[str, Any]) -> bool:
    """Whether the rows of this part come out with their tenant set."""
    here = node["Node Type"] == "Result" and any("set_config" in text for text in node["Output"])
    return here or any(sets_tenant(step) for step in node.get("Plans", []))


@pytest.mark.parametrize("statement", SHARED, ids=lambda each: each.name)
def test_each_asker_is_its_tenant_before_anything_is_read_for_it(
    crowd: Connection, worker_database: str, statement: Statement[Any]
) -> None:
    assert list(unguarded(root(crowd, statement))) == []
    with psycopg.connect(worker_database, autocommit=True) as connection:  # where tables are small, others are tempting
        assert list(unguarded(root(connection, statement))) == []


def test_there_are_shared_statements() -> None:
    assert {each.name for each in SHARED} == {each.name for each in registered.values() if each.sets_tenant}
    assert len(SHARED) >= 3


@pytest.mark.parametrize("name", ["list_deleted_things", "list_deleted_of_repository"])
def test_no_tag_is_compared_with_every_manifest(crowd: Connection, name: str) -> None:
    nodes = plan(crowd, registered[name])
    assert [node["Join Filter"] for node in nodes if "digest" in node.get("Join Filter", "")] == []
    assert "manifests_pkey" in indexes(nodes)


def test_cold_statements_can_be_run(crowd: Connection) -> None:
    for name in COLD:
        assert plan(crowd, registered[name])


# For one who asks, and for one of several who ask at once.
WEB = {"path": "web", "only_id": None, "paths": ["web"], "only_ids": [None]}
BIG_NAMES = {"tenant": "big", **WEB}
SMALL_NAMES = {"tenant": "small", **WEB}
BIG_IDS = {"tenant_id": BIG, "repository_id": BIG}
SMALL_IDS = {"tenant_id": SMALL, "repository_id": SMALL}
# The layer that five thousand repositories have, and a manifest that both tenants have.
LAYER, MANIFEST = digest("layer 1"), digest("manifest 3")


@pytest.mark.parametrize(
    ("name", "parameters", "pages"),
    [
        ("find_tagged_manifest", {"tags": ["v3"]}, 25),
        ("find_manifest", {"digests": [MANIFEST], "fresh": timedelta(hours=1)}, 20),
        ("find_layer", {"digests": [LAYER]}, 25),
        ("find_layer_risk", {"digests": [LAYER], "fresh": timedelta(hours=1)}, 30),
        ("find_repository", {}, 15),
        ("list_tenant_repositories", {"after_path": "repository-4", "limit": 100}, 120),
        ("list_tags", {"afters": ["v1"], "sizes": [100]}, 130),
        ("list_tags", {"afters": ["v9"], "sizes": [100]}, 130),
        (
            "list_referrers",
            {"digest": digest("manifest 2"), "fallback_tag": "x", "artifact_type": None, "after": b"", "limit": 100},
            70,
        ),
    ],
)
def test_reads_by_name_touch_few_pages(crowd: Connection, name: str, parameters: dict[str, Any], pages: int) -> None:
    for names, tenant_id in ((BIG_NAMES, BIG), (SMALL_NAMES, SMALL)):
        assert touched(crowd, name, {**names, **parameters}, tenant_id=tenant_id) <= pages, names


@pytest.mark.parametrize(
    ("name", "parameters", "pages"),
    [
        ("find_tag", {"name": "v3"}, 15),
        ("list_tags_of_digest", {"digest": MANIFEST, "after": "", "limit": 100}, 30),
        ("list_tag_moves", {"name": "v3", "before": datetime.max.replace(tzinfo=UTC), "limit": 100}, 15),
        ("resolve_tag", {"name": "v3", "at": datetime.now(UTC)}, 15),
        # It counts what is in the repository, once in its life.
        ("mark_repository_deleted", {"actor": "ann", "most": 2**62}, 45_000),
        ("lock_layer", {"digest": LAYER}, 15),
        ("lock_manifest", {"digest": MANIFEST}, 10),
        ("find_parent", {"digest": LAYER}, 15),
        ("delete_descriptors", {"digest": MANIFEST}, 400),
        ("list_deletion_effects", {"tags": ["v3"], "digests": []}, 100),
        ("list_deletion_effects", {"tags": [], "digests": [digest("manifest 4")]}, 250),
        (
            "lock_references",
            {"digests": [digest(f"layer {n}") for n in range(10)], "manifest_digests": [MANIFEST]},
            150,
        ),
        ("lock_mountable_blob", {"digest": LAYER, "source_path": "web", "source_ids": None}, 30),
        ("lock_blob_of_any", {"digest": LAYER, "source_ids": None}, 30),
        ("list_signatures", {"digest": MANIFEST}, 15),
        ("list_signature_relations", {"digest": MANIFEST}, 20),
        ("move_cosign_tags", {"digest": MANIFEST, "subject_digests": [MANIFEST]}, 40),
    ],
)
def test_work_in_a_repository_touches_few_pages(
    crowd: Connection, name: str, parameters: dict[str, Any], pages: int
) -> None:
    for ids in (BIG_IDS, SMALL_IDS):
        assert touched(crowd, name, {**ids, **parameters}, tenant_id=ids["tenant_id"]) <= pages, ids


@pytest.mark.parametrize(
    ("name", "parameters", "pages"),
    [
        # Of five thousand entries of a kind a thousand are due, or none: no more are looked at than are taken.
        ("take_queued", {"kind": "layer", "grace": timedelta(seconds=4000), "limit": 25}, 200),
        ("take_queued", {"kind": "layer", "grace": timedelta(days=1), "limit": 25}, 5),
        ("list_condemned_bytes", {"grace": timedelta(days=1), "away": [], "limit": 500}, 5),
    ],
)
def test_collection_of_what_is_not_due_touches_few_pages(
    crowd: Connection, name: str, parameters: dict[str, Any], pages: int
) -> None:
    assert touched(crowd, name, parameters, tenant_id=BIG) <= pages


@pytest.mark.parametrize("after", [("", ""), ("big/", "repository-1"), ("big/", "repository-99"), ("tenant-9/", "web")])
def test_a_page_of_all_repositories_is_flat_at_any_depth(crowd: Connection, after: tuple[str, str]) -> None:
    parameters = {"after_prefix": after[0], "after_path": after[1], "limit": 100}
    assert touched(crowd, "list_repositories", parameters, tenant_id=BIG) <= 500


def touched(connection: Connection, name: str, parameters: dict[str, Any], *, tenant_id: int) -> int:
    """How many pages the statement touches, as prepared in production; it is rolled back."""
    statement = registered[name]
    with working_as(connection, name, tenant_id=tenant_id):
        connection.execute("set local plan_cache_mode = force_generic_plan")
        [(explained,)] = connection.execute(
            f"explain (analyze, buffers, format json) {statement.sql}", parameters, prepare=True
        ).fetchall()
    root = explained[0]["Plan"]
    return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
