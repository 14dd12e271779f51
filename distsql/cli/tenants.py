"""``distsql tenant``: organisations, by name."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.limits import given_settings, limit, settings_of
from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_rows, print_thing
from distsql.errors import SettingsError
from distsql.settings import Settings
from distsql.values import duration

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.tenants import Tenants
    from distsql.sql.tenants import DescribedTenantRow


@click.group()
def tenant() -> None:
    """Make tenants, set what they may do and use, and open them to everybody."""


def _run(settings: Settings, work: Callable[[Tenants], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever the work gives
    from distsql.registry.tenants import Tenants

    async def with_tenants(registry: Registry) -> object:
        return await work(Tenants(registry.backend.everything, caller()))

    return run(settings, with_tenants)


@tenant.command("create")
@click.argument("name")
@settings_options(storage=True)
def create_tenant(settings: Settings, name: str) -> None:
    """Make a tenant: the first component of its repositories' names."""
    _run(settings, lambda tenants: tenants.create(name))
    click.echo(f"{name} is there")


@tenant.command("list")
@settings_options(storage=True)
@as_json
def list_tenants(settings: Settings, *, as_json: bool) -> None:
    """Print all tenants, and what they use."""

    async def find(tenants: Tenants) -> list[DescribedTenantRow]:
        return [row async for row in tenants.all()]

    found = [_described(row) for row in _run(settings, find)]
    shown = ("name", "stored_bytes", "repositories", "manifests", "tags", "suspended_at")
    print_rows(found if as_json else [{key: row[key] for key in shown} for row in found], as_json=as_json)


@tenant.command("show")
@click.argument("name")
@settings_options(storage=True)
@as_json
def show_tenant(settings: Settings, name: str, *, as_json: bool) -> None:
    """Print a tenant's settings, and what it uses."""
    print_thing(_described(_run(settings, lambda tenants: tenants.get(name))), as_json=as_json)


def _described(row: DescribedTenantRow) -> dict[str, Any]:
    instants = {
        key: value.isoformat(timespec="seconds") if (value := getattr(row, key)) else None
        for key in ("created_at", "suspended_at")
    }
    return {**row._asdict(), **instants}


@tenant.command("set")
@click.argument("name")
@settings_of("tenant")
@click.option("--create", "creators", type=click.Choice(["push", "admin"]), help="Who may make repositories by a push.")
@click.option("--manifest-limit", "manifest_limit_bytes", type=limit("size"), help="Largest manifest, or none.")
@click.option("--quota", "quota_bytes", type=limit("size"), help="Most bytes of blobs, such as 10GiB, or none.")
@click.option("--quota-repositories", type=limit("number"), help="Most repositories, or none.")
@click.option("--quota-manifests", type=limit("number"), help="Most manifests, or none.")
@click.option("--quota-tags", type=limit("number"), help="Most live tags, or none.")
@click.option("--store", metavar="STORE", help="Byte store that pushes go to; default is the one of --storage.")
@settings_options(storage=True)
def set_tenant(settings: Settings, name: str, **options: object) -> None:
    """Change a tenant's settings; what isn't given stays as it is."""
    changes = given_settings(options)
    _run(settings, lambda tenants: tenants.set(name, changes))
    click.echo(f"{name} is set")


@tenant.command("visibility")
@click.argument("name")
@click.argument("visibility", type=click.Choice(["public", "private"]))
@settings_options(storage=True)
def set_visibility(settings: Settings, name: str, visibility: str) -> None:
    """Let everybody pull from all of a tenant's repositories, or only those who may."""
    _run(settings, lambda tenants: tenants.set_public(name, public=visibility == "public"))
    click.echo(f"{name} is {visibility}")


@tenant.command("rename")
@click.argument("name")
@click.argument("new_name")
@settings_options(storage=True)
def rename_tenant(settings: Settings, name: str, new_name: str) -> None:
    """Give a tenant, with all of its repositories, another name. No bytes are moved."""
    _run(settings, lambda tenants: tenants.rename(name, new_name))
    click.echo(f"{name} is {new_name}")


@tenant.command("suspend")
@click.argument("name")
@settings_options(storage=True)
def suspend_tenant(settings: Settings, name: str) -> None:
    """Refuse everything to a tenant, and say why, until it is resumed."""
    _run(settings, lambda tenants: tenants.suspend(name))
    click.echo(f"{name} is suspended")


@tenant.command("resume")
@click.argument("name")
@settings_options(storage=True)
def resume_tenant(settings: Settings, name: str) -> None:
    """Let a suspended tenant go on."""
    _run(settings, lambda tenants: tenants.resume(name))
    click.echo(f"{name} goes on")


@tenant.command("delete")
@click.argument("name")
@settings_options(storage=True)
def delete_tenant(settings: Settings, name: str) -> None:
    """Delete a tenant with everything in it. Its bytes go with the garbage collection after the grace period."""
    _run(settings, lambda tenants: tenants.delete(name))
    click.echo(f"{name} is deleted")


@tenant.command("sql-access")
@click.argument("name")
@click.option("--timeout", metavar="DURATION", default="30s", show_default=True, help="Longest that a statement runs.")
@click.option("--revoke", is_flag=True, help="Take the access away instead.")
@settings_options(storage=True)
@as_json
def give_sql_access(settings: Settings, name: str, *, timeout: str, revoke: bool, as_json: bool) -> None:
    """Print, once, a URL for reading a tenant's reports in SQL; the one that was printed before opens nothing more."""
    from distsql.registry.sql_access import SqlAccess, SqlCredentials
    from distsql.sql.sql_roles import role_url

    try:
        longest = duration(timeout)
    except ValueError as error:
        raise SettingsError(f"--timeout is {timeout!r}: {error}") from error

    async def change(registry: Registry) -> tuple[SqlCredentials, str] | None:
        access = SqlAccess(registry.backend.everything, caller())
        if revoke:
            await access.revoke(name)
            return None
        made = await access.grant(name, longest=longest)
        return made, role_url(registry.backend.everything.url, made.role, made.password)

    made = run(settings, change)
    if made is None:
        click.echo(f"{name} is read by no role of its own")
    elif as_json:
        click.echo(json.dumps({"tenant": name, "role": made[0].role, "url": made[1]}))
    else:
        click.echo(made[1])
        click.echo(f"reads what {name} has, and nothing else: nobody can print it again", err=True)
