"""`distsql tenant`, `account`, `grant`, `key`, `repository visibility`: what they say, and what is kept of a secret."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from distsql.app import Registry
from distsql.cli import main
from distsql.registry.credentials import is_secret
from distsql.registry.signing_keys import SigningKeys
from distsql.values import Caller

Sql = psycopg.Connection[tuple[object, ...]]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def catalogue(database_url: str, tmp_path: Path) -> list[str]:
    options = ["--database-url", database_url, "--storage", (tmp_path / "bytes").as_uri()]
    assert run("tenant", "create", "acme", *options).exit_code == 0
    return options


@pytest.fixture
def secret(catalogue: list[str]) -> str:
    """Of `acme/ci`, a robot with two grants."""
    grants = ["--grant", "acme/web/*:pull,push", "--grant", "acme/api:pull"]
    made = run("account", "create", "acme/ci", *grants, "--expires", "90d", *catalogue)
    assert made.exit_code == 0, made.stderr
    return made.stdout.strip()


def test_tables_for_programs_have_whole_lines(catalogue: list[str], secret: str) -> None:
    """Nothing is cut off where no terminal says how wide it is: not a time, a grant, or a key's name."""
    [described] = json.loads(run("account", "show", "acme/ci", "--json", *catalogue).stdout)
    shown = run("account", "show", "acme/ci", *catalogue).stdout
    assert all(text in shown for text in (described["created_at"], described["expires_at"], *described["grants"]))
    assert run("key", "rotate", *catalogue).exit_code == 0
    [key] = json.loads(run("key", "list", "--json", *catalogue).stdout)
    assert all(text in run("key", "list", *catalogue).stdout for text in (key["kid"], key["created_at"]))


def test_a_secret_is_shown_once_and_kept_as_a_hash(catalogue: list[str], secret: str, sql: Sql) -> None:
    """Argon2id in the catalogue, and no command that reads it back."""
    [(kept,)] = sql.execute("select secret_hash from accounts").fetchall()
    assert str(kept).startswith("$argon2id$")
    assert is_secret(secret, str(kept))
    assert not is_secret(secret + "x", str(kept))
    assert secret.startswith("dsql_")
    assert len(secret) > 40
    for command in (["account", "show", "acme/ci"], ["account", "list"], ["grant", "list", "acme/ci"]):
        for form in ([], ["--json"]):
            told = run(*command, *form, *catalogue)
            assert told.exit_code == 0
            assert secret not in told.output
            assert str(kept) not in told.output
    whole = "".join(str(row) for row in sql.execute("select a::text from audit_events a").fetchall())
    assert secret not in whole


def test_account_show_and_list(catalogue: list[str], secret: str) -> None:
    [shown] = json.loads(run("account", "show", "acme/ci", "--json", *catalogue).stdout)
    assert shown["login"] == "acme/ci"
    assert shown["kind"] == "robot"
    assert shown["expires_at"] > shown["created_at"]
    assert shown["grants"] == ["acme/api:pull", "acme/web/*:pull,push"]
    assert [row["login"] for row in json.loads(run("account", "list", "--json", *catalogue).stdout)] == ["acme/ci"]
    assert json.loads(run("account", "list", "other", "--json", *catalogue).stdout) == []
    assert "acme/ci" in run("account", "list", "acme", *catalogue).stdout


def test_json_has_the_secret(catalogue: list[str]) -> None:
    made = json.loads(run("account", "create", "acme/ann", "--kind", "person", "--json", *catalogue).stdout)
    assert made["login"] == "acme/ann"
    assert made["secret"]


def test_rotate_disable_enable_delete(catalogue: list[str], secret: str, sql: Sql) -> None:
    """Each is in the audit, with who did it."""
    rotated = run("account", "rotate", "acme/ci", *catalogue).stdout.strip()
    [(kept,)] = sql.execute("select secret_hash from accounts").fetchall()
    assert (is_secret(secret, str(kept)), is_secret(rotated, str(kept))) == (False, True)
    assert run("account", "disable", "acme/ci", *catalogue).stdout == "acme/ci is disabled\n"
    assert sql.execute("select disabled_at is not null from accounts").fetchall() == [(True,)]
    assert run("account", "enable", "acme/ci", *catalogue).stdout == "acme/ci is enabled\n"
    assert sql.execute("select disabled_at is not null from accounts").fetchall() == [(False,)]
    assert run("account", "delete", "acme/ci", *catalogue).exit_code == 0
    assert sql.execute("select (select count(*) from accounts), (select count(*) from grants)").fetchone() == (0, 0)
    done = sql.execute("select action from audit_events where actor like 'cli:%' order by at").fetchall()
    assert [action for (action,) in done if str(action).startswith("account.")] == [
        *["account.create"] * 2,
        "account.rotate",
        "account.disable",
        "account.enable",
        "account.delete",
    ]


def test_grants_are_added_and_removed(catalogue: list[str], secret: str) -> None:
    assert run("grant", "add", "acme/ci", "acme/**:delete", *catalogue).exit_code == 0
    assert run("grant", "add", "acme/ci", "acme/api:pull,push", *catalogue).exit_code == 0
    assert run("grant", "remove", "acme/ci", "acme/web/*:push", *catalogue).exit_code == 0
    listed = run("grant", "list", "acme/ci", *catalogue).stdout.splitlines()
    assert listed == ["acme/**:delete", "acme/api:pull,push", "acme/web/*:pull"]
    assert run("grant", "remove", "acme/ci", "acme/web/*:push", *catalogue).exit_code == 1
    assert json.loads(run("grant", "list", "acme/ci", "--json", *catalogue).stdout) == listed


ERRORS = [
    (["account", "create", "nobody/ci"], 1, "tenant create nobody"),
    (["account", "create", "acme/ci"], 1, "account rotate"),
    (["account", "create", "ci"], 1, "TENANT/NAME"),
    (["account", "create", "acme/CI"], 1, "TENANT/NAME"),
    (["account", "create", "acme/a/b"], 1, "TENANT/NAME"),
    (["account", "create", "acme/x", "--grant", "other/web:pull"], 1, "another tenant"),
    (["account", "create", "acme/x", "--grant", "acme/web:read"], 1, "PATTERN:ACTIONS"),
    (["account", "create", "acme/x", "--expires", "soon"], 2, "36h"),
    (["account", "create", "acme/x", "--kind", "god"], 2, "robot"),
    (["account", "show", "acme/nobody"], 1, "no account"),
    (["account", "rotate", "acme/nobody"], 1, "no account"),
    (["grant", "add", "acme/ci", "other/web:pull"], 1, "another tenant"),
    (["grant", "add", "acme/nobody", "acme/web:pull"], 1, "no account"),
    (["tenant", "create", "acme"], 1, "already"),
    (["tenant", "create", "a/b"], 1, "first component"),
    (["tenant", "create", "ACME"], 1, "name"),
    (["tenant", "visibility", "nobody", "public"], 1, "tenant create"),
    (["repository", "visibility", "acme/nowhere", "public"], 1, "acme/nowhere"),
    (["key", "rotate", "--grace", "long"], 2, "30s"),
]


def test_errors_have_a_way_out(catalogue: list[str], secret: str) -> None:
    """A sentence on stderr, and nothing is changed."""
    for arguments, status, way_out in ERRORS:
        result = run(*arguments, *catalogue)
        assert (arguments, result.exit_code, result.stdout) == (arguments, status, "")
        assert way_out in result.stderr, arguments
    assert len(json.loads(run("account", "list", "--json", *catalogue).stdout)) == 1


def test_keys(catalogue: list[str], sql: Sql) -> None:
    """None is shipped: the first one is made when it is needed. A rotated one ends with its grace."""
    assert json.loads(run("key", "list", "--json", *catalogue).stdout) == []
    assert run("key", "rotate", *catalogue).exit_code == 0
    assert run("key", "rotate", "--grace", "1h", *catalogue).exit_code == 0
    new, old = json.loads(run("key", "list", "--json", *catalogue).stdout)
    assert (new["retired_at"], new["expires_at"], new["algorithm"]) == (None, None, "ES256")
    assert old["expires_at"] > old["retired_at"]
    assert new["kid"] != old["kid"]
    keys = [str(text) for (text,) in sql.execute("select private_key from signing_keys").fetchall()]
    assert len(keys) == 2
    assert all("PRIVATE KEY" in text for text in keys)
    assert "PRIVATE KEY" not in run("key", "list", *catalogue).stdout
    assert run("key", "rotate", "--grace", "0s", *catalogue).exit_code == 0
    assert len(json.loads(run("key", "list", "--json", *catalogue).stdout)) == 2


def test_no_role_that_serves_reads_a_key_or_changes_an_account(database_url: str) -> None:
    """Row-level security and rights: an error in a request's code opens neither (CVE-2026-18255)."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set role distsql_serve")
        connection.execute("select set_config('app.tenant_id', '0', false)")
        for statement in (
            "select * from signing_keys",
            "insert into signing_keys (tenant_id, kid, algorithm, private_key) values (0, 'x', 'ES256', 'x')",
            "update accounts set disabled_at = null",
            "insert into grants (tenant_id, account_id, pattern, action) values (0, 1, '**', 'admin')",
            "delete from grants",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


async def test_two_first_starts_make_one_key(catalogue: list[str], registry: Registry, sql: Sql) -> None:
    """Of processes that start together."""
    keys = SigningKeys(registry.backend.everything, Caller())
    rings = await asyncio.gather(*(keys.load() for _ in range(8)))
    assert len({ring.signing.kid for ring in rings}) == 1
    assert sql.execute("select count(*) from signing_keys").fetchone() == (1,)


def test_visibility(catalogue: list[str], sql: Sql) -> None:
    sql.execute("insert into repositories (tenant_id, path) select id, 'web' from tenants where name = 'acme'")
    for visibility, public in (("public", True), ("private", False)):
        told = run("repository", "visibility", "acme/web", visibility, *catalogue)
        assert told.stdout == f"acme/web is {visibility}\n"
        assert sql.execute("select public from repositories").fetchall() == [(public,)]
        assert run("tenant", "visibility", "acme", visibility, *catalogue).exit_code == 0
        assert sql.execute("select public from tenants where name = 'acme'").fetchall() == [(public,)]
