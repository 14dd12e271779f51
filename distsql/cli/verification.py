"""``distsql verify``: catalogue against store."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distsql.cli.options import as_json, run, settings_options
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.verification import Finding


@click.command()
@settings_options(storage=True)
@click.option("--bytes", "read_bytes", is_flag=True, help="Read every byte and compare its digest; takes its time.")
@click.option("--repair", is_flag=True, help="Mend what is kept of tenants' use.")
@as_json
def verify(settings: Settings, *, read_bytes: bool, repair: bool, as_json: bool) -> None:
    """Compare the catalogue with the byte store, in both directions.

    Every blob must have its bytes, every manifest its payload and what it refers to. Exit status 1 when something that
    was pushed is damaged; pushing it again mends it. Bytes that no row names are told too: they are no damage, and
    `distsql collect-garbage` removes them. What tenants use is counted anew, which should be as it is kept: exit status
    1 when it isn't, unless --repair mends it. Safe while the registry serves.
    """
    from distsql.cli.progress import progress
    from distsql.registry.verification import Verifier

    async def find(registry: Registry) -> list[Finding]:
        with progress() as notify:
            verifier = Verifier(
                registry.backend, read_bytes=read_bytes, grace=settings.gc_grace, notify=notify, repair=repair
            )
            return [finding async for finding in verifier.findings()]

    findings = run(settings, find)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    if any(finding.damage or (finding.kind == "usage" and not repair) for finding in findings):
        sys.exit(1)


def _print(findings: list[Finding]) -> None:
    if findings:
        from rich.console import Console
        from rich.table import Table

        table = Table("kind", "what", "found")
        for finding in findings:
            table.add_row(finding.kind, finding.subject, finding.explanation)
        Console().print(table)
    damaged, miscounted = sum(each.damage for each in findings), sum(each.kind == "usage" for each in findings)
    orphans = len(findings) - damaged - miscounted
    told = f"{damaged} damaged, {miscounted} tenants miscounted, {orphans} orphans"
    click.echo(told if findings else "nothing is wrong")
