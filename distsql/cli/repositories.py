"""``distsql repository``: repositories, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from distsql.cli.options import as_json, caller, run, settings_options
from distsql.settings import Settings, switch

if TYPE_CHECKING:
    from distsql.app import Registry


@click.group()
def repository() -> None:
    """List, set and delete repositories."""


@repository.command("list")
@settings_options(storage=True)
@as_json
def list_repositories(settings: Settings, *, as_json: bool) -> None:
    """Print the names of all repositories."""

    async def names(registry: Registry) -> list[str]:
        return [name async for name in registry.namespace.repositories()]

    found = run(settings, names)
    for line in [json.dumps(found)] if as_json else found:
        click.echo(line)


@repository.command("set")
@click.argument("name")
@click.option("--sparse", type=click.Choice(["on", "off"]), required=True, help="Children and layers may be absent.")
@settings_options(storage=True)
def set_repository(settings: Settings, name: str, sparse: str) -> None:
    """Change a repository's settings."""

    async def change(registry: Registry) -> None:
        await registry.namespace.acting_as(caller()).repository(name).set_sparse(sparse=switch(sparse))

    run(settings, change)
    click.echo(f"{name}: sparse manifests are {sparse}")


@repository.command("delete")
@click.argument("name")
@settings_options(storage=True)
def delete_repository(settings: Settings, name: str) -> None:
    """Delete a repository with everything in it. Its bytes go with the next garbage collection."""

    async def remove(registry: Registry) -> None:
        await registry.namespace.acting_as(caller()).repository(name).remove()

    run(settings, remove)
    click.echo(f"{name} is deleted")
