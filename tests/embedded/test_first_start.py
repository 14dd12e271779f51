"""From an empty folder to a database, and once more after interruptions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from distsql.embedded import PrivatePostgres
from distsql.embedded.binaries import Binaries, all_binaries
from distsql.embedded.errors import ClusterAccessError, NoClusterError
from distsql.embedded.survivors import living_servers

from .conftest import Owners, keep, needs_proc, select, wait_until

ONE_OF_EACH_VERSION = {binaries.major: binaries for binaries in all_binaries()}


@pytest.mark.parametrize("binaries", ONE_OF_EACH_VERSION.values(), ids=lambda binaries: binaries.version)
def test_an_empty_folder_becomes_a_database(place: Path, binaries: Binaries) -> None:
    with PrivatePostgres(place / "data", binaries) as _:
        url = PrivatePostgres.url(place / "data")
        assert PrivatePostgres.is_running(place / "data")
        assert select(url, "show server_version_num").startswith(str(binaries.major))  # type: ignore[attr-defined]
        assert select(url, "select current_user || '@' || current_database()") == "distsql@distsql"
        assert select(url, "select datdba::regrole::text from pg_database where datname = 'distsql'") == "distsql"
        assert select(url, "show server_encoding") == "UTF8"
        assert select(url, "select datcollate from pg_database where datname = 'distsql'") == "C"
        if binaries.major >= 17:
            query = "select datlocprovider::text || datlocale from pg_database where datname = 'distsql'"
            assert select(url, query) == "bC.UTF-8"
            assert select(url, "select upper('é')") == "É"
        assert select(url, "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0
        assert select(url, "show data_checksums") == "on"
        assert select(url, "show max_connections") == "100"
    assert not PrivatePostgres.is_running(place / "data")
    with PrivatePostgres(place / "data"):  # nobody says which binaries: the data choose
        assert select(url, "show server_version_num").startswith(str(binaries.major))  # type: ignore[attr-defined]


def test_a_restart_keeps_data_and_url(data: Path) -> None:
    with PrivatePostgres(data):
        url = PrivatePostgres.url(data)
        keep(url, rows=42)
    assert PrivatePostgres.url(data) == url
    server = PrivatePostgres(data)
    assert server.start() == url
    assert server.start() == url
    assert select(url, "select count(*) from kept") == 42
    server.stop()
    server.stop()


def test_the_password_is_needed_and_private(data: Path) -> None:
    with PrivatePostgres(data):
        file = data / "postgres" / "password"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().strip() in PrivatePostgres.url(data)
        wrong = make_url(PrivatePostgres.url(data)).set(password="wrong").render_as_string(hide_password=False)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            select(wrong, "select 1")


def test_a_lost_password_is_made_anew(data: Path) -> None:
    before = PrivatePostgres.url(data)
    (data / "postgres" / "password").unlink()
    with pytest.raises(NoClusterError, match="makes it anew"):
        PrivatePostgres.url(data)
    with PrivatePostgres(data):
        assert PrivatePostgres.url(data) != before
        assert select(PrivatePostgres.url(data), "select 1") == 1


@needs_proc
def test_no_port_listens(data: Path) -> None:
    with PrivatePostgres(data):
        descriptors = [
            entry
            for pid in living_servers(data / "postgres" / "cluster")
            for entry in Path(f"/proc/{pid}/fd").iterdir()
        ]
        sockets = {str(entry.readlink()) for entry in descriptors if entry.is_socket()}
        assert sockets
        for table in ("tcp", "tcp6", "udp", "udp6"):
            rows = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            assert not sockets & {f"socket:[{row.split()[9]}]" for row in rows}


def test_the_socket_and_data_are_closed_to_others(data: Path) -> None:
    with PrivatePostgres(data):
        for name in ("socket", "cluster"):
            assert (data / "postgres" / name).stat().st_mode & 0o777 == 0o700
        assert (data / "postgres").stat().st_mode & 0o007 == 0


def test_psql_and_sqlalchemy_read_the_url(data: Path) -> None:
    with PrivatePostgres(data):
        url = PrivatePostgres.url(data)
        psql = next((found.folder / "psql" for found in all_binaries() if (found.folder / "psql").exists()), None)
        if psql is not None:
            answer = subprocess.run([psql, url, "-Atc", "select 6 * 7"], capture_output=True, text=True, check=True)
            assert answer.stdout == "42\n"
        parsed = make_url(url)
        assert parsed.query["host"] == str(data / "postgres" / "socket")
        assert (parsed.username, parsed.database) == ("distsql", "distsql")


def test_an_interrupted_initdb_is_redone(place: Path, owners: Owners) -> None:
    home = place / "data" / "postgres"
    owner = owners.begin(place / "data")
    wait_until(lambda: any(home.glob("cluster.new-*/base")))
    owner.kill()
    owner.wait()
    assert not (home / "cluster").exists()
    with pytest.raises(NoClusterError, match="distsql serve"):
        PrivatePostgres.url(place / "data")
    with PrivatePostgres(place / "data"):
        assert select(PrivatePostgres.url(place / "data"), "select 1") == 1
    assert not list(home.glob("cluster.new-*"))


def test_settings_of_the_operator_win(data: Path) -> None:
    (data / "postgres" / "conf.d" / "90-local.conf").write_text("max_connections = 33\n")
    (data / "postgres" / "conf.d" / "90-local.conf").chmod(0o644)
    with PrivatePostgres(data):
        assert select(PrivatePostgres.url(data), "show max_connections") == "33"


def test_a_server_that_does_not_start_tells_why(data: Path) -> None:
    (data / "postgres" / "conf.d" / "90-local.conf").write_text("max_connections = many\n")
    (data / "postgres" / "conf.d" / "90-local.conf").chmod(0o644)
    with pytest.raises(Exception, match="invalid value for parameter"):
        PrivatePostgres(data).start()
    (data / "postgres" / "conf.d" / "90-local.conf").unlink()
    with PrivatePostgres(data):
        pass


def test_no_cluster_and_no_folder_have_a_way_out(place: Path) -> None:
    with pytest.raises(NoClusterError, match="distsql serve --data"):
        PrivatePostgres.url(place / "nothing")
    assert not PrivatePostgres.is_running(place / "nothing")
    (place / "file").write_text("")
    with pytest.raises(ClusterAccessError, match="choose another --data"):
        PrivatePostgres(place / "file").start()
