"""``distsql migrate``: the schema."""

from __future__ import annotations

import click

from distsql.cli.options import catalogue, settings_options
from distsql.settings import Settings


@click.command()
@settings_options()
@click.option("--to", "target", default="head", show_default=True, metavar="REVISION", help="Up or down to it.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def migrate(settings: Settings, target: str, *, dry_run: bool) -> None:
    """Take the catalogue's schema to this version's (or another) revision.

    Safe while the previous version serves. `base` is the empty database: everything in the catalogue is dropped.
    """
    from distsql.sql import schema

    with catalogue(settings, create=not dry_run) as found:
        if dry_run:
            steps = schema.plan(found.database_url, to=target)
            for revision, title in steps:
                click.echo(f"would run {revision}: {title}")
            if not steps:
                click.echo("nothing to do")
            return
        before, after = schema.migrate(found.database_url, to=target)
        click.echo(f"the schema is at {after or 'base'}" + ("" if before != after else ", as before"))
