"""Options that many commands share, and the catalogue that they pick."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from distsql.embedded import PrivatePostgres
from distsql.settings import Settings, load

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.values import Caller

Command = Callable[..., Any]
Result = TypeVar("Result")

_CATALOGUE = (
    click.option(
        "--data",
        metavar="DIR",
        help="Folder of the private PostgreSQL, and of the bytes unless --storage is given.  [default: ./distsql-data]",
    ),
    click.option("--database-url", metavar="URL", help="The catalogue's PostgreSQL, instead of a private one."),
    click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings in TOML."),
)
_STORAGE = click.option(
    "--storage", metavar="URL", help="Where blob bytes are kept, for example file:///srv/bytes.  [default: DIR/bytes]"
)


def settings_options(*, storage: bool = False) -> Callable[[Command], Command]:
    """Adds the options that pick a catalogue. The command gets ``settings``, made of all its options that are some."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(config: Path | None, **options: object) -> object:
            known = set(Settings.__dataclass_fields__)
            flags = {name: value for name, value in options.items() if name in known}
            rest = {name: value for name, value in options.items() if name not in known}
            return command(settings=load(flags, config=config), **rest)

        wrapped: Command = run
        for option in reversed((*_CATALOGUE, _STORAGE) if storage else _CATALOGUE):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def run(settings: Settings, work: Callable[[Registry], Awaitable[Result]]) -> Result:
    """Runs the work on the registry that the settings pick."""
    import asyncio

    from distsql.app import Registry

    async def with_registry(found: Settings) -> Result:
        async with Registry(found) as registry:
            return await work(registry)

    with catalogue(settings) as found:
        return asyncio.run(with_registry(found))


def caller() -> Caller:
    """Whoever is at the command line, as the audit remembers it."""
    import getpass

    from distsql.values import Caller

    return Caller(actor=f"cli:{getpass.getuser()}")


@contextmanager
def catalogue(settings: Settings, *, create: bool = False) -> Iterator[Settings]:
    """Settings with a database URL that answers.

    It is the given one, or that of the private PostgreSQL below the data folder, which is started for as long as the
    block lasts unless it runs already. With ``create`` there may be none yet; without, a mistyped folder isn't made.
    """
    if settings.database_url:
        yield settings
    elif PrivatePostgres.is_running(settings.data):
        yield replace(settings, database_url=PrivatePostgres.url(settings.data))
    else:
        if not create:
            PrivatePostgres.url(settings.data)  # tells what is missing
        with PrivatePostgres(settings.data) as postgres:
            yield replace(settings, database_url=postgres.url(settings.data))
