"""``distsql audit``: seals over what was done, and old months that leave the catalogue."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_table
from distsql.errors import AuditExportError, SettingsError
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.audit_chains import Finding
    from distsql.registry.audit_exports import AuditExports
    from distsql.sql.audit_exports import MonthRow


@click.group()
def audit() -> None:
    """Seal, check and export the record of what was done."""


@audit.command("seal")
@settings_options(storage=True)
def seal_audit(settings: Settings) -> None:
    """Seal all that is settled now. A server does it by itself every DISTSQL_AUDIT_SEAL_INTERVAL (1m)."""
    from distsql.registry.audit_seals import AuditSeals

    async def seal(registry: Registry) -> int:
        return await AuditSeals(registry.backend.everything).seal()

    click.echo(f"{run(settings, seal)} events were sealed")


@audit.command("roots")
@settings_options(storage=True)
@as_json
def print_roots(settings: Settings, *, as_json: bool) -> None:
    """Print the last root of each tenant's chain: kept elsewhere, they show whether the chain was made anew.

    With --json one object a line, for `distsql audit verify --roots FILE`.
    """
    from distsql.registry.audit_seals import AuditSeals

    async def find(registry: Registry) -> list[dict[str, Any]]:
        return [
            {
                "tenant_id": row.tenant_id,
                "tenant": row.tenant,
                "number": row.number,
                "until_at": row.until_at.isoformat(),
                "root": row.root.hex(),
            }
            for row in await AuditSeals(registry.backend.everything).roots()
        ]

    rows = run(settings, find)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    elif rows:
        print_table(rows)


@audit.command("verify")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@click.option(
    "--roots",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Roots that were kept elsewhere, as `audit roots --json` printed them.",
)
@settings_options(storage=True)
@as_json
def verify_audit(
    settings: Settings, files: tuple[Path, ...], tenant: str | None, roots: Path | None, *, as_json: bool
) -> None:
    """Look for events that were altered, taken away, added or moved since they were sealed. Exit status 1 if there are.

    With FILES of `audit export` those are compared with the seals instead of what is in the catalogue.
    """
    from distsql.registry.audit_seals import AuditSeals

    kept = _read_roots(roots) if roots else {}

    async def find(registry: Registry) -> list[Finding]:
        seals = AuditSeals(registry.backend.everything)
        if files:
            return [finding for file in files for finding in await _check_file(_exports(registry), file)]
        return [finding async for finding in seals.verify(tenant=tenant, kept=kept)]

    findings = [finding._asdict() for finding in run(settings, find)]
    if as_json:
        click.echo(json.dumps(findings))
    elif findings:
        print_table(findings)
    else:
        click.echo("the audit is as it was sealed")
    if findings:
        sys.exit(1)


def _read_roots(path: Path) -> Mapping[tuple[int, int], bytes]:
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {(row["tenant_id"], row["number"]): bytes.fromhex(row["root"]) for row in rows}
    except (ValueError, LookupError, TypeError) as error:
        raise SettingsError(f"{path} has no roots as `distsql audit roots --json` prints them: {error}") from error


@audit.command("export")
@click.option("--before", metavar="DATE", required=True, help="Months that were over then, such as 2026-01-01.")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where the files go.  [default: here]",
)
@click.option("--keep", is_flag=True, help="Write the files only, and take nothing out of the catalogue.")
@settings_options(storage=True)
def export_audit(settings: Settings, before: str, folder: Path, *, keep: bool) -> None:
    """Write old months to files, one JSON object a line, and then take them out of the catalogue.

    A file is flushed to the disk, read back and compared with the seals before anything is dropped. The seals stay:
    `distsql audit verify FILE` checks a file at any time.
    """
    try:
        instant = datetime.fromisoformat(before)
    except ValueError as error:
        raise SettingsError(f"--before is {before!r}: write a date such as 2026-01-01") from error
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    folder.mkdir(parents=True, exist_ok=True)

    async def export(registry: Registry) -> None:
        exports = _exports(registry)
        months = await exports.months(before=instant)
        for month in months:
            file = folder / f"{month.name.replace('_events', '').replace('_', '-')}.jsonl"
            unfinished = file.with_suffix(".unfinished")
            sha256 = await _write(exports.events(month), unfinished)
            findings = [finding async for finding in exports.check(month, _read(unfinished))]
            if findings:
                raise AuditExportError(
                    f"{unfinished} isn't what was sealed, nothing was dropped: {findings[0].message}"
                )
            _name(unfinished, file)
            if not keep:
                await exports.drop(month, file=file.name, sha256=sha256)
            click.echo(f"{file}  sha256:{sha256}")
        if not months:
            click.echo("there is no month that old")

    run(settings, export)


def _exports(registry: Registry) -> AuditExports:
    from distsql.registry.audit_exports import AuditExports

    return AuditExports(registry.backend.everything, caller())


async def _write(events: AsyncIterator[Mapping[str, Any]], file: Path) -> str:
    """Writes the file, durably, and gives its SHA-256."""
    hashed = hashlib.sha256()
    with file.open("wb") as opened:
        async for event in events:
            line = json.dumps(event, ensure_ascii=False).encode() + b"\n"
            hashed.update(line)
            opened.write(line)
        opened.flush()
        os.fsync(opened.fileno())
    return hashed.hexdigest()


def _name(unfinished: Path, file: Path) -> None:
    """Gives it its name, durably. What had the name is replaced by what is known to be complete."""
    unfinished.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            event: Mapping[str, Any] = json.loads(line)
            yield event


async def _check_file(exports: AuditExports, file: Path) -> list[Finding]:
    from distsql.sql.audit_exports import MonthRow as Month

    try:
        first = next(_read(file), None)
        month: MonthRow | None = Month.of(datetime.fromisoformat(first["at"])) if first else None
        return [finding async for finding in exports.check(month, _read(file))] if month else []
    except (ValueError, LookupError, TypeError) as error:
        raise SettingsError(f"{file} is no file of `distsql audit export`: {error}") from error
