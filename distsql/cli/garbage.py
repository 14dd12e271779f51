"""``distsql collect-garbage``: one run now."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_table
from distsql.errors import SettingsError
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.garbage import Collected

_WORDS: Final = {
    "uploads": "expired uploads",
    "tenants": "deleted tenants",
    "repositories": "deleted repositories",
    "manifests": "manifests that nothing holds",
    "purged": "rows of manifests that were deleted before",
    "layers": "blobs from repositories",
    "blobs": "blobs that nothing needs any more",
    "orphans": "stored objects that no row names",
}


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
    from distsql.app import periods_of
    from distsql.cli.progress import progress
    from distsql.registry.garbage import GarbageCollector

    if dry_run and full:
        raise SettingsError("--dry-run tells of what is queued, not of everything: leave out one of it and --full")

    async def collect(registry: Registry) -> Collected:
        with progress() as notify:
            collector = GarbageCollector(registry.backend, caller(), periods=periods_of(settings), notify=notify)
            return await (collector.dry_run() if dry_run else collector.command(full=full))

    found = run(settings, collect)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **asdict(found)}))
    else:
        _print(found, dry_run=dry_run)


def _print(found: Collected, *, dry_run: bool) -> None:
    from rich.filesize import decimal

    verb = "would go" if dry_run else "went"
    rows = [{"what": _WORDS[name], verb: number} for name, number in asdict(found).items() if number and name in _WORDS]
    if rows:
        print_table(rows)
    told = f"{decimal(found.freed_bytes)} {'would be' if dry_run else 'are'} free" if rows or found.freed_bytes else ""
    click.echo(told or "there is no garbage that is old enough")
