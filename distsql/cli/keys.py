"""``distsql key``: the keys that sign tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_rows
from distsql.errors import SettingsError
from distsql.settings import Settings
from distsql.values import duration

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.sql.signing_keys import SigningKeyRow


@click.group()
def key() -> None:
    """List and rotate the keys that sign tokens."""


@key.command("list")
@settings_options(storage=True)
@as_json
def list_keys(settings: Settings, *, as_json: bool) -> None:
    """Print the key that signs and those that still count, without their secrets."""
    from distsql.registry.signing_keys import SigningKeys

    async def find(registry: Registry) -> Sequence[SigningKeyRow]:
        return await SigningKeys(registry.backend.everything, caller()).list()

    rows = [
        {
            "kid": row.kid,
            "algorithm": row.algorithm,
            "created_at": _text(row.created_at),
            "retired_at": _text(row.retired_at),
            "expires_at": _text(row.expires_at),
        }
        for row in run(settings, find)
    ]
    print_rows(rows, as_json=as_json)


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat(timespec="seconds") if instant else None


@key.command("rotate")
@click.option("--grace", metavar="DURATION", help="What the key before has signed counts this long.  [default: 31d]")
@settings_options(storage=True)
def rotate_key(settings: Settings, grace: str | None) -> None:
    """Make a new key. With --grace 0s everybody has to log in again: for a key that was stolen."""
    from distsql.registry.signing_keys import GRACE, SigningKeys

    try:
        kept = duration(grace) if grace else GRACE
    except ValueError as error:
        raise SettingsError(f"--grace is {grace!r}: {error}") from error

    async def rotate(registry: Registry) -> None:
        await SigningKeys(registry.backend.everything, caller()).rotate(grace=kept)

    run(settings, rotate)
    click.echo("a new key signs from now on")
