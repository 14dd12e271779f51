"""The commands, in this process: what they say, where, and with which exit status."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psycopg
import pytest
from click.testing import CliRunner, Result

import distsql
from distsql.cli import main
from distsql.oci.digest import Digest
from distsql.sql import schema
from tests.cli.terminals import run_on_a_terminal


def commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


EVERY_COMMAND = list(commands(main))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, where they must leave nothing."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(main, arguments, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def pushed(catalogue: list[str]) -> list[str]:
    """Two repositories with a blob each."""

    async def push() -> None:
        async with distsql.connect(catalogue[1], catalogue[3]) as namespace:
            for name in ("acme/web", "acme/api"):
                async with await namespace.repository(name).layers.upload() as upload:
                    await upload.write(b"content")
                    await upload.finish(Digest.of(b"content"))

    asyncio.run(push())
    return catalogue


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_help_is_enough_to_work_from(words: tuple[str, ...]) -> None:
    """Every command says what it does, and every option and argument what it is."""
    result = run(*words, "--help")
    assert result.exit_code == 0
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert command.help
    assert command.help.strip().endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} of {words}"


def some_arguments(words: tuple[str, ...]) -> list[str]:
    """One for each that the command wants."""
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    wanted = [each for each in command.params if isinstance(each, click.Argument) and each.required]
    special = {
        "granted": "acme/web:pull",
        "file": "-",
        "reference": "acme/web:v1",
        "url": "https://ann.example",
        "number": "1",
    }
    return [
        each.type.choices[0] if isinstance(each.type, click.Choice) else special.get(each.name or "", "acme/web")
        for each in wanted
    ]


def needed_options(words: tuple[str, ...]) -> list[str]:
    """Those without which the command has nothing to do."""
    more = {
        "audit export": ["--before", "2026-01-01"],
        "retention set": ["--keep", "signed"],
        "webhook replay": ["--since", "2026-01-01"],
    }
    return more.get(" ".join(words)) or (["--sparse", "on"] if words[-1] == "set" else [])


def test_help_is_quick() -> None:
    """`distsql --help` and the completion of a shell don't wait for a database's or a web server's libraries."""
    heavy = "{'alembic', 'asyncio', 'httptools', 'psycopg', 'rich', 'sqlalchemy', 'uvloop'}"
    code = f"import sys, distsql.cli; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    "words", [words for words in EVERY_COMMAND if words not in {("migrate",), ("serve",)}], ids=" ".join
)
def test_a_mistyped_folder_is_not_made(words: tuple[str, ...], elsewhere: Path) -> None:
    """Only serve and migrate make a catalogue; any other command says that there is none."""
    result = run(*words, *some_arguments(words), *needed_options(words), "--data", "mistyped")
    assert result.exit_code == 1
    assert "distsql serve" in result.stderr
    assert result.stdout == ""
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "nonsense"),
        (["repository", "list", "--nonsense"], "--nonsense"),
        (["repository", "delete"], "NAME"),
        (["repository", "list", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["check", "--storage", "ftp://x", "--database-url", "postgresql://x"], "ftp"),
        (["check", "--database-url", "nonsense://"], "database URL"),
        (["migrate", "--database-url", "nonsense://"], "database URL"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str) -> None:
    """Exit status 2, on stderr."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_migrate(new_database: Callable[[], str]) -> None:
    """Up, again, down; a dry run tells and changes nothing."""
    url = new_database()
    planned = run("migrate", "--dry-run", "--database-url", url)
    assert planned.exit_code == 0
    assert planned.stdout.startswith("would run ")
    assert schema.current_revision(url) is None
    done = run("migrate", "--database-url", url)
    assert done.stdout == f"the schema is at {schema.head_revision()}\n"
    assert run("migrate", "--database-url", url).stdout == f"the schema is at {schema.head_revision()}, as before\n"
    assert run("migrate", "--dry-run", env={"DISTSQL_DATABASE_URL": url}).stdout == "nothing to do\n"
    assert json.loads(run("migrate", "--dry-run", "--json", "--database-url", url).stdout) == []
    head = schema.head_revision()
    assert json.loads(run("migrate", "--json", "--database-url", url).stdout) == {"before": head, "after": head}
    assert run("check", "--database-url", url, "--storage", "memory:").exit_code == 0
    assert json.loads(run("check", "--json", "--database-url", url, "--storage", "memory:").stdout) == {"fine": True}
    down = run("migrate", "--dry-run", "--to", "base", "--database-url", url)
    assert [line.partition(":")[0] for line in down.stdout.splitlines()] == [
        line.partition(":")[0] for line in reversed(planned.stdout.splitlines())
    ]
    assert "undo" in down.stdout
    assert run("migrate", "--to", "base", "--database-url", url).stdout == "the schema is at base\n"
    assert schema.current_revision(url) is None


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_migrate_to_what_is_unknown(new_database: Callable[[], str], more: list[str]) -> None:
    """A sentence, not a traceback; nothing is changed."""
    url = new_database()
    result = run("migrate", "--to", "nonsense", "--database-url", url, *more)
    assert result.exit_code == 1
    assert "nonsense" in result.stderr
    assert schema.current_revision(url) is None


def test_check(catalogue: list[str]) -> None:
    """All is well."""
    result = run("check", *catalogue)
    assert (result.exit_code, result.stderr) == (0, "")


def test_check_finds_what_is_wrong(new_database: Callable[[], str], catalogue: list[str], tmp_path: Path) -> None:
    """No schema, no database, no store: exit status 1 and the way out."""
    (tmp_path / "file").touch()
    for options, way_out in [
        (["--database-url", new_database()], "distsql migrate"),
        (["--database-url", "postgresql://nobody@127.0.0.1:1/x"], "doesn't answer"),
        ([*catalogue, "--storage", (tmp_path / "file").as_uri()], str(tmp_path / "file")),
    ]:
        result = run("check", *options)
        assert result.exit_code == 1
        assert way_out in result.stderr
        assert result.stdout == ""


def test_repository_list(pushed: list[str]) -> None:
    """Names in their order, as lines or as JSON."""
    assert run("repository", "list", *pushed).stdout == "acme/api\nacme/web\n"
    assert json.loads(run("repository", "list", "--json", *pushed).stdout) == ["acme/api", "acme/web"]


def test_an_empty_list(catalogue: list[str]) -> None:
    """Nothing at all, or an empty JSON list."""
    assert run("repository", "list", *catalogue).stdout == ""
    assert run("repository", "list", "--json", *catalogue).stdout == "[]\n"


def test_repository_set(pushed: list[str], sql: psycopg.Connection[tuple[object, ...]]) -> None:
    """A setting changes, and the audit remembers who did it."""
    assert run("repository", "set", "acme/web", "--sparse", "on", *pushed).exit_code == 0
    assert sql.execute("select count(*) from repositories where sparse").fetchone() == (1,)
    assert sql.execute("select count(*) from audit_events where actor like 'cli:%'").fetchone() == (1,)
    assert run("repository", "set", "acme/web", "--sparse", "off", *pushed).exit_code == 0
    assert sql.execute("select count(*) from repositories where sparse").fetchone() == (0,)


def test_repository_delete(pushed: list[str], sql: psycopg.Connection[tuple[object, ...]]) -> None:
    """Gone, and gone twice is an error; the audit knows who did it."""
    assert run("repository", "delete", "acme/web", *pushed).exit_code == 0
    [(actor,)] = sql.execute("select actor from audit_events where action = 'repository.delete'").fetchall()
    assert str(actor).startswith("cli:")
    assert run("repository", "list", *pushed).stdout == "acme/api\n"
    again = run("repository", "delete", "acme/web", *pushed)
    assert again.exit_code == 1
    assert "acme/web" in again.stderr


@pytest.mark.parametrize("name", ["ACME", "acme//web", "../x", "acme/web:latest", ""])
def test_names_that_are_none(catalogue: list[str], name: str) -> None:
    """A sentence, not a traceback."""
    result = run("repository", "delete", *catalogue, "--", name)
    assert result.exit_code in {1, 2}
    assert result.stderr


def test_database_url(database_url: str) -> None:
    """The given one is told as it is, wherever it was given."""
    assert run("database-url", "--database-url", database_url).stdout == f"{database_url}\n"
    assert run("database-url", env={"DISTSQL_DATABASE_URL": database_url}).stdout == f"{database_url}\n"
    Path("distsql.toml").write_text(f"database-url = '{database_url}'\n")
    assert run("database-url", "--config", "distsql.toml").stdout == f"{database_url}\n"
    assert run("database-url", env={"DISTSQL_CONFIG": "distsql.toml"}).stdout == f"{database_url}\n"
    assert run("database-url", "--database-url", "flag", env={"DISTSQL_DATABASE_URL": "environment"}).stdout == "flag\n"


def test_version() -> None:
    """As the package says."""
    assert distsql.__version__ in run("--version").stdout


def test_verify_repairs_at_a_rate(pushed: list[str], database_url: str) -> None:
    """Damage is exit status 1 until it is mended; a rate is a size for each second; a terminal shows how far it is."""
    printed, shown = run_on_a_terminal("verify", "--bytes", *pushed)
    assert printed == "nothing is wrong\n"
    for what in ("blobs", "7/7"):  # of the bytes, and it may be done before the bar has moved
        assert what in shown
    with psycopg.connect(database_url) as connection:
        connection.execute("update tenant_usage set stored_bytes = stored_bytes + 1")
    assert run("verify", *pushed).exit_code == 1
    mended = run("verify", "--repair", "--bytes", "--rate", "50MB/s", "--json", *pushed)
    assert mended.exit_code == 0
    assert {each["mended"] for each in json.loads(mended.stdout)} == {True}
    assert run("verify", "--restart", *pushed).stdout == "nothing is wrong\n"
    for wrong in ("fast", "0B/s"):
        refused = run("verify", "--rate", wrong, *pushed)
        assert (refused.exit_code, "--rate" in refused.stderr) == (2, True)


def test_verify_leaves_orphans_for_the_recovery_window(pushed: list[str], tmp_path: Path) -> None:
    """A database that is restored to a point in it may name them; as `collect-garbage --full` does."""
    orphan = tmp_path / "bytes" / "objects" / "00" / ("0" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    two_hours_ago = time.time() - 7200
    os.utime(orphan, (two_hours_ago, two_hours_ago))
    window = {"DISTSQL_RECOVERY_WINDOW": "1d"}
    assert run("collect-garbage", "--full", *pushed, env=window).exit_code == 0
    assert run("verify", "--repair", *pushed, env=window).stdout == "nothing is wrong\n"
    assert orphan.exists()
    assert "1 mended" in run("verify", "--repair", *pushed).stdout
    assert not orphan.exists()
