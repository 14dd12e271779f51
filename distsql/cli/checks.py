"""``distsql check``: settings, schema and stores looked over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from distsql.cli.options import run, settings_options
from distsql.cli.output import as_json
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry


@click.command()
@settings_options(storage=True)
@as_json
def check(settings: Settings, *, as_json: bool) -> None:
    """Look over settings, schema and byte store; exit 1 with the way out when something is wrong."""

    async def look(registry: Registry) -> None:
        await registry.check()

    run(settings, look)
    click.echo(json.dumps({"fine": True}) if as_json else "settings, schema and byte store are fine")
