"""``distsql tenant``, and the settings and names of repositories."""

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


def shown(catalogue: list[str], *arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(catalogue, *arguments, "--json").stdout)
    return found


def test_a_tenants_life(catalogue: list[str], sql: Sql) -> None:
    run(catalogue, "tenant", "create", "apex")
    assert "There is a tenant apex" in run(catalogue, "tenant", "create", "apex", status=1).stderr
    assert [row["name"] for row in json.loads(run(catalogue, "tenant", "list", "--json").stdout)] == ["acme", "apex"]
    assert "apex" in run(catalogue, "tenant", "list").stdout
    run(catalogue, "tenant", "delete", "apex")
    run(catalogue, "tenant", "rename", "acme", "apex")
    assert run(catalogue, "repository", "list").stdout == "apex/web\n"
    run(catalogue, "tenant", "suspend", "apex")
    assert shown(catalogue, "tenant", "show", "apex")["suspended_at"]
    assert "suspended" in run(catalogue, "repository", "delete", "apex/web", status=1).stderr
    run(catalogue, "tenant", "resume", "apex")
    run(catalogue, "tenant", "delete", "apex")
    assert run(catalogue, "repository", "list").stdout == ""
    assert "no tenant 'apex'" in run(catalogue, "tenant", "show", "apex", status=1).stderr
    actions = sql.execute("select action from audit_events where action like 'tenant.%' order by at").fetchall()
    assert [action for (action,) in actions] == [
        f"tenant.{verb}" for verb in ("create", "delete", "rename", "suspend", "resume", "delete")
    ]


def test_a_tenants_settings(catalogue: list[str]) -> None:
    options = {
        "--quota": "10GiB",
        "--quota-repositories": "5",
        "--quota-manifests": "6",
        "--quota-tags": "7",
        "--manifest-limit": "1MiB",
        "--immutable-tags": "v*, release-?",
        "--read-only": "on",
        "--delete": "off",
        "--sparse": "on",
        "--create": "admin",
    }
    run(catalogue, "tenant", "set", "acme", *(word for pair in options.items() for word in pair))
    settings = {
        "quota_bytes": 10 * 1024**3,
        "quota_repositories": 5,
        "quota_manifests": 6,
        "quota_tags": 7,
        "manifest_limit_bytes": 1024**2,
        "immutable_tags": ["release-?", "v*"],
        "read_only": True,
        "deletable": False,
        "sparse": True,
        "creators": "admin",
        "repositories": 1,
        "manifests": 1,
        "tags": 1,
    }
    found = shown(catalogue, "tenant", "show", "acme")
    assert {name: found[name] for name in settings} == settings
    run(catalogue, "tenant", "set", "acme", "--quota", "none", "--immutable-tags", "none")
    found = shown(catalogue, "tenant", "show", "acme")
    assert (found["quota_bytes"], found["immutable_tags"], found["quota_tags"]) == (None, [], 7)
    assert "quota_tags" in run(catalogue, "tenant", "show", "acme").stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--quota", "much"],
        ["--quota", "-1"],
        ["--quota-tags", "1.5"],
        ["--quota-tags", "-1"],
        ["--read-only", "maybe"],
        ["--create", "everybody"],
    ],
    ids=" ".join,
)
def test_settings_that_have_no_sense(catalogue: list[str], options: list[str]) -> None:
    run(catalogue, "tenant", "set", "acme", *options, status=2)


def test_patterns_that_have_no_sense(catalogue: list[str]) -> None:
    for what in (["tenant", "set", "acme"], ["repository", "set", "acme/web"]):
        assert "%" in run(catalogue, *what, "--immutable-tags", "v*,100%", status=1).stderr


def test_a_repositorys_settings_and_name(catalogue: list[str], sql: Sql) -> None:
    run(catalogue, "repository", "set", "acme/web", "--immutable-tags", "v*", "--delete", "off")
    run(catalogue, "repository", "rename", "acme/web", "acme/site/web")
    found = shown(catalogue, "repository", "show", "acme/site/web")
    expected = {"tenant": "acme", "path": "site/web", "immutable_tags": ["v*"], "deletable": False}
    expected |= {"manifests": 1, "tags": 1, "blobs": 2}
    assert {name: found[name] for name in expected} == expected
    assert "site/web" in run(catalogue, "repository", "show", "acme/site/web").stdout
    assert "acme/web" in run(catalogue, "repository", "show", "acme/web", status=1).stderr
    assert "switched off" in run(catalogue, "repository", "delete", "acme/site/web", status=1).stderr
    run(catalogue, "repository", "set", "acme/site/web", "--delete", "on")
    assert "immutable" in run(catalogue, "repository", "delete", "acme/site/web", status=1).stderr
    run(catalogue, "repository", "set", "acme/site/web", "--immutable-tags", "none")
    run(catalogue, "repository", "delete", "acme/site/web")
    [(renamed,)] = sql.execute("select reference from audit_events where action = 'repository.rename'").fetchall()
    assert renamed == "acme/web=acme/site/web"


def test_verify_repairs_what_is_counted(catalogue: list[str], sql: Sql) -> None:
    sql.execute("update tenant_usage set tags = tags + 1 where slot = (select min(slot) from tenant_usage)")
    assert "1 tenants miscounted" in run(catalogue, "verify", status=1).stdout
    run(catalogue, "verify", "--repair")
    assert run(catalogue, "verify").stdout == "nothing is wrong\n"
