"""What `distsql serve` refuses to start with: a sentence that says how to mend it, and the right exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from distsql.cli.serve import _bind, _listen
from distsql.errors import SettingsError
from distsql.settings import Settings
from distsql.sql import schema
from tests.server.processes import distsql, free_port

USAGE = {
    "beyond loopback": (("--host", "0.0.0.0"), {}, "--insecure"),
    "every IPv6 address": (("--host", "::"), {}, "--insecure"),
    "an address of somebody else": (("--host", "192.0.2.1", "--insecure"), {}, "can't be listened on"),
    "a name that is none": (("--host", "no-such-host.invalid", "--insecure"), {}, "can't be listened on"),
    "a port that is none": (("--port", "x"), {}, "--port is 'x'"),
    "no workers": (("--workers", "0"), {}, "--workers is '0'"),
    "several workers of one process": (("--storage", "memory:", "--workers", "2"), {}, "leave out --workers"),
    "a duration": ((), {"DISTSQL_STOP_TIMEOUT": "soon"}, "DISTSQL_STOP_TIMEOUT is 'soon'"),
    "a database URL": (("--database-url", "nonsense://"), {}, "database URL"),
    "a store URL": (("--storage", "ftp://x"), {}, "ftp"),
    "an unknown option": (("--nonsense",), {}, "--nonsense"),
    "no such file": (("--config", "/nowhere.toml"), {}, "/nowhere.toml"),
}


@pytest.mark.parametrize(("arguments", "env", "complaint"), USAGE.values(), ids=USAGE.keys())
def test_wrong_usage(place: Path, arguments: tuple[str, ...], env: dict[str, str], complaint: str) -> None:
    """Exit status 2, one sentence, no traceback, and no PostgreSQL was made."""
    port = () if "--port" in arguments else ("--port", free_port())
    done = distsql("serve", *port, *arguments, env=env, cwd=place)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(place.rglob("postgres"))


def test_an_unmigrated_database(new_database: Callable[[], str], place: Path) -> None:
    """The message names the command that mends it; after that command it serves."""
    url = new_database()
    done = distsql("serve", "--database-url", url, "--port", free_port(), cwd=place)
    assert done.returncode == 1
    assert "distsql migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_schema_of_the_future(new_database: Callable[[], str], place: Path) -> None:
    """A database that a newer version migrated is left alone."""
    url = new_database()
    schema.migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute("update alembic_version set version_num = 'fffffffffff0'")
    done = distsql("serve", "--database-url", url, "--port", free_port(), cwd=place)
    assert done.returncode == 1
    assert "fffffffffff0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away(place: Path) -> None:
    """At the start nobody waits for a database: whoever starts us may try again."""
    done = distsql("serve", "--database-url", f"postgresql://u:secret@127.0.0.1:{free_port()}/x", "--port", free_port())
    assert done.returncode == 1
    assert "doesn't answer" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_can_not_be_used(catalogue: tuple[str, ...], place: Path) -> None:
    """Bytes in a file's place: it says so and ends."""
    (place / "file").write_text("")
    done = distsql("serve", *catalogue, "--storage", (place / "file").as_uri(), "--port", free_port())
    assert done.returncode == 1
    assert str(place / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_two_take_at_once() -> None:
    """Both get it as long as neither listens: whoever comes second hears it then, and how to mend it."""
    settings = Settings(database_url="postgresql:///x", storage="memory:", port=free_port())
    with _bind(settings) as first, _bind(settings) as second:
        _listen(first, settings)
        with pytest.raises(SettingsError, match="choose another --host or --port"):
            _listen(second, settings)
