"""``distsql migrate``: the schema."""

from __future__ import annotations

import json

import click

from distsql.cli.options import caller, catalogue, settings_options
from distsql.cli.output import as_json
from distsql.settings import Settings


@click.command()
@settings_options()
@click.option("--to", "target", default="head", show_default=True, metavar="REVISION", help="Up or down to it.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@as_json
def migrate(settings: Settings, target: str, *, dry_run: bool, as_json: bool) -> None:
    """Take the catalogue's schema to this version's (or another) revision.

    Safe while the previous version serves. `base` is the empty database: everything in the catalogue is dropped.
    """
    from distsql.sql import schema

    with catalogue(settings, create=not dry_run) as found:
        if dry_run:
            _tell_plan(schema.plan(found.database_url, to=target), as_json=as_json)
            return
        before, after = schema.migrate(found.database_url, to=target, actor=caller().actor)
    if as_json:
        click.echo(json.dumps({"before": before, "after": after}))
    else:
        click.echo(f"the schema is at {after or 'base'}" + ("" if before != after else ", as before"))


def _tell_plan(steps: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"revision": revision, "title": title} for revision, title in steps]))
        return
    for revision, title in steps:
        click.echo(f"would run {revision}: {title}")
    if not steps:
        click.echo("nothing to do")
