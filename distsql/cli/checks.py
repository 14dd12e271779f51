"""``distsql check``: settings, schema and stores looked over."""

from __future__ import annotations

import asyncio

import click

from distsql.app import Registry
from distsql.cli.options import catalogue, settings_options
from distsql.settings import Settings


@click.command()
@settings_options(storage=True)
def check(settings: Settings) -> None:
    """Look over settings, schema and byte store; exit 1 with the way out when something is wrong."""
    with catalogue(settings) as found:
        asyncio.run(_check(found))
    click.echo("settings, schema and byte store are fine")


async def _check(settings: Settings) -> None:
    async with Registry(settings) as registry:
        await registry.check()
