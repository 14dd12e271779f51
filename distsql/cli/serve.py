"""``distsql serve``: the registry, and the private PostgreSQL where none is given."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from distsql import cores
from distsql.cli.options import settings_options
from distsql.embedded import PrivatePostgres
from distsql.errors import SettingsError
from distsql.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from distsql.bytestore.contract import ByteStore

# What the web server reads ahead on each connection, and the most that a request's head may be. Its default, four times
# as much, would hold three MiB for each upload; less than this costs time for each piece of a body.
_READ_AHEAD: Final = 256 * 1024
_PORT_WAIT_S: Final = 5
_READY_WAIT_S: Final = 120
_SIGNALS_S: Final = 0.5
_MONTHS_CHECK_S: Final = 6 * 60 * 60


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", metavar="NUMBER", help="Port to listen on.  [default: 5000]")
@settings_options(storage=True)
@click.option("--replica-url", metavar="URL", multiple=True, help="A replica of the catalogue, for pulls; repeatable.")
@click.option("--workers", metavar="NUMBER", help="Processes that serve.  [default: auto, a core each, 4 at most]")
@click.option(
    "--redirect", type=click.Choice(["on", "off"]), help="Send clients to the store for bytes.  [default: on]"
)
@click.option(
    "--auth", type=click.Choice(["none", "token"]), help="Who has to log in: nobody, or everybody.  [default: none]"
)
@click.option("--public-url", metavar="URL", help="Where clients find the registry, when a proxy is in front.")
@click.option("--tenant-domain", metavar="DOMAIN", help="Below which a host's name is a tenant: acme.DOMAIN.")
@click.option("--read-only", type=click.Choice(["on", "off"]), help="Answer reads only.  [default: off]")
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without authentication.")
def serve(settings: Settings) -> None:
    """Run the registry.

    Without --database-url it starts a private PostgreSQL below DIR, which belongs to this process and stops with it;
    the next `serve` on the same DIR goes on with the same data. With --database-url and --storage any number of them
    may run side by side.

    It says on standard output when it is ready, and logs to standard error: one JSON object for each request, unless
    DISTSQL_ACCESS_LOG is off. Ctrl-C or SIGTERM ends it: what runs is finished first, for up to
    DISTSQL_STOP_TIMEOUT (30s).
    """
    import asyncio

    from distsql.bytestore.urls import open_store
    from distsql.sql import revisions

    settings.check_exposure()
    address = _free_address(settings)
    store = open_store(settings.storage_url)
    settings = replace(settings, workers=_count_workers(settings))
    # Until the web server listens to them: leave through the `with` below, so that PostgreSQL stops cleanly.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if settings.database_url:
        revisions.check_revision(settings.database_url)
        asyncio.run(_check(store))
        _run(settings, address, private=False)
        return
    # Before the store, whose folders are nobody else's: PostgreSQL's user has to get into the data folder.
    with PrivatePostgres(settings.data) as postgres:
        url = postgres.url(settings.data)
        if not revisions.is_current(url):
            from distsql.sql import schema  # which takes half a second to import

            schema.migrate(url, actor="serve")
        asyncio.run(_check(store))
        _run(replace(settings, database_url=url), address, private=True)


def _count_workers(settings: Settings) -> int:
    from distsql.bytestore.memory import MemoryStore

    if settings.storage != MemoryStore.url:
        return settings.workers or cores.suggest_workers()
    if settings.workers not in {None, 1}:
        raise SettingsError(f"{settings.storage} is each process's own: leave out --workers, or take another --storage")
    return 1


async def _check(store: ByteStore) -> None:
    """A store that can't be used is told here, once, and not by every worker."""
    await store.open()
    await store.close()


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    sys.exit(0)


def _free_address(settings: Settings) -> str:
    """The numeric address to listen on; fails when somebody else does, which the web server wouldn't notice.

    For a moment it may be the workers of a `serve` that was killed.
    """
    deadline = time.monotonic() + _PORT_WAIT_S
    while True:
        try:
            return _try_to_bind(settings.host, settings.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise SettingsError(
                    f"{settings.host}:{settings.port} can't be listened on ({error.strerror}): choose another --host "
                    "or --port, or stop what runs there"
                ) from error
            time.sleep(0.1)


def _try_to_bind(host: str, port: int) -> str:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A name such as localhost may be several addresses, of which the web server takes one: that which all clients try.
    family, kind, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return str(address[0])


def _run(settings: Settings, address: str, *, private: bool) -> None:
    import functools
    import multiprocessing

    from granian import Granian
    from granian.constants import Interfaces, Loops
    from granian.http import HTTP1Settings
    from granian.log import LogLevels

    from distsql.cli.workers import load_application

    multiprocessing.set_start_method("spawn", force=True)  # a forked worker would inherit threads' locks
    server = Granian(
        "distsql",
        address=address,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers or 1,
        loop=Loops.uvloop,
        websockets=False,
        http1_settings=HTTP1Settings(max_buffer_size=_READ_AHEAD),
        workers_kill_timeout=max(1, int(settings.stop_timeout.total_seconds())),
        respawn_failed_workers=True,
        log_level=LogLevels.warning,
        log_dictconfig=logging_configuration(),
    )
    server.main_loop_interrupt = _Attentive()
    threading.Thread(target=_keep_months, args=(settings.database_url,), daemon=True).start()
    threading.Thread(target=_announce, args=(settings, address), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="distsql-workers-") as folder:
        loader = functools.partial(load_application, settings, parent=os.getpid(), folder=Path(folder), private=private)
        server.serve(target_loader=loader, wrap_loader=False)


class _Attentive(threading.Event):
    """Waits in turns: Python looks at signals in its main thread alone, and any thread may be the one that gets them.

    A process that was paused while it was told to end would never hear of it.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """As the event's own."""
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(_SIGNALS_S):
            pass
        return True


def _keep_months(database_url: str) -> None:
    """The audit's partitions are there before their months begin, also when nobody migrates for long."""
    import logging

    from distsql.sql import revisions

    while True:
        try:
            if not revisions.has_months_ahead(database_url):
                from distsql.sql import schema

                schema.make_partitions(database_url)
        except Exception:  # the next turn may do better; until then events are in the partition of the rest
            logging.getLogger("distsql").warning("The audit's partitions could not be made", exc_info=True)
        time.sleep(_MONTHS_CHECK_S)


def _announce(settings: Settings, address: str) -> None:
    """Says that the registry is ready, when it answers."""
    import http.client

    deadline = time.monotonic() + _READY_WAIT_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(address, settings.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                click.echo(f"distsql is ready on {settings.url}")
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)


def logging_configuration() -> dict[str, Any]:
    """One JSON object a line, to standard error, from the registry and from the web server alike."""
    loggers = ("distsql", "_granian", "granian")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "distsql.api.log_lines.JSONFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            **{name: {"handlers": ["stderr"], "level": "WARNING", "propagate": False} for name in loggers},
            # It warns of each pipeline that an error ended, which is told by the error.
            "psycopg": {"level": "ERROR"},
        },
    }
