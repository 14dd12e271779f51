"""``distsql retention``: what it says, and with which exit status."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import distsql
from distsql.cli import main
from tests.cli.terminals import run_on_a_terminal
from tests.registry.pushing import push_image


@pytest.fixture
def catalogue(database_url: str, tmp_path: Path) -> list[str]:
    """A repository with three tags."""
    found = ["--database-url", database_url, "--storage", (tmp_path / "bytes").as_uri()]

    async def push() -> None:
        async with distsql.connect(found[1], found[3]) as namespace:
            for tag in ("v1", "v2", "dev"):
                await push_image(namespace.repository("acme/web"), tag.encode(), tags=[tag], of=tag)

    asyncio.run(push())
    return found


def run(catalogue: list[str], *arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(main, ["retention", *arguments, *catalogue], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def decisions(result: Result) -> dict[str, tuple[str, str]]:
    (found,) = json.loads(result.stdout)
    return {each["tag"]: (each["decision"], each["reason"]) for each in found["decisions"]}


def test_set_preview_run(catalogue: list[str]) -> None:
    assert run(catalogue, "set", "acme/web", "--keep", "v*: latest 1", "--delete", "v*: all").exit_code == 0
    assert run(catalogue, "set", "acme", "--delete", "dev: beyond 1").exit_code == 0
    listed: list[dict[str, Any]] = json.loads(run(catalogue, "list", "--json").stdout)
    assert [(each["name"], each["priority"], each["action"], each["rule"]) for each in listed] == [
        ("acme", 1, "delete", "dev: beyond 1"),
        ("acme/web", 1, "keep", "v*: latest 1"),
        ("acme/web", 2, "delete", "v*: all"),
    ]
    preview = run(catalogue, "preview", "acme/web", "--json")
    assert decisions(preview) == {
        "v1": ("delete", "acme/web#2: delete v*: all"),
        "v2": ("keep", "acme/web#1: keep v*: latest 1"),
        "dev": ("keep", "no rule is about it"),
    }
    assert json.loads(preview.stdout)[0]["freed_bytes"] == 0  # untagged manifests are kept
    table, shown = run_on_a_terminal("retention", "preview", "acme", *catalogue)
    assert "1 tags and manifests would go; that frees 0 bytes" in table
    assert "1 images stay without a tag" in table
    assert "repositories" in shown
    assert (
        json.loads(run(catalogue, "run", "--json").stdout)[0]["decisions"] == json.loads(preview.stdout)[0]["decisions"]
    )
    # Its manifest has no tag now, and no rule is about that.
    assert "0 tags and manifests went" in run(catalogue, "run", "acme/web").stdout
    assert run(catalogue, "set", "acme/web", "--none").exit_code == 0
    assert "acme/web" not in run(catalogue, "list").stdout


def test_import(catalogue: list[str], tmp_path: Path) -> None:
    selection = {"tagStatus": "tagged", "tagPrefixList": ["v"], "countType": "imageCountMoreThan", "countNumber": 1}
    policy = {"rules": [{"rulePriority": 10, "selection": selection, "action": {"type": "expire"}}]}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    assert run(catalogue, "import", "acme/web", str(file)).exit_code == 0
    assert json.loads(run(catalogue, "list", "acme", "--json").stdout)[0]["kind"] == "ecr"
    selection["countType"] = "sinceImageTransitioned"
    refused = run(catalogue, "import", "acme/web", "-", stdin=json.dumps(policy))
    assert refused.exit_code == 1
    assert "Rule 10: the countType 'sinceImageTransitioned' can't be expressed" in refused.stderr
    (found,) = json.loads(run(catalogue, "preview", "acme/web", "--json").stdout)
    assert sorted(each["tag"] or "" for each in found["decisions"] if each["decision"] == "delete") == ["", "v1"]


def test_mistakes(catalogue: list[str]) -> None:
    for wrong, status in (
        (["set", "acme/web"], 2),
        (["set", "acme/web", "--none", "--keep", "signed"], 2),
        (["set", "acme/web", "--keep", "everything"], 1),
        (["set", "acme/nothing", "--keep", "signed"], 1),
        (["preview", "nobody"], 1),
        (["run", "acme/nothing"], 1),
    ):
        result = run(catalogue, *wrong)
        assert (result.exit_code, bool(result.stderr), result.stdout) == (status, True, ""), wrong
