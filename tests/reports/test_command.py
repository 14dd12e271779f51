"""``distsql report``."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from distsql.cli import main
from tests.reports.world import World

WEB = "acme/web"


def run(world: World, *arguments: str, status: int = 0, url: str = "") -> Result:
    result = CliRunner().invoke(main, ["report", *arguments, "--database-url", url or world.url])
    assert result.exit_code == status, result.output
    return result


def rows(world: World, *arguments: str, url: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(world, *arguments, "--format", "json", url=url).stdout)
    return found


def test_list(world: World) -> None:
    assert "stale-tags" in run(world, "list").stdout
    found = {row["name"]: row for row in json.loads(run(world, "list", "--json").stdout)}
    assert found["resolve-tag"]["arguments"] == ["tenant", "repository", "tag", "at"]
    assert found["tenant-usage"]["answers"] == "Who uses how much."
    assert "digest" not in found


def test_json_is_exact(world: World) -> None:
    [row] = rows(world, "tenant-usage", "--tenant", "acme")
    assert (row["tenant"], row["stored_bytes"], row["quota_bytes"]) == ("acme", 1537, 10**6)
    assert rows(world, "tenant_usage", "tenant=acme") == [row]
    assert json.loads(run(world, "tenant-usage", "--tenant", "acme", "--json").stdout) == [row]
    [ended] = rows(world, "tag-history", f"repository={WEB}", "tag=gone")
    assert datetime.fromisoformat(ended["valid_from"]) < datetime.fromisoformat(ended["valid_to"])
    assert datetime.fromisoformat(ended["valid_to"]).tzinfo is not None
    assert rows(world, "tenant-usage", "--tenant", "nobody") == []


def test_csv_is_exact(world: World) -> None:
    read = list(csv.DictReader(io.StringIO(run(world, "pulls-by-day", "--tenant", "acme", "--format", "csv").stdout)))
    assert {(row["day"], row["bytes"]) for row in read} == {
        ("2026-11-05", "120"),
        ("2026-11-05", "5"),
        ("2026-10-26", "7"),
    }
    [row] = csv.DictReader(io.StringIO(run(world, "tag-history", "tag=base", "--format", "csv").stdout))
    assert (row["valid_to"], row["actor"]) == ("", "ann")


def test_tables_are_for_people(world: World) -> None:
    assert "1.5 kB" in run(world, "tenant-usage", "--tenant", "acme").stdout
    shown = run(world, "tag-history", "tag=base").stdout
    assert f"{datetime.now(UTC):%Y-}" in shown
    assert "+00:00" not in shown


def test_parquet(world: World, tmp_path: Path) -> None:
    target = tmp_path / "pulls.parquet"
    run(world, "pulls-by-day", "--tenant", "acme", "--format", "parquet", "--output", str(target))
    read = parquet.read_table(target)
    assert read.schema.field("day").type == pa.date32()
    assert sorted(read.column("bytes").to_pylist()) == [5, 7, 120]
    run(world, "stuck-uploads", "--format", "parquet", "--output", str(target))
    read = parquet.read_table(target)
    assert read.schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert [len(uuid) for uuid in read.column("uuid").to_pylist()] == [36]
    assert list(tmp_path.iterdir()) == [target]
    assert "--output" in run(world, "stuck-uploads", "--format", "parquet", status=2).stderr


def test_output_to_a_file(world: World, tmp_path: Path) -> None:
    target = tmp_path / "usage.json"
    assert run(world, "tenant-usage", "--json", "--output", str(target)).stdout == ""
    assert {row["tenant"] for row in json.loads(target.read_text())} == {"acme", "rival"}


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (["idle_days>=3"], {"v1"}),
        (["idle-days=3"], {"v1"}),
        (["idle_days<3", "last_pulled_at=null"], {"latest", "all"}),
        (["last_pulled_at!=null"], {"v1"}),
        (["idle_days>3"], set()),
        (["tag!=v1", "tag<b"], {"all"}),
    ],
)
def test_filters(world: World, words: list[str], tags: set[str]) -> None:
    assert {row["tag"] for row in rows(world, "stale-tags", f"repository={WEB}", *words)} == tags


def test_a_digest_is_looked_for_by_its_key(world: World) -> None:
    [row] = rows(world, "base-images", f"base_digest={world.old_base}", "--tenant", "acme")
    assert (row["manifest_digest"], row["current"]) == (world.old_app, False)
    assert "base_key" not in row


def test_functions_take_arguments(world: World) -> None:
    asked = ["resolve-tag", "--tenant", "acme", f"repository={WEB}", "tag=latest"]
    assert rows(world, *asked, "at=infinity") == [{"digest": world.new_app}]
    assert rows(world, "what-if-delete", "tenant=acme", f"repository={WEB}", "effect=none") == []
    missing = run(world, *asked, status=2).stderr
    assert "at=..." in missing


def test_limit(world: World) -> None:
    assert len(rows(world, "audit", "--limit", "3")) == 3
    assert rows(world, "audit", "--limit", "0") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tenant-use"], "There is no report 'tenant-use'. There are: actor-activity, "),
        (["tenant-usage", "colour=red"], "tenant-usage has no 'colour'. It has: tenant, repositories, "),
        (["tenant-usage", "acme"], "neither KEY=VALUE"),
        (["tenant-usage", "tags=many"], 'invalid input syntax for type bigint: "many"'),
        (["tenant-usage", "tags>null"], "tags=null"),
        (["resolve-tag", "tenant=acme", f"repository={WEB}", "tag=v1", "at=once"], "once"),
        (["labels", "--watch", "--format", "csv"], "--watch is for tables"),
    ],
)
def test_what_has_no_sense(world: World, words: list[str], message: str) -> None:
    assert message in run(world, *words, status=2).stderr


def test_values_are_no_sql(world: World) -> None:
    assert rows(world, "labels", "key=' or true --") == []
    assert rows(world, "labels", "key=%(x)s") == []


def test_watch_asks_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)
        if len(asked) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("asyncio.sleep", sleep)
    shown = run(world, "tenant-usage", "--watch", status=1).stdout
    assert shown.count("stored_bytes") == 3


def test_a_tenants_own_role_asks_as_well(world: World) -> None:
    assert {row["tenant"] for row in rows(world, "tenant-usage", url=world.acme_url)} == {"acme"}
