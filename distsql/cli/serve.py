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
from typing import TYPE_CHECKING, Final

import click

from distsql import cores
from distsql.cli.options import settings_options
from distsql.embedded import PrivatePostgres
from distsql.errors import SettingsError
from distsql.settings import Settings

if TYPE_CHECKING:
    from types import FrameType

    from distsql.bytestore.contract import ByteStore

_BACKLOG: Final = 1024
_PORT_WAIT_S: Final = 5
_READY_WAIT_S: Final = 120
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
    listener = _bind(settings)
    store = open_store(settings.storage_url)
    settings = replace(settings, workers=_count_workers(settings))
    # Until the web server listens to them: leave through the `with` below, so that PostgreSQL stops cleanly.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    if settings.database_url:
        revisions.check_revision(settings.database_url)
        asyncio.run(_check(store))
        _run(settings, listener, private=False)
        return
    # Before the store, whose folders are nobody else's: PostgreSQL's user has to get into the data folder.
    with PrivatePostgres(settings.data) as postgres:
        url = postgres.url(settings.data)
        if not revisions.is_current(url):
            from distsql.sql import schema  # which takes half a second to import

            schema.migrate(url, actor="serve")
        asyncio.run(_check(store))
        _run(replace(settings, database_url=url), listener, private=True)


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


def _bind(settings: Settings) -> socket.socket:
    """The socket that all workers take connections from; it refuses them until it is told to listen.

    Fails when somebody else listens there. For a moment that may be the workers of a `serve` that was killed.
    """
    deadline = time.monotonic() + _PORT_WAIT_S
    while True:
        try:
            return _try_to_bind(settings.host, settings.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _taken(settings, error) from error
            time.sleep(0.1)


def _listen(listener: socket.socket, settings: Settings) -> None:
    """Fails when somebody was quicker: several may have an address until one of them listens."""
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _taken(settings, error) from error


def _taken(settings: Settings, error: OSError) -> SettingsError:
    return SettingsError(
        f"{settings.host}:{settings.port} can't be listened on ({error.strerror}): choose another --host or --port, or "
        "stop what runs there"
    )


def _try_to_bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A name such as localhost may be several addresses: that which all clients try.
    family, kind, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind)
    try:
        listener.settimeout(0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _run(settings: Settings, listener: socket.socket, *, private: bool) -> None:
    import functools
    import logging.config

    from distsql.cli.workers import logging_configuration, run_worker
    from distsql.web.workers import Workers

    logging.config.dictConfig(logging_configuration())
    _listen(listener, settings)
    threading.Thread(target=_keep_months, args=(settings.database_url,), daemon=True).start()
    threading.Thread(target=_announce, args=(settings, listener.getsockname()[0]), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="distsql-workers-") as folder:
        worker = functools.partial(run_worker, parent=os.getpid(), folder=Path(folder), private=private)
        workers = Workers(worker, (settings, listener), number=settings.workers or 1)
        try:
            workers.run()
        finally:
            listener.close()
            workers.stop(settings.stop_timeout.total_seconds())


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
