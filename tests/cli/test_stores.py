"""``distsql store``, and tenants that have one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

import distsql
from distsql.cli import main
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def catalogue(database_url: str, tmp_path: Path) -> list[str]:
    """Options that pick a catalogue in which acme/web has an image."""
    storage = (tmp_path / "bytes").as_uri()

    async def push() -> None:
        async with distsql.connect(database_url, storage) as namespace:
            await push_image(namespace.repository("acme/web"), b"layer", tags=["v1"])

    asyncio.run(push())
    return ["--database-url", database_url, "--storage", storage]


def run(catalogue: list[str], *arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [*arguments, *catalogue])
    assert result.exit_code == status, result.output
    return result


def test_a_store_is_added_given_to_a_tenant_and_moved_to(catalogue: list[str], tmp_path: Path, sql: Sql) -> None:
    eu = (tmp_path / "eu").as_uri()
    assert "eu is known" in run(catalogue, "store", "add", "eu", eu).stdout
    assert "already" in run(catalogue, "store", "add", "eu", eu, status=2).stderr
    run(catalogue, "tenant", "set", "acme", "--store", "eu")
    (listed,) = json.loads(run(catalogue, "store", "list", "--json").stdout)
    assert (listed["name"], listed["url"], listed["tenants"]) == ("eu", eu, 1)
    assert "eu" in run(catalogue, "store", "list").stdout
    shown = json.loads(run(catalogue, "tenant", "show", "acme", "--json").stdout)
    assert shown["store"] == "eu"
    moved = run(catalogue, "store", "move", "acme", "eu", "--json")
    assert json.loads(moved.stdout) | {"bytes": 0} == {"blobs": 2, "bytes": 0, "damaged": [], "open_uploads": 0}
    assert "2 blobs" in moved.stderr
    keys = {str(key) for (key,) in sql.execute("select store_key from blobs")}
    assert {key.partition(":")[0] for key in keys} == {"eu"}
    run(catalogue, "verify", "--bytes")
    assert "2 blobs" in run(catalogue, "store", "move", "acme", "default").stdout
    assert json.loads(run(catalogue, "tenant", "show", "acme", "--json").stdout)["store"] is None
    assert "no store" in run(catalogue, "tenant", "set", "acme", "--store", "us", status=1).stderr


def test_checking_finds_what_is_wrong(catalogue: list[str], tmp_path: Path) -> None:
    run(catalogue, "store", "add", "eu", (tmp_path / "eu").as_uri())
    assert json.loads(run(catalogue, "store", "check", "--json").stdout) == [
        {"name": "default", "problem": ""},
        {"name": "eu", "problem": ""},
    ]
    (tmp_path / "eu" / "staging").rmdir()
    (tmp_path / "eu" / "staging").write_text("in the way")
    assert "staging" in run(catalogue, "store", "check", "eu", "--json", status=1).stdout
    assert run(catalogue, "store", "check", "default").exit_code == 0
    run(catalogue, "store", "check", "us", status=2)


def test_no_credentials_are_taken(catalogue: list[str], sql: Sql) -> None:
    refused = run(catalogue, "store", "add", "eu", "s3://key:hunter2@bucket/x", status=2)
    assert "hunter2" not in refused.output
    assert sql.execute("select count(*) from byte_stores").fetchone() == (0,)
