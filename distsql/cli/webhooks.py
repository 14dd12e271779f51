"""``distsql webhook``: who is told of events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_rows
from distsql.errors import DeliveryFailedError, SettingsError
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.webhooks import Webhooks


@click.group()
def webhook() -> None:
    """Tell other services of pushes, tags and deletions."""


def _webhooks(registry: Registry) -> Webhooks:
    from distsql.registry.webhooks import Webhooks

    return Webhooks(registry.backend.everything, caller())


@webhook.command("add")
@click.argument("tenant")
@click.argument("url")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["distribution", "cloudevents"]),
    default="cloudevents",
    show_default=True,
    help="How an event is written.",
)
@click.option("--events", default="push,delete,tag", show_default=True, help="Which events, separated by commas.")
@settings_options(storage=True)
@as_json
def add_webhook(settings: Settings, tenant: str, url: str, format_: str, events: str, *, as_json: bool) -> None:
    """Send TENANT's events to URL from now on, signed as Standard Webhooks with a secret that is printed once."""
    from distsql.api.outgoing import check_target

    check_target(url)

    async def add(registry: Registry) -> tuple[int, str]:
        return await _webhooks(registry).add(tenant, url, format=format_, events=events.split(","))

    number, secret = run(settings, add)
    if as_json:
        click.echo(json.dumps({"id": number, "secret": secret}))
    else:
        click.echo(f"webhook {number} of {tenant}; its secret, which is not shown again: {secret}")


@webhook.command("list")
@click.argument("tenant", required=False, default="")
@click.option("--dead", is_flag=True, help="What was given up instead, newest first; needs a TENANT.")
@settings_options(storage=True)
@as_json
def list_webhooks(settings: Settings, tenant: str, *, dead: bool, as_json: bool) -> None:
    """Print webhooks, with how many events wait for each, since when, and how many were given up."""
    if dead and not tenant:
        raise SettingsError("--dead needs the name of a tenant")

    async def find(registry: Registry) -> list[dict[str, Any]]:
        service = _webhooks(registry)
        rows = await service.dead(tenant) if dead else await service.all(tenant=tenant)
        return [row._asdict() for row in rows]

    rows = [{name: _shown(value) for name, value in row.items()} for row in run(settings, find)]
    print_rows(rows, as_json=as_json)


def _shown(value: object) -> object:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value


@webhook.command("test")
@click.argument("tenant")
@click.argument("number", type=int)
@settings_options(storage=True)
def test_webhook(settings: Settings, tenant: str, number: int) -> None:
    """Send a test to TENANT's webhook NUMBER now. Exit status 1 unless the answer is a success."""
    from distsql.api.outgoing import Sender

    async def test(registry: Registry) -> int:
        return await _webhooks(registry).test(tenant, number, Sender(allowed=settings.private_hosts).post)

    status = run(settings, test)
    if not 200 <= status < 300:  # noqa: PLR2004  # success, in HTTP
        raise DeliveryFailedError(f"it answered {status}")
    click.echo(f"it answered {status}")


@webhook.command("replay")
@click.argument("tenant")
@click.argument("number", type=int)
@click.option("--since", required=True, metavar="TIME", help="The first instant, such as 2026-11-26T10:00.")
@click.option("--until", metavar="TIME", help="The instant behind the last.  [default: now]")
@settings_options(storage=True)
def replay_webhook(settings: Settings, tenant: str, number: int, since: str, until: str | None) -> None:
    """Send the events of an interval to TENANT's webhook NUMBER again, under the ids that they had."""
    begin, end = _instant("--since", since), _instant("--until", until) if until else datetime.now(UTC)

    async def replay(registry: Registry) -> int:
        return await _webhooks(registry).replay(tenant, number, since=begin, until=end)

    click.echo(f"{run(settings, replay)} events are sent again")


def _instant(option: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{option} is {text!r}: write a time such as 2026-11-26T10:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@webhook.command("delete")
@click.argument("tenant")
@click.argument("number", type=int)
@settings_options(storage=True)
def delete_webhook(settings: Settings, tenant: str, number: int) -> None:
    """Send nothing to TENANT's webhook NUMBER any more, nor what is on its way."""

    async def delete(registry: Registry) -> None:
        await _webhooks(registry).delete(tenant, number)

    run(settings, delete)
    click.echo(f"webhook {number} of {tenant} is no more")
