"""What commands print: tables and lines for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.table import Table

as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
_UNFOLDED: Final = 10_000


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Rows that have the same keys: a list of objects, or a table."""
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        print_table(rows)


def print_thing(found: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: an object, or a table of what it is."""
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_table([{"what": key, "is": value} for key, value in found.items()])


def print_names(names: Sequence[str], *, as_json: bool) -> None:
    """A list of texts, or a line for each."""
    for line in [json.dumps(names)] if as_json else names:
        click.echo(line)


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows that have the same keys, at least one."""
    from rich.table import Table

    table = Table()
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        values = (", ".join(value) if isinstance(value, list) else value for value in row.values())
        table.add_row(*("" if value is None else str(value) for value in values))
    show_table(table)


def show_table(table: Table, file: IO[str] | None = None) -> None:
    """As wide as the terminal. For programs with whole lines: a digest that is folded can't be looked for."""
    from rich.console import Console

    console = Console(file=file)
    (console if console.is_terminal else Console(file=file, width=_UNFOLDED)).print(table)
