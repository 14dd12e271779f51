"""``distsql account`` and ``distsql grant``: who may log in, and what they may do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_names, print_rows
from distsql.errors import SettingsError
from distsql.settings import Settings
from distsql.values import duration

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.accounts import Accounts
    from distsql.registry.grants import Grant
    from distsql.sql.accounts import AccountRow


@click.group()
def account() -> None:
    """Make, list, rotate and delete accounts."""


@click.group()
def grant() -> None:
    """Give rights to accounts, and take them back."""


def _accounts(registry: Registry) -> Accounts:
    from distsql.registry.accounts import Accounts

    return Accounts(registry.backend.everything, caller())


@account.command("create")
@click.argument("login", metavar="TENANT/NAME")
@click.option(
    "--kind",
    type=click.Choice(["person", "robot", "token"]),
    default="robot",
    show_default=True,
    help="Who logs in; a token is a deploy token.",
)
@click.option("--grant", "grants", metavar="PATTERN:ACTIONS", multiple=True, help="Such as 'acme/web/*:pull,push'.")
@click.option("--expires", metavar="DURATION", help="Such as 90d; by default it doesn't.")
@settings_options(storage=True)
@as_json
def create_account(
    settings: Settings, login: str, kind: str, grants: Sequence[str], expires: str | None, *, as_json: bool
) -> None:
    """Make an account and print its secret, once.

    Patterns are acme/web, acme/web/* (one more component) and acme/** (everything); actions pull, push, delete, admin.
    """
    from distsql.registry.grants import Grant

    try:
        lifetime = duration(expires) if expires else None
    except ValueError as error:
        raise SettingsError(f"--expires is {expires!r}: {error}") from error

    async def create(registry: Registry) -> str:
        granted = [Grant.parse(text) for text in grants]
        return await _accounts(registry).create(login, kind=kind, granted=granted, lifetime=lifetime)

    _print_secret(login, run(settings, create), as_json=as_json)


@account.command("rotate")
@click.argument("login", metavar="TENANT/NAME")
@settings_options(storage=True)
@as_json
def rotate_account(settings: Settings, login: str, *, as_json: bool) -> None:
    """Give an account another secret, and print it, once. The one before, and its tokens, count no more."""

    async def rotate(registry: Registry) -> str:
        return await _accounts(registry).rotate(login)

    _print_secret(login, run(settings, rotate), as_json=as_json)


def _print_secret(login: str, secret: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"login": login, "secret": secret}))
        return
    click.echo(secret)
    click.echo(f"the secret of {login}: nobody can read it again", err=True)


@account.command("list")
@click.argument("tenant", required=False, default="")
@settings_options(storage=True)
@as_json
def list_accounts(settings: Settings, tenant: str, *, as_json: bool) -> None:
    """Print the accounts of a tenant, or all."""

    async def find(registry: Registry) -> list[AccountRow]:
        return await _accounts(registry).list(tenant)

    print_rows([_described(row) for row in run(settings, find)], as_json=as_json)


@account.command("show")
@click.argument("login", metavar="TENANT/NAME")
@settings_options(storage=True)
@as_json
def show_account(settings: Settings, login: str, *, as_json: bool) -> None:
    """Print an account and its grants."""

    async def find(registry: Registry) -> tuple[AccountRow, Sequence[Grant]]:
        found = _accounts(registry)
        return await found.get(login), await found.grants(login)

    row, granted = run(settings, find)
    print_rows([{**_described(row), "grants": [str(each) for each in granted]}], as_json=as_json)


def _described(row: AccountRow) -> dict[str, Any]:
    instants = {
        name: value.isoformat(timespec="seconds") if (value := getattr(row, name)) else None
        for name in ("created_at", "expires_at", "disabled_at", "last_used_at")
    }
    return {"login": f"{row.tenant}/{row.name}", "kind": row.kind, **instants}


@account.command("disable")
@click.argument("login", metavar="TENANT/NAME")
@settings_options(storage=True)
def disable_account(settings: Settings, login: str) -> None:
    """Switch an account off, with all its tokens, within seconds."""
    _switch(settings, login, off=True)
    click.echo(f"{login} is disabled")


@account.command("enable")
@click.argument("login", metavar="TENANT/NAME")
@settings_options(storage=True)
def enable_account(settings: Settings, login: str) -> None:
    """Switch an account on again. It has to log in anew."""
    _switch(settings, login, off=False)
    click.echo(f"{login} is enabled")


def _switch(settings: Settings, login: str, *, off: bool) -> None:
    async def change(registry: Registry) -> None:
        await _accounts(registry).set_disabled(login, off=off)

    run(settings, change)


@account.command("delete")
@click.argument("login", metavar="TENANT/NAME")
@settings_options(storage=True)
def delete_account(settings: Settings, login: str) -> None:
    """Delete an account with its grants; its tokens end within seconds."""

    async def delete(registry: Registry) -> None:
        await _accounts(registry).delete(login)

    run(settings, delete)
    click.echo(f"{login} is deleted")


@grant.command("add")
@click.argument("login", metavar="TENANT/NAME")
@click.argument("granted", metavar="PATTERN:ACTIONS")
@settings_options(storage=True)
def add_grant(settings: Settings, login: str, granted: str) -> None:
    """Allow an account more, such as 'acme/web/*:pull,push'. Tokens have it from their next login on."""
    from distsql.registry.grants import Grant

    async def add(registry: Registry) -> None:
        await _accounts(registry).grant(login, Grant.parse(granted))

    run(settings, add)
    click.echo(f"{login} has {granted}")


@grant.command("list")
@click.argument("login", metavar="TENANT/NAME")
@settings_options(storage=True)
@as_json
def list_grants(settings: Settings, login: str, *, as_json: bool) -> None:
    """Print what an account may do."""

    async def find(registry: Registry) -> list[str]:
        return [str(each) for each in await _accounts(registry).grants(login)]

    print_names(run(settings, find), as_json=as_json)


@grant.command("remove")
@click.argument("login", metavar="TENANT/NAME")
@click.argument("granted", metavar="PATTERN:ACTIONS")
@settings_options(storage=True)
def remove_grant(settings: Settings, login: str, granted: str) -> None:
    """Take actions back from a pattern that was granted; tokens that have them end within seconds."""
    from distsql.registry.grants import Grant

    async def remove(registry: Registry) -> None:
        await _accounts(registry).revoke(login, Grant.parse(granted))

    run(settings, remove)
    click.echo(f"{login} has {granted} no more")
