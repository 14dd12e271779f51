"""``distsql report``: questions that the catalogue answers, by name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from distsql.cli.options import catalogue, settings_options
from distsql.cli.output import as_json, print_rows
from distsql.errors import ReportInvalidError
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.sql.database import Database
    from distsql.sql.reports import Condition, ReportRow

FORMATS: Final = ("table", "json", "csv", "parquet")
_WORD: Final = re.compile(r"([A-Za-z_-]+)(>=|<=|!=|=|>|<)(.*)", re.DOTALL)
_MONTH: Final = re.compile(r"\d{4}-\d{2}\Z")
_WATCH_S: Final = 2


@click.command("report", context_settings={"ignore_unknown_options": False})
@click.argument("name")
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--tenant", metavar="T", help="This tenant's rows only.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write to.")
@click.option("--limit", type=click.IntRange(min=0), help="No more rows than these.")
@click.option("--watch", is_flag=True, help="Ask again every two seconds, until Ctrl-C.")
@settings_options()
@as_json
def report(
    settings: Settings,
    *,
    name: str,
    words: Sequence[str],
    tenant: str | None,
    form: str,
    output: Path | None,
    limit: int | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Print a report; `distsql report list` names them.

    KEY=VALUE is a function's argument, or keeps the rows whose column is equal to the value; >=, <=, !=, > and < work
    as well (in quotation marks, for the shell), and null stands for no value: 'idle_days>=90', last_pulled_at=null.
    """
    form = "json" if as_json else form
    if watch and (form != "table" or output is not None):
        raise click.UsageError("--watch is for tables on a terminal: leave --format and --output out")
    if form == "parquet" and output is None:
        raise click.UsageError("Parquet is no text: say where to write it, --output FILE")
    import asyncio

    with catalogue(settings) as found:
        asyncio.run(_run(found, name, words, tenant=tenant, form=form, output=output, limit=limit, watch=watch))


async def _run(
    settings: Settings,
    name: str,
    words: Sequence[str],
    *,
    tenant: str | None,
    form: str,
    output: Path | None,
    limit: int | None,
    watch: bool,
) -> None:
    import asyncio

    from distsql.cli.report_formats import write
    from distsql.sql import reports

    async with _database(settings) as database:
        known = await database.read(reports.list_reports)
        if name == "list":
            _print_list(known, as_json=form == "json")
            return
        wanted = find(known, name)
        arguments, conditions = parse_words(wanted, words, tenant=tenant)
        columns = reports.shown_columns(wanted)
        while True:
            if watch:
                click.clear()
            await write(
                reports.rows(database, wanted, arguments=arguments, conditions=conditions, limit=limit),
                columns,
                form=form,
                output=output,
            )
            if not watch:
                return
            await asyncio.sleep(_WATCH_S)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    """The catalogue, as whoever the URL names: an owner, an auditor, or a tenant's own role."""
    from distsql.sql.database import Database

    database = Database(
        settings.database_url or "",
        pool_size=1,
        statement_timeout_s=settings.statement_timeout.total_seconds(),
        lock_timeout_s=settings.lock_timeout.total_seconds(),
    )
    try:
        yield database
    finally:
        await database.close()


def _print_list(known: Sequence[ReportRow], *, as_json: bool) -> None:

    described: list[dict[str, Any]] = [
        {
            "name": row.name.replace("_", "-"),
            "arguments": row.arguments,
            "columns": row.columns,
            "answers": row.comment.split("\n", 1)[0],
        }
        for row in known
    ]
    shown = ("name", "arguments", "answers")
    print_rows(described if as_json else [{key: row[key] for key in shown} for row in described], as_json=as_json)


def find(known: Sequence[ReportRow], name: str) -> ReportRow:
    """The report of this name, written with dashes or underscores."""
    for row in known:
        if row.name == name.replace("-", "_"):
            return row
    names = ", ".join(row.name.replace("_", "-") for row in known)
    raise ReportInvalidError(f"There is no report {name[:80]!r}. There are: {names}")


def parse_words(
    report: ReportRow, words: Sequence[str], *, tenant: str | None
) -> tuple[dict[str, str], list[Condition]]:
    """The function's arguments, and what columns are compared with."""
    from distsql.sql.reports import Condition

    kinds = dict(zip(report.arguments, report.argument_types, strict=True))
    arguments: dict[str, str] = {}
    conditions = []
    for word in (*words, *([f"tenant={tenant}"] if tenant is not None else [])):
        match = _WORD.match(word)
        if match is None:
            raise ReportInvalidError(f"{word[:80]!r} is neither KEY=VALUE nor another comparison")
        key, operator, value = match[1].replace("-", "_"), match[2], match[3]
        if key in kinds and operator == "=" and key not in arguments:
            arguments[key] = f"{value}-01" if kinds[key] == "date" and _MONTH.match(value) else value
        elif key in report.columns:
            conditions.append(Condition(key, operator, _comparable(report, key, operator, value)))
        else:
            there = ", ".join([*report.arguments, *report.columns])
            raise ReportInvalidError(f"{report.name.replace('_', '-')} has no {key!r}. It has: {there}")
    required = report.arguments[: len(report.arguments) - report.optional_arguments]
    missing = [each for each in required if each not in arguments]
    if missing:
        raise ReportInvalidError(
            f"{report.name.replace('_', '-')} has to be told {', '.join(missing)}: write {missing[0]}=..."
        )
    return arguments, conditions


def _comparable(report: ReportRow, key: str, operator: str, value: str) -> str | None:
    """The value as PostgreSQL reads it; None is null."""
    if value != "null":
        return value
    if operator not in {"=", "!="}:
        raise ReportInvalidError(f"{report.name}: null is neither more nor less than {key}: write {key}=null")
    return None
