"""A real PgBouncer in transaction mode, with fewer connections to PostgreSQL than there are clients."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.clients.programs import require
from tests.server.processes import free_port, wait_until

CARRIES_STATEMENTS = (1, 21)


@contextmanager
def pgbouncer(database_url: str, folder: Path, *, connections: int = 2, **settings: object) -> Iterator[str]:
    """The database's URL through it. Whoever asks it is let in as the owner."""
    program = find_pgbouncer()
    behind = conninfo_to_dict(database_url)
    port = free_port()
    known = {key: behind[key] for key in ("host", "port", "user", "password", "dbname") if behind.get(key)}
    options = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": connections,
        "logfile": folder / "pgbouncer.log",
        "query_wait_timeout": 20,
        **({"max_prepared_statements": 0} if version_of(program) >= CARRIES_STATEMENTS else {}),
        **settings,
    }
    if os.geteuid() == 0:  # it refuses root
        options["user"] = _who_may_enter(str(known["host"]))
        os.chown(folder, pwd.getpwnam(str(options["user"])).pw_uid, -1)
    configuration = folder / "pgbouncer.ini"
    database = " ".join(f"{key}='{value}'" for key, value in known.items())
    lines = [f"{key} = {value}" for key, value in options.items()]
    configuration.write_text("\n".join(["[databases]", f"catalogue = {database}", "[pgbouncer]", *lines, ""]))
    configuration.chmod(0o644)
    process = subprocess.Popen([program, "-q", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = make_conninfo(host="127.0.0.1", port=port, user="anybody", dbname="catalogue")
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), what="PgBouncer's start")
        assert process.poll() is None, (folder / "pgbouncer.log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(20)


def find_pgbouncer() -> str:
    """The one to test with: ``DISTSQL_TEST_PGBOUNCER`` names another than the system's."""
    return os.environ.get("DISTSQL_TEST_PGBOUNCER") or require("pgbouncer")


def version_of(program: str) -> tuple[int, int]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = told.split()[1].split(".")[:2]
    return int(major), int(minor)


def _who_may_enter(host: str) -> str:
    """PostgreSQL's own user where its socket is in a folder."""
    owner = Path(host).stat().st_uid if host.startswith("/") else 0
    return pwd.getpwuid(owner).pw_name if owner else "nobody"


def _answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
        return True
    return False
