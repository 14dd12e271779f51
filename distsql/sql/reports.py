"""Reports: which there are, as PostgreSQL's catalogue tells, and their rows.

What is asked for by name at run time is written by SQLAlchemy as every statement is, but isn't registered: names come
from the catalogue, values are parameters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import psycopg
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnClause,
    ColumnElement,
    Integer,
    Text,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    table,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import UserDefinedType

from distsql.errors import CatalogueUnavailableError, ReportInvalidError
from distsql.sql.database import Database
from distsql.sql.statements import statement, unnamed
from distsql.sql.transactions import Transaction

SCHEMA: Final = "report"
OPERATORS: Final = (">=", "<=", "!=", "=", ">", "<")
_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]
_BATCH: Final = 1000


class ReportRow(NamedTuple):
    """A view or a function, as the catalogue describes it; of a function the arguments, and the columns it gives."""

    name: str
    is_function: bool
    comment: str
    arguments: list[str]
    argument_types: list[str]
    optional_arguments: int
    columns: list[str]
    column_types: list[str]
    column_comments: list[str]


_views = text("""
    select c.relname::text as name, false as is_function, coalesce(obj_description(c.oid, 'pg_class'), '') as comment,
        '{}'::text[] as arguments, '{}'::text[] as argument_types, 0 as optional_arguments,
        array_agg(a.attname::text order by a.attnum) as columns,
        array_agg(format_type(a.atttypid, a.atttypmod) order by a.attnum) as column_types,
        array_agg(coalesce(col_description(c.oid, a.attnum), '') order by a.attnum) as column_comments
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
    where c.relnamespace = to_regnamespace('report') and c.relkind = 'v'
    group by c.oid, c.relname
""")
_functions = text("""
    select p.proname::text, true, coalesce(obj_description(p.oid, 'pg_proc'), ''),
        coalesce(array_agg(n.name order by n.at) filter (where n.mode = 'i'), '{}'),
        coalesce(array_agg(format_type(n.type, null) order by n.at) filter (where n.mode = 'i'), '{}'),
        p.pronargdefaults::integer,
        coalesce(array_agg(n.name order by n.at) filter (where n.mode = 't'), '{}'),
        coalesce(array_agg(format_type(n.type, null) order by n.at) filter (where n.mode = 't'), '{}'), '{}'
    from pg_proc p
    cross join lateral unnest(p.proargnames, p.proallargtypes, p.proargmodes) with ordinality n (name, type, mode, at)
    where p.pronamespace = to_regnamespace('report') and p.proretset
    group by p.oid, p.proname, p.pronargdefaults
""")
_TEXTS: Final = ARRAY(Text)
_COLUMNS: Final = (
    column("name", Text),
    column("is_function", Boolean),
    column("comment", Text),
    column("arguments", _TEXTS),
    column("argument_types", _TEXTS),
    column("optional_arguments", Integer),
    column("columns", _TEXTS),
    column("column_types", _TEXTS),
    column("column_comments", _TEXTS),
)

LIST_REPORTS: Final = statement(
    "list_reports",
    "Every report with its columns, as PostgreSQL's own catalogue tells.",
    union_all(_views.columns(*_COLUMNS), _functions.columns(*_COLUMNS)).order_by(text("1")),
    ReportRow,
)


async def list_reports(tx: Transaction) -> list[ReportRow]:
    """All of them, by name."""
    return await tx.all(LIST_REPORTS)


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a column with a value, which is written as PostgreSQL reads the column's type; None is null."""

    column: str
    operator: str
    value: str | None


class _Named(UserDefinedType[Any]):
    """A type by the name that PostgreSQL gives it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self._name = name

    def get_col_spec(self, **options: object) -> str:
        """The name."""
        del options
        return self._name


def shown_columns(report: ReportRow) -> dict[str, str]:
    """The columns that people see, with their types: not those that are there for an index to be used."""
    pairs = zip(report.columns, report.column_types, strict=True)
    return {name: kind for name, kind in pairs if kind != "bytea"}


def _clause(
    report: ReportRow, arguments: Mapping[str, str], conditions: Sequence[Condition], limit: int | None
) -> tuple[ClauseElement, dict[str, Any]]:
    """The query, and its parameters."""
    parameters: dict[str, Any] = {}

    def value(written: object, kind: str) -> ColumnElement[Any]:
        name = f"value_{len(parameters)}"
        parameters[name] = written
        return cast(bindparam(name, type_=Text()), _Named(kind))

    types = dict(zip(report.columns, report.column_types, strict=True))
    columns: dict[str, ColumnClause[Any]] = {name: column(name) for name in types}
    if report.is_function:
        kinds = dict(zip(report.arguments, report.argument_types, strict=True))
        given = [value(arguments[name], kinds[name]) for name in report.arguments if name in arguments]
        called = getattr(getattr(func, SCHEMA), report.name)(*given)
        source: Any = called.table_valued(*columns.values()).alias("r")
    else:
        source = table(report.name, *columns.values(), schema=SCHEMA)
    compared = []
    for condition in conditions:
        key = f"{condition.column.removesuffix('_digest')}_key"
        if condition.value is None:
            compared.append(
                source.c[condition.column].op("is" if condition.operator == "=" else "is not")(text("null"))
            )
        elif condition.operator == "=" and condition.column.endswith("_digest") and key in types:
            looked_for = getattr(func, SCHEMA).digest(value(condition.value, "text"))
            compared.append(source.c[key] == looked_for)  # which an index finds
        else:
            wanted = value(condition.value, types[condition.column])
            compared.append(source.c[condition.column].op(condition.operator)(wanted))
    query = select(*(source.c[name] for name in shown_columns(report))).select_from(source).where(and_(True, *compared))  # noqa: FBT003  # SQL's
    return query.limit(literal_column(str(int(limit)), BigInteger())) if limit is not None else query, parameters


async def rows(
    database: Database,
    report: ReportRow,
    *,
    arguments: Mapping[str, str],
    conditions: Sequence[Condition],
    limit: int | None = None,
) -> AsyncIterator[list[tuple[Any, ...]]]:
    """The report's rows, in batches: however many there are, few are in memory. `ReportInvalidError`."""
    clause, parameters = _clause(report, arguments, conditions, limit)
    query = str(clause.compile(dialect=_DIALECT))
    name = f"report.{report.name}"
    declare = unnamed(name, f"declare report no scroll cursor for {query}")
    fetch = unnamed(name, f"fetch forward {_BATCH} from report")
    try:
        async with database.transaction() as tx:
            tx.queue(declare, **parameters)
            while batch := await tx.all(fetch):
                yield batch
    except (psycopg.errors.DataError, psycopg.errors.SyntaxErrorOrAccessRuleViolation) as error:
        raise ReportInvalidError(f"{report.name}: {error.diag.message_primary or error}") from error
    except psycopg.errors.QueryCanceled as error:
        raise CatalogueUnavailableError(
            f"{report.name} takes longer than the statement timeout: ask for less, or set DISTSQL_STATEMENT_TIMEOUT"
        ) from error
