"""``distsql collect-garbage`` as people use it: what it says is what becomes of catalogue and store."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from click.testing import CliRunner, Result

import distsql
from distsql.cli import main
from distsql.oci.digest import Digest
from tests.cli.terminals import run_on_a_terminal
from tests.migrations import snapshots
from tests.registry.pushing import CONFIG, push_blob, push_image
from tests.registry.test_garbage import later

Sql = psycopg.Connection[tuple[Any, ...]]
AN_HOUR: Final = {"DISTSQL_GC_GRACE": "1h", "DISTSQL_RESTORE_PERIOD": "1h"}
KEPT, DELETED, UNTAGGED, OF_NOTHING, GONE, SENT = b"kept", b"deleted!", b"untagged!!", b"of nothing", b"gone?", b"half"
"""All of different lengths, so that no sum is right by chance."""

COUNTS: Final = {
    "uploads": "select count(*) from uploads",
    "tenants": "select count(*) from tenants where id <> 0",
    "repositories": "select count(*) from repositories",
    "layers": "select count(*) from layers l join repositories r on r.id = l.repository_id where r.deleted_at is null",
    "blobs": "select count(*) from blobs where state = 'live'",
    "manifests": "select count(*) from manifests m join repositories r on r.id = m.repository_id "
    "where m.deleted_at is null and r.deleted_at is null",
    "purged": "select count(*) from manifests m join repositories r on r.id = m.repository_id "
    "where r.deleted_at is null",
}


def run(*arguments: str, status: int = 0, **env: str) -> Result:
    result = CliRunner().invoke(main, ["collect-garbage", *arguments], env={**AN_HOUR, **env})
    assert result.exit_code == status, (result.output, result.exception)
    return result


def tend(*arguments: str) -> None:
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0


def populate(catalogue: list[str], sql: Sql) -> None:
    """Some of everything that a run takes, beside an image that stays; two hours ago."""
    tend("tenant", "create", "acme", *catalogue)
    tend("tenant", "set", "acme", "--untagged", "collect", *catalogue)
    tend("tenant", "create", "apex", *catalogue)
    tend("tenant", "delete", "apex", *catalogue)

    async def push() -> None:
        async with distsql.connect(catalogue[1], catalogue[3]) as namespace:
            web, gone = namespace.repository("acme/web"), namespace.repository("acme/gone")
            await push_image(web, KEPT, tags=["v1"])
            await web.manifests.delete((await push_image(web, KEPT, DELETED, tags=["v0"])).digest)
            await push_image(web, UNTAGGED)
            await push_blob(web, OF_NOTHING)
            await push_image(gone, GONE, tags=["v1"])
            await gone.remove()
            async with await web.layers.upload() as upload:
                await upload.write(SENT)

    asyncio.run(push())
    sql.execute("update uploads set expires_at = now()")
    later(sql, "2 hours")


def counted(sql: Sql) -> dict[str, int]:
    found = {}
    for name, query in COUNTS.items():
        [(found[name],)] = sql.execute(query).fetchall()
    return found


def stored(catalogue: list[str]) -> list[bytes]:
    place = Path(catalogue[3].removeprefix("file://"))
    return [path.read_bytes() for path in place.rglob("*") if path.is_file() and len(path.name) == 32]


def pulled(catalogue: list[str]) -> bytes:
    async def pull() -> bytes:
        async with distsql.connect(catalogue[1], catalogue[3]) as namespace:
            web = namespace.repository("acme/web")
            await web.manifests.get_by_tag("v1")
            return await (await web.layers.fetch(Digest.of(KEPT))).read()

    return asyncio.run(pull())


def test_what_it_says_is_what_becomes_of_catalogue_and_store(
    catalogue: list[str], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(catalogue, sql)
    before, bytes_before, rows_before = counted(sql), stored(catalogue), snapshots.rows_over(sql)

    foreseen = json.loads(run("--dry-run", "--json", *catalogue).stdout)
    table = run("--dry-run", *catalogue).stdout
    assert snapshots.rows_over(sql) == rows_before
    assert stored(catalogue) == bytes_before

    for name, value in AN_HOUR.items():
        monkeypatch.setenv(name, value)
    printed, shown = run_on_a_terminal("collect-garbage", "--json", *catalogue)
    found = json.loads(printed)
    assert (foreseen.pop("dry_run"), found.pop("dry_run")) == (True, False)
    assert found == foreseen

    after, bytes_after = counted(sql), stored(catalogue)
    assert {name: before[name] - after[name] for name in before} == {name: found[name] for name in before}
    assert all(found[name] for name in before)
    # What was untagged can be restored yet.
    assert sorted(bytes_after) == sorted([CONFIG, KEPT, UNTAGGED])
    assert found["freed_bytes"] == sum(map(len, bytes_before)) - sum(map(len, bytes_after))
    assert found["freed_bytes"] == sum(map(len, (DELETED, OF_NOTHING, GONE, SENT)))
    assert pulled(catalogue) == KEPT

    for words in ("would go", "expired uploads", "deleted tenants", "blobs that nothing needs any more"):
        assert words in table
    assert f"{found['freed_bytes']} bytes would be free" in table
    for what in ("uploads", "repositories", "manifests", "layers", "blobs", "bytes"):
        assert what in shown, "progress, on the terminal"
    told = sql.execute("select actor, reference from audit_events where action = 'garbage.collect'").fetchall()
    assert [actor.startswith("cli:") for actor, _ in told] == [True, True]
    assert any(f"{found['freed_bytes']} freed_bytes" in (reference or "") for _, reference in told)

    again = run(*catalogue)
    assert again.stdout == "there is no garbage that is old enough\n"
    assert again.stderr == "", "no progress where there is no terminal"


def test_full_takes_what_no_row_names(catalogue: list[str]) -> None:
    """Once it is older than the grace; a run of what is queued never looks there."""

    async def push() -> None:
        async with distsql.connect(catalogue[1], catalogue[3]) as namespace:
            await push_image(namespace.repository("acme/web"), KEPT, tags=["v1"])

    asyncio.run(push())
    orphan = Path(catalogue[3].removeprefix("file://")) / "objects" / "00" / ("0" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    assert "no garbage" in run(*catalogue).stdout
    assert "no garbage" in run("--full", *catalogue).stdout
    os.utime(orphan, (time.time() - 7200,) * 2)
    full = run("--full", *catalogue)
    assert "stored objects that no row names" in full.stdout
    assert "8 bytes are free" in full.stdout
    assert not orphan.exists()
    assert pulled(catalogue) == KEPT


def test_what_it_leaves_for_how_long(catalogue: list[str], sql: Sql) -> None:
    """Within the grace nothing goes; with a recovery window bytes stay, and longer where their store is away."""
    populate(catalogue, sql)
    day = json.loads(run("--grace", "1d", "--json", *catalogue, DISTSQL_RESTORE_PERIOD="7d").stdout)
    assert {name: number for name, number in day.items() if number} == {"uploads": 1, "freed_bytes": len(SENT)}
    bytes_before = stored(catalogue)
    kept = json.loads(run("--json", *catalogue, DISTSQL_RECOVERY_WINDOW="1d").stdout)
    assert (kept["blobs"], kept["freed_bytes"]) == (3, 0)
    assert stored(catalogue) == bytes_before
    sql.execute("update condemned_bytes set store_key = 'mislaid:' || store_key where length = %s", [len(GONE)])
    result = run(*catalogue, status=1)
    assert "mislaid" in result.stderr
    assert "a later run deletes" in result.stderr
    assert sorted(stored(catalogue)) == sorted([CONFIG, KEPT, UNTAGGED, GONE])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--grace", "soon"], "duration"), (["--dry-run", "--full"], "leave out"), (["all"], "unexpected")],
)
def test_wrong_usage_changes_nothing(catalogue: list[str], sql: Sql, arguments: list[str], complaint: str) -> None:
    result = run(*arguments, *catalogue, status=2)
    assert complaint in result.stderr
    assert result.stdout == ""
    assert sql.execute("select 1 from audit_events").fetchall() == []
