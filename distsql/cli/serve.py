"""``distsql serve``: the registry, and the private PostgreSQL where none is given."""

from __future__ import annotations

import functools
import http.client
import multiprocessing
import signal
import socket
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click
from granian import Granian
from granian.constants import Interfaces, Loops
from granian.log import LogLevels

from distsql.app import create_worker
from distsql.cli.options import settings_options
from distsql.embedded import PrivatePostgres
from distsql.errors import SettingsError
from distsql.settings import Settings
from distsql.sql import schema

if TYPE_CHECKING:
    from types import FrameType

_PORT_WAIT_S: Final = 5
_READY_WAIT_S: Final = 120


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", help="Port to listen on.  [default: 5000]")
@settings_options(storage=True)
@click.option("--workers", help="Processes that serve requests.  [default: 1]")
@click.option(
    "--redirect", type=click.Choice(["on", "off"]), help="Send clients to the store for bytes.  [default: on]"
)
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without authentication.")
def serve(settings: Settings) -> None:
    """Run the registry.

    Without --database-url it starts a private PostgreSQL below DIR, which belongs to this process and stops with it;
    the next `serve` on the same DIR goes on with the same data. With --database-url and --storage any number of them
    may run side by side.
    """
    settings.check_exposure()
    _wait_for_port(settings)
    if settings.database_url:
        schema.check_revision(settings.database_url)
        _run(settings)
        return
    # SIGTERM before the web server listens to it: leave through the `with` below, so that PostgreSQL stops cleanly.
    signal.signal(signal.SIGTERM, _leave)
    with PrivatePostgres(settings.data) as postgres:
        url = postgres.url(settings.data)
        schema.migrate(url)
        _run(replace(settings, database_url=url))


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    sys.exit(0)


def _wait_for_port(settings: Settings) -> None:
    """Fails when somebody listens there. For a moment it may be the workers of a `serve` that was killed."""
    deadline = time.monotonic() + _PORT_WAIT_S
    while True:
        try:
            family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, socket.gaierror):
                raise SettingsError(
                    f"{settings.host}:{settings.port} can't be listened on ({error.strerror}): choose another --port, "
                    "or stop what runs there"
                ) from error
            time.sleep(0.1)


def _run(settings: Settings) -> None:
    multiprocessing.set_start_method("spawn", force=True)  # a forked worker would inherit threads' locks
    server = Granian(
        "distsql",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.uvloop,
        websockets=False,
        workers_kill_timeout=max(1, int(settings.stop_timeout.total_seconds())),
        respawn_failed_workers=True,
        log_level=LogLevels.warning,
        log_dictconfig=logging_configuration(),
    )
    threading.Thread(target=_announce, args=(settings,), daemon=True).start()
    server.serve(target_loader=functools.partial(create_worker, settings), wrap_loader=False)


def _announce(settings: Settings) -> None:
    """Says that the registry is ready, when it answers."""
    deadline = time.monotonic() + _READY_WAIT_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(settings.host, settings.port, timeout=5)
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
        "formatters": {"json": {"()": "distsql.api.logs.JSONFormatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {name: {"handlers": ["stderr"], "level": "WARNING", "propagate": False} for name in loggers},
    }
