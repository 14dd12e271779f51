"""`distsql webhook`: as an operator types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from distsql.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    def run(*arguments: object, status: int = 0) -> Result:
        options = ["--database-url", database_url, "--storage", (tmp_path / "bytes").as_uri()]
        result = CliRunner().invoke(main, [*map(str, arguments), *options])
        assert result.exit_code == status, result.output
        return result

    return run


def test_add_list_replay_and_delete(run: Run) -> None:
    run("tenant", "create", "acme")
    made = json.loads(run("webhook", "add", "acme", "https://hooks.test/x", "--events", "push", "--json").output)
    number = made["id"]
    assert made["secret"].startswith("whsec_")
    [listed] = json.loads(run("webhook", "list", "--json").output)
    assert (listed["tenant"], listed["id"], listed["url"]) == ("acme", number, "https://hooks.test/x")
    assert (listed["format"], listed["events"], listed["waiting"]) == ("cloudevents", ["push"], 0)
    assert made["secret"] not in run("webhook", "list", "acme").output
    assert json.loads(run("webhook", "list", "acme", "--dead", "--json").output) == []
    assert "0 events" in run("webhook", "replay", "acme", number, "--since", "2026-01-01").output
    run("webhook", "delete", "acme", number)
    assert json.loads(run("webhook", "list", "--json").output) == []
    assert "shown again: whsec_" in run("webhook", "add", "acme", "https://hooks.test/x").output


def test_what_is_wrong_is_told(run: Run) -> None:
    run("tenant", "create", "acme")
    assert "http or https" in run("webhook", "add", "acme", "ftp://hooks.test/", status=1).output
    assert "push, tag, delete" in run("webhook", "add", "acme", "http://h.test/", "--events", "x", status=1).output
    assert "no tenant" in run("webhook", "add", "nobody", "http://h.test/", status=1).output
    assert "no webhook 7" in run("webhook", "delete", "acme", 7, status=1).output
    assert "write a time" in run("webhook", "replay", "acme", 7, "--since", "then", status=2).output
    assert "name of a tenant" in run("webhook", "list", "--dead", status=2).output
    number = json.loads(run("webhook", "add", "acme", "http://127.0.0.1:9/", "--json").output)["id"]
    assert "DISTSQL_WEBHOOK_ALLOW" in run("webhook", "test", "acme", number, status=1).output
