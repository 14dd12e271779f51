"""``distsql collect-garbage``: one run now."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distsql.cli.options import as_json, caller, run, settings_options
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.garbage import Collected


@click.command("collect-garbage")
@settings_options(storage=True)
@click.option("--grace", "gc_grace", metavar="DURATION", help="Leave what is younger.  [default: 1h]")
@click.option("--full", is_flag=True, help="Look at everything, not only at what is queued; sweep the byte store too.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and change nothing.")
@as_json
def collect_garbage(settings: Settings, *, full: bool, dry_run: bool, as_json: bool) -> None:
    """Remove what nothing refers to, once it has been so for the grace period. Safe while the registry serves.

    `distsql serve` does so by itself, every DISTSQL_GC_INTERVAL. Blobs that no manifest of their repository refers to;
    manifests without a tag, a parent index or a subject, where the tenant or repository says `--untagged collect`;
    referrers of what was deleted; what was deleted longer ago than DISTSQL_RESTORE_PERIOD; expired uploads.
    --full also finds what servers of earlier versions left, and bytes that no row names.
    """
    from rich.filesize import decimal

    from distsql.app import periods_of
    from distsql.cli.progress import progress
    from distsql.registry.garbage import GarbageCollector

    async def collect(registry: Registry) -> Collected:
        with progress() as notify:
            collector = GarbageCollector(registry.backend, caller(), periods=periods_of(settings), notify=notify)
            return await (collector.dry_run() if dry_run else collector.command(full=full))

    found = run(settings, collect)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **asdict(found)}))
        return
    verb = "would remove" if dry_run else "removed"
    click.echo(
        f"{verb} {found.tenants} deleted tenants, {found.repositories} deleted repositories, "
        f"{found.manifests} manifests, rows of {found.purged} that were deleted before, "
        f"{found.layers} blobs from repositories, {found.blobs} blobs and "
        f"{found.orphans} orphans from the store ({decimal(found.freed_bytes)}), "
        f"{found.uploads} expired uploads"
    )
