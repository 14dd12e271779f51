"""``distsql verify``: catalogue against store."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_table
from distsql.errors import SettingsError
from distsql.settings import Settings, size

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.verification import Finding


@click.command()
@settings_options(storage=True)
@click.option("--bytes", "read_bytes", is_flag=True, help="Read every byte and compare its digest; takes its time.")
@click.option("--rate", metavar="SIZE/s", help="Read no more than this, such as 50MB/s.  [default: as fast as it goes]")
@click.option("--repair", is_flag=True, help="Mend what can be, take damaged blobs out of sight, remove orphans.")
@click.option("--restart", is_flag=True, help="Begin at the beginning, although one was stopped.")
@as_json
def verify(
    settings: Settings, *, read_bytes: bool, rate: str | None, repair: bool, restart: bool, as_json: bool
) -> None:
    """Compare the catalogue with the byte store, in both directions.

    Every blob must have its bytes, every manifest its payload and what it refers to; what tenants use is counted anew,
    and should be as it is kept. Exit status 1 when something is wrong and stays so. --repair lets repositories see
    again what their manifests need and the tenant has, gives blobs their bytes back where the store has them under
    another key, and mends what is kept of tenants' use; other damaged blobs are not found any more, so that clients
    push them again, which mends the rest. Bytes that no row names are no damage: --repair and `distsql collect-garbage`
    remove them, after the grace period and the recovery window. Safe while the registry serves. One that was stopped
    goes on where it was.
    """
    from distsql.cli.progress import progress
    from distsql.registry.verification import Verifier

    bytes_a_second = _rate(rate)

    async def find(registry: Registry) -> list[Finding]:
        totals: dict[str, int] = {}
        found: dict[tuple[str, str], Finding] = {}
        with progress(totals) as notify:
            verifier = Verifier(
                registry.backend,
                read_bytes=read_bytes,
                # A database restored to a point in the window may name what no row names now.
                grace=max(settings.gc_grace, settings.recovery_window),
                notify=notify,
                repair=repair,
                resume=not restart,
                rate=bytes_a_second,
                caller=caller(),
            )
            totals.update(await verifier.totals())
            async for finding in verifier.findings():
                found[finding.kind, finding.subject] = finding
        return list(found.values())

    findings = run(settings, find)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    if any(finding.wrong for finding in findings):
        sys.exit(1)


def _rate(text: str | None) -> int | None:
    """Bytes a second."""
    if text is None:
        return None
    try:
        rate = size(text.removesuffix("/s"))
    except ValueError as error:
        raise SettingsError(f"--rate is {text!r}: {error}, with /s") from error
    if not rate:
        raise SettingsError("--rate is 0: write more, or leave it out")
    return rate


def _print(findings: list[Finding]) -> None:
    if findings:
        print_table([{"kind": each.kind, "what": each.subject, "found": each.explanation} for each in findings])
    damaged, mended = sum(each.damage for each in findings), sum(each.mended for each in findings)
    miscounted = sum(each.kind == "usage" and not each.mended for each in findings)
    orphans = len(findings) - damaged - mended - miscounted
    told = f"{damaged} damaged, {miscounted} tenants miscounted, {orphans} orphans, {mended} mended"
    click.echo(told if findings else "nothing is wrong")
