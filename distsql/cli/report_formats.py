"""How rows are written: tables for people, with sizes and times as they read them; the rest exactly, for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from distsql.cli.output import show_table
from distsql.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

Batches = AsyncIterator[list[tuple[Any, ...]]]
_MOST_OF_A_TABLE: Final = 10_000
_SIZES: Final = {"bytes", "length"}


async def write(batches: Batches, columns: Mapping[str, str], *, form: str, output: Path | None) -> None:
    """Writes all rows of the columns, which are given with PostgreSQL's names of their types."""
    if form == "parquet" and output is not None:
        await _write_parquet(batches, columns, output)
        return
    with _opened(output) as file:
        if form == "json":
            await _write_json(batches, columns, file)
        elif form == "csv":
            await _write_csv(batches, columns, file)
        else:
            await _write_table(batches, columns, file)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
    else:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file


def exact(value: object) -> object:
    """A value as JSON has it: instants and days in ISO 8601."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


async def _write_json(batches: Batches, columns: Mapping[str, str], file: IO[str]) -> None:
    """One array, an object for each row, written as they come."""
    separator = "["
    async for batch in batches:
        for row in batch:
            file.write(separator)
            file.write(json.dumps({name: exact(value) for name, value in zip(columns, row, strict=True)}))
            separator = ",\n"
    file.write("]\n" if separator != "[" else "[]\n")


async def _write_csv(batches: Batches, columns: Mapping[str, str], file: IO[str]) -> None:
    """RFC 4180, with a line of names; null is empty."""
    writer = csv.writer(file)
    writer.writerow(columns)
    async for batch in batches:
        writer.writerows([[exact(value) for value in row] for row in batch])


async def _write_table(batches: Batches, columns: Mapping[str, str], file: IO[str]) -> None:
    from rich.table import Table

    table = Table()
    for name, kind in columns.items():
        table.add_column(name, justify="right" if kind in {"bigint", "integer"} else "left", overflow="fold")
    async for batch in batches:
        for row in batch[: _MOST_OF_A_TABLE - len(table.rows)]:
            table.add_row(*(readable(name, value) for name, value in zip(columns, row, strict=True)))
        if len(table.rows) == _MOST_OF_A_TABLE:
            click.echo(f"only the first {_MOST_OF_A_TABLE} rows: --format csv has all", err=True)
            break
    show_table(table, file)


def readable(name: str, value: object) -> str:
    """A value as people read it."""
    from rich.filesize import decimal

    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (name in _SIZES or name.endswith("_bytes")):
        return decimal(value) if value >= 0 else f"-{decimal(-value)}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


# -- Parquet ----------------------------------------------------------------------------------------------------------


async def _write_parquet(batches: Batches, columns: Mapping[str, str], output: Path) -> None:
    """Through a file beside it, so that nobody reads half of it."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise SettingsError("Parquet needs pyarrow: pip install 'distsql[parquet]'") from error
    kinds = {
        "bigint": pa.int64(),
        "integer": pa.int32(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, kinds.get(kind, pa.string())) for name, kind in columns.items()])
    unfinished = output.with_name(f"{output.name}.unfinished")
    try:
        with parquet.ParquetWriter(unfinished, schema) as writer:
            async for batch in batches:
                writer.write_table(pa.table(_arrays(batch, schema), schema=schema))
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)


def _arrays(batch: Sequence[tuple[Any, ...]], schema: Any) -> list[Any]:  # noqa: ANN401  # pyarrow's
    import pyarrow as pa

    return [
        pa.array([str(value) if isinstance(value, UUID) else value for value in values], type=field.type)
        for values, field in zip(zip(*batch, strict=True), schema, strict=True)
    ]
