"""``distsql deleted``, ``restore`` and ``tag``: undo, by the names that people are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from click.testing import CliRunner, Result

import distsql
from distsql.cli import main
from distsql.contract import Namespace
from distsql.oci.manifest import ParsedManifest
from tests.registry.pushing import CONFIG, index, push_image

Sql = psycopg.Connection[tuple[Any, ...]]


def run(catalogue: list[str], *arguments: str, status: int = 0, period: str = "7d") -> Result:
    env = {"DISTSQL_RESTORE_PERIOD": period}
    result = CliRunner().invoke(main, [*arguments, *catalogue], env=env)
    assert result.exit_code == status, (result.output, result.exception)
    if status:
        assert result.stdout == ""
    return result


def found(catalogue: list[str], *arguments: str, period: str = "7d") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run(catalogue, *arguments, "--json", period=period).stdout)
    return rows


def in_registry(catalogue: list[str], work: Callable[[Namespace], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever the work gives
    async def with_namespace() -> object:
        async with distsql.connect(catalogue[1], catalogue[3]) as namespace:
            return await work(namespace)

    return asyncio.run(with_namespace())


async def pull(namespace: Namespace, repository: str, manifest: ParsedManifest) -> bytes:
    """The manifest by its digest, whole: all of its layers."""
    there = namespace.repository(repository)
    pulled = await there.manifests.get(manifest.digest)
    assert pulled.payload == manifest.payload
    contents = [await (await there.layers.fetch(each.digest)).read() for each in pulled.references()]
    assert contents[0] == CONFIG
    return b"".join(contents[1:])


def test_what_is_listed_as_deleted_can_be_restored_by_its_name(catalogue: list[str], sql: Sql) -> None:
    """Of each kind: the name that the list tells is the one that `restore` takes."""
    pushed: dict[str, ParsedManifest] = {}

    async def push(namespace: Namespace) -> None:
        web, gone = namespace.repository("acme/web"), namespace.repository("acme/gone")
        pushed["tag"] = await push_image(web, b"of a tag", tags=["v1", "other"])
        child = pushed["child"] = await push_image(web, b"of a child")
        pushed["manifest"] = index(child)
        await web.manifests.put(pushed["manifest"], ["multi", "again"])
        pushed["repository"] = await push_image(gone, b"of a repository", tags=["v1"])
        pushed["library"] = await push_image(namespace.repository("tool"), b"of one component", tags=["v1"])
        await web.tags.untag("v1")
        for each in (pushed["manifest"], child):
            await web.manifests.delete(each.digest)
        await gone.remove()
        await namespace.repository("tool").remove()

    in_registry(catalogue, push)
    listed = found(catalogue, "deleted", "list")
    multi, child = (f"acme/web@{pushed[name].digest}" for name in ("manifest", "child"))
    assert {(row["what"], row["name"]) for row in listed} == {
        ("tag", "acme/web:v1"),
        ("tag", "acme/web:multi"),
        ("tag", "acme/web:again"),
        ("manifest", multi),
        ("manifest", child),
        ("repository", "acme/gone"),
        ("repository", "library/tool"),
    }
    for row in listed:
        at, until = (datetime.fromisoformat(row[name]) for name in ("deleted_at", "restorable_until"))
        assert until - at == timedelta(days=7)
        assert row["deleted_by"]
    assert [row["deleted_at"] for row in listed] == sorted((row["deleted_at"] for row in listed), reverse=True)

    assert {row["name"] for row in found(catalogue, "deleted", "list", "acme/gone")} == {"acme/gone"}
    assert {row["name"] for row in found(catalogue, "deleted", "list", "library")} == {"library/tool"}
    assert len(found(catalogue, "deleted", "list", "acme")) == 6
    assert found(catalogue, "deleted", "list", "acm") == found(catalogue, "deleted", "list", "acme/we") == []
    assert run(catalogue, "deleted", "list", "nobody").stdout == ""
    assert found(catalogue, "deleted", "list", period="0s") == []
    table = run(catalogue, "deleted", "list", "acme/web").stdout
    for word in (multi, "acme/web:v1", "restorable_until"):
        assert word in table, "whole, for whoever looks for it by a program"

    for name in ("acme/web:v1", multi, "acme/gone", "tool"):
        assert run(catalogue, "restore", name).stdout == f"{name} is there again\n"
    assert found(catalogue, "deleted", "list") == [], "children and tags come with their index"
    assert json.loads(run(catalogue, "tag", "list", "acme/web", "--json").stdout) == ["again", "multi", "other", "v1"]
    assert run(catalogue, "tag", "list", "acme/gone").stdout == "v1\n"

    async def pull_all(namespace: Namespace) -> None:
        web = namespace.repository("acme/web")
        assert (await web.manifests.get_by_tag("multi")).payload == pushed["manifest"].payload
        assert await pull(namespace, "acme/web", pushed["tag"]) == b"of a tag"
        assert await pull(namespace, "acme/web", pushed["child"]) == b"of a child"
        assert await pull(namespace, "acme/gone", pushed["repository"]) == b"of a repository"
        assert await pull(namespace, "tool", pushed["library"]) == b"of one component"

    in_registry(catalogue, pull_all)
    actions = sql.execute("select action, actor from audit_events where action like '%.restore'").fetchall()
    assert {action for action, _ in actions} == {"manifest.restore", "tag.restore", "repository.restore"}
    assert all(actor.startswith("cli:") for _, actor in actions)


def test_what_cannot_be_restored_is_told_with_a_way_out(catalogue: list[str]) -> None:
    pushed: list[ParsedManifest] = []

    async def push(namespace: Namespace) -> None:
        web = namespace.repository("acme/web")
        pushed.append(await push_image(web, b"layer", tags=["v1"]))
        pushed.append(await push_image(web, b"layer", of="nothing"))
        await web.manifests.delete(pushed[1].digest)

    in_registry(catalogue, push)
    gone = f"acme/web@{pushed[1].digest}"
    for reference, told in {
        "acme/web:never": "`distsql deleted list acme/web`",
        f"acme/web@{pushed[0].digest}": "`distsql deleted list acme/web`",  # it is there
        "acme/never": "`distsql deleted list acme/never`",
        "never:v1": "`distsql deleted list library/never`",
        "acme/web": "rename or delete it first",
        "acme/web:v1": "rolling it back",
        "acme/web@nonsense": "nonsense",
        "ACME/web": "lower-case",
    }.items():
        assert told in run(catalogue, "restore", reference, status=1).stderr, reference
    too_late = run(catalogue, "restore", gone, status=1, period="0s")
    assert "any more" in too_late.stderr
    run(catalogue, "restore", gone)
    for wrong, complaint in (
        (["tag", "rollback", "acme/web"], "acme/web:prod"),
        (["tag", "history", f"acme/web@{pushed[0].digest}"], "names no tag"),
        (["tag", "rollback", "acme/web:v1", "--at", "yesterday"], "2026-11-23T21:00:00Z"),
        (["tag", "history", "acme/web:v1", "--at", "9999-12-31T23:59:59.999999-12:00"], "too far away"),
        (["restore"], "REFERENCE"),
    ):
        assert complaint in run(catalogue, *wrong, status=2).stderr, wrong


def test_a_tag_goes_back_to_an_instant_and_can_be_pulled_as_it_was(catalogue: list[str], sql: Sql) -> None:
    contents = [b"first", b"second", b"third"]
    pushed: list[ParsedManifest] = []
    between: list[datetime] = []

    async def push(namespace: Namespace) -> None:
        for content in contents:
            between.append(datetime.now(UTC))
            pushed.append(await push_image(namespace.repository("acme/web"), content, tags=["prod"]))
        await namespace.repository("acme/web").manifests.delete(pushed[0].digest)

    in_registry(catalogue, push)
    history = found(catalogue, "tag", "history", "acme/web:prod")
    assert [row["digest"] for row in history] == [str(each.digest) for each in reversed(pushed)]
    assert history[0]["valid_to"] is None
    assert [row["valid_to"] for row in history[1:]] == [row["valid_from"] for row in history[:2]]
    table = run(catalogue, "tag", "history", "acme/web:prod").stdout
    assert all(str(each.digest) in table for each in pushed)

    # As it was: an instant leads to a digest, which is pulled without moving the tag.
    last = datetime.fromisoformat(history[1]["valid_to"]) - timedelta(microseconds=1)
    for at, manifest in ((history[1]["valid_from"], 1), (last.isoformat(), 1), ("2999-01-01", 2)):
        (then,) = found(catalogue, "tag", "history", "acme/web:prod", "--at", at)
        assert then["digest"] == str(pushed[manifest].digest)
    assert found(catalogue, "tag", "history", "acme/web:prod", "--at", between[0].isoformat()) == []
    assert run(catalogue, "tag", "history", "acme/web:never").stdout == ""
    assert in_registry(catalogue, lambda namespace: pull(namespace, "acme/web", pushed[1])) == b"second"

    # Back, by the zone that whoever asks lives in; what was deleted meanwhile comes back with it.
    local = between[1].astimezone().isoformat()
    assert run(catalogue, "tag", "rollback", "acme/web:prod", "--at", local).stdout == (
        f"acme/web:prod points to {pushed[0].digest}\n"
    )
    assert in_registry(catalogue, lambda namespace: pull(namespace, "acme/web", pushed[0])) == b"first"
    assert run(catalogue, "tag", "rollback", "acme/web:prod").stdout.endswith(f"{pushed[2].digest}\n")
    naive = between[2].replace(tzinfo=None).isoformat()
    assert run(catalogue, "tag", "rollback", "acme/web:prod", "--at", naive).stdout.endswith(f"{pushed[1].digest}\n")
    assert [row["digest"] for row in found(catalogue, "tag", "history", "acme/web:prod")][:3] == [
        str(pushed[number].digest) for number in (1, 2, 0)
    ]
    moves = sql.execute(
        "select actor from tags where valid_from > %s", [datetime.fromisoformat(history[0]["valid_from"])]
    )
    assert [actor.startswith("cli:") for (actor,) in moves] == [True] * 3
    for arguments in (["acme/web:prod", "--at", "2020-01-01"], ["acme/web:never"], ["acme/never:v1"]):
        refused = run(catalogue, "tag", "rollback", *arguments, status=1)
        assert f"`distsql tag history {arguments[0]}`" in refused.stderr
