"""``distsql store``: where bytes are kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_rows, print_table
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.stores import Moved, Stores


@click.group()
def store() -> None:
    """Give tenants byte stores of their own, and move them there."""


def _run(settings: Settings, work: Callable[[Stores], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever the work gives
    from distsql.bytestore.urls import open_store
    from distsql.registry.stores import Stores

    async def with_stores(registry: Registry) -> object:
        return await work(Stores(registry.backend, caller(), open_store=open_store))

    return run(settings, with_stores)


@store.command("add")
@click.argument("name")
@click.argument("url")
@settings_options(storage=True)
def add_store(settings: Settings, name: str, url: str) -> None:
    """Make a store known, after an object went there and back.

    Credentials are never part of the address: every server finds them as AWS clients do.
    """
    _run(settings, lambda stores: stores.add(name, url))
    click.echo(f"{name} is known: `distsql tenant set TENANT --store {name}` or `distsql store move TENANT {name}`")


@store.command("list")
@settings_options(storage=True)
@as_json
def list_stores(settings: Settings, *, as_json: bool) -> None:
    """Print the stores beside the one that --storage names, and how many tenants have them."""
    found = [
        {**row._asdict(), "added_at": row.added_at.isoformat(timespec="seconds")}
        for row in _run(settings, lambda stores: stores.all())
    ]
    print_rows(found, as_json=as_json)


@store.command("check")
@click.argument("name", required=False)
@settings_options(storage=True)
@as_json
def check_stores(settings: Settings, name: str | None, *, as_json: bool) -> None:
    """Write, read and delete an object in each store, or in one. Exit status 1 when something is wrong."""
    found = _run(settings, lambda stores: stores.check(name))
    rows = [{"name": each, "problem": problem} for each, problem in found.items()]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        print_table([{"name": row["name"], "problem": row["problem"] or "none"} for row in rows])
    if any(found.values()):
        sys.exit(1)


@store.command("move")
@click.argument("tenant")
@click.argument("name")
@settings_options(storage=True)
@as_json
def move_tenant(settings: Settings, tenant: str, name: str, *, as_json: bool) -> None:
    """Give a tenant a store, and move all of its bytes there; `default` is the one that --storage names.

    Safe while the registry serves. Each copy is read back and compared with its digest before it counts; the old bytes
    go with the garbage an hour later. Killed, or run again, it goes on where it was. Exit status 1 when bytes were
    missing or damaged: those stay where they are.
    """
    from distsql.cli.progress import progress

    async def move(stores: Stores) -> Moved:
        blobs, length = await stores.remaining(tenant, name)
        click.echo(f"{blobs} blobs of {length} bytes to move", err=True)
        with progress() as notify:
            return await stores.move(tenant, name, notify=notify)

    moved = _run(settings, move)
    if as_json:
        found = {"blobs": moved.blobs, "bytes": moved.bytes, "damaged": moved.damaged}
        click.echo(json.dumps({**found, "open_uploads": moved.open_uploads}))
    else:
        click.echo(f"{moved.blobs} blobs of {moved.bytes} bytes were moved to {name}")
        for digest in moved.damaged:
            click.echo(f"{digest} is missing or damaged: push it again", err=True)
        if moved.open_uploads:
            click.echo(f"{moved.open_uploads} uploads still end in the old store: run it again after them", err=True)
    if moved.damaged:
        sys.exit(1)
