"""Commands on a data folder: they use the private PostgreSQL that runs, or start it for as long as they need it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from distsql.cli import main
from distsql.embedded import PrivatePostgres
from distsql.embedded.survivors import living_servers
from tests.places import make_place


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder to be, which the server's user may enter."""
    folder = make_place()
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.mark.slow
def test_commands_without_a_server(data: Path) -> None:
    """`migrate` makes the catalogue; each command leaves nothing running behind."""

    def run(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, [*arguments, "--data", str(data)])
        assert result.exit_code == status, result.output
        return result.output

    assert "doesn't" not in run("migrate")
    assert not living_servers(data / "postgres" / "cluster")
    assert run("repository", "list") == ""
    assert not living_servers(data / "postgres" / "cluster")
    with PrivatePostgres(data):
        assert run("database-url").strip() == PrivatePostgres.url(data)
        assert run("repository", "list", "--json") == "[]\n"
        run("check")
        assert PrivatePostgres.is_running(data), "it is not the command's to stop"
    run("verify")
    assert not living_servers(data / "postgres" / "cluster")
