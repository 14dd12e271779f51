"""``distsql repository``: repositories, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.limits import given_settings, settings_of
from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_names, print_thing
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.repository_settings import RepositoryAdministration


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

    print_names(run(settings, names), as_json=as_json)


@repository.command("show")
@click.argument("name")
@settings_options(storage=True)
@as_json
def show_repository(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print a repository's settings, and how much is in it."""
    row = _run(settings, lambda repositories: repositories.get(name))
    print_thing({**row._asdict(), "created_at": row.created_at.isoformat(timespec="seconds")}, as_json=as_json)


@repository.command("set")
@click.argument("name")
@settings_of("repository")
@settings_options(storage=True)
def set_repository(settings: Settings, name: str, **options: object) -> None:
    """Change a repository's settings; what isn't given stays as it is, and what its tenant forbids stays forbidden."""
    changes = given_settings(options)
    _run(settings, lambda repositories: repositories.set(name, changes))
    click.echo(f"{name} is set")


@repository.command("rename")
@click.argument("name")
@click.argument("new_name")
@settings_options(storage=True)
def rename_repository(settings: Settings, name: str, new_name: str) -> None:
    """Give a repository and all below it other names within their tenant. No bytes are moved."""
    _run(settings, lambda repositories: repositories.rename(name, new_name))
    click.echo(f"{name} is {new_name}")


def _run(settings: Settings, work: Callable[[RepositoryAdministration], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever the work gives
    from distsql.registry.repository_settings import RepositoryAdministration

    async def with_repositories(registry: Registry) -> object:
        backend = registry.backend
        return await work(RepositoryAdministration(backend.everything, caller(), read_only=backend.read_only))

    return run(settings, with_repositories)


@repository.command("visibility")
@click.argument("name")
@click.argument("visibility", type=click.Choice(["public", "private"]))
@settings_options(storage=True)
def set_visibility(settings: Settings, name: str, visibility: str) -> None:
    """Let everybody pull from a repository, or only those who may."""

    async def change(registry: Registry) -> None:
        await registry.namespace.acting_as(caller()).repository(name).set_public(public=visibility == "public")

    run(settings, change)
    click.echo(f"{name} is {visibility}")


@repository.command("delete")
@click.argument("name")
@settings_options(storage=True)
def delete_repository(settings: Settings, name: str) -> None:
    """Delete a repository with everything in it. Its bytes go with the next garbage collection."""

    async def remove(registry: Registry) -> None:
        await registry.namespace.acting_as(caller()).repository(name).remove()

    run(settings, remove)
    click.echo(f"{name} is deleted")
