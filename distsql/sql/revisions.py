"""Whether a database is what this version needs, asked without Alembic and SQLAlchemy, which take long to import.

Every command and every server asks that first, and nearly always it is. What is wrong, and how to mend it, is said by
``schema.py``.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import psycopg

from distsql.errors import CatalogueUnavailableError, SettingsError

MONTHS_AHEAD: Final = 3
_REVISION: Final = re.compile(r'^(down_)?revision = "(\w+)"$', re.MULTILINE)


def schema_folder() -> Path:
    """Where alembic.ini and the migrations are: inside the installed wheel, else in the checkout beside the package."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_schema"
    return inside if inside.exists() else package.parent


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection as the schema's owner; errors that say what is wrong with the URL."""
    try:
        return psycopg.connect(url, connect_timeout=10, application_name="distsql migrate")
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"The database URL can't be read: {error}. Write postgresql://user@host/name") from error
    except psycopg.OperationalError as error:
        raise CatalogueUnavailableError(f"The catalogue's PostgreSQL doesn't answer: {error}") from error


def is_current(url: str) -> bool:
    """Whether the database is certainly at the revision of this version."""
    with connect(url) as connection:
        try:
            found = connection.execute("select version_num from alembic_version").fetchall()
        except psycopg.Error:
            return False
    return found == [(head,) for head in _heads()]


def check_revision(url: str) -> None:
    """Raises `SchemaError` with the command that mends it unless the database is at the revision of this version."""
    if not is_current(url):
        from distsql.sql import schema  # noqa: PLC0415  # slow to import

        schema.check_revision(url)


def _heads() -> list[str]:
    """The revisions that no other is built on: one."""
    revisions, built_on = set[str](), set[str]()
    for file in (schema_folder() / "migrations" / "versions").glob("*.py"):
        for down, revision in _REVISION.findall(file.read_text()):
            (built_on if down else revisions).add(revision)
    return sorted(revisions - built_on)


def months_from(first: date, months: int) -> list[tuple[str, datetime, datetime]]:
    """Of so many months: the name of the audit's partition, when it begins and when it ends."""
    found = []
    begin = datetime(first.year, first.month, 1, tzinfo=UTC)
    for _ in range(months):
        next_month = (begin.year + begin.month // 12, begin.month % 12 + 1)
        end = datetime(*next_month, 1, tzinfo=UTC)
        found.append((f"audit_events_{begin:%Y_%m}", begin, end))
        begin = end
    return found


def has_months_ahead(url: str) -> bool:
    """Whether the audit's partitions of this month and the next ones are there."""
    names = [name for name, _, _ in months_from(datetime.now(UTC).date(), 1 + MONTHS_AHEAD)]
    with connect(url) as connection:
        row = connection.execute("select count(to_regclass(name)) from unnest(%s::text[]) name", [names]).fetchone()
    return row == (len(names),)
