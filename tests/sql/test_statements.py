from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import pytest
from sqlalchemy import BigInteger, LargeBinary, Select, Text, literal_column, select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

import distsql.sql
from distsql.oci.digest import Digest
from distsql.sql import deletions, docs, health, statements
from distsql.sql.statements import Nothing, Statement, registered, statement
from tests.sql.rows import digest

docs.load_statements()


def modules() -> list[object]:
    return [
        importlib.import_module(f"distsql.sql.{found.name}") for found in pkgutil.iter_modules(distsql.sql.__path__)
    ]


def test_a_statement_is_called_after_its_constant() -> None:
    constants = {
        value.name: name
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, Statement) and not name.startswith("_")
    }
    assert {name: constant for name, constant in constants.items() if constant != name.upper()} == {}
    # These differ in nothing but the table.
    purging = {each.name for each in (*deletions.PURGED_FIRST, *deletions.PURGED_LAST)}
    purging |= {each.name for each in deletions.PURGE_TENANT}
    # For several tenants at once, under the same constant.
    across = {each.across.name for each in registered.values() if each.across is not None}
    assert [name for name in registered if name not in constants and name not in purging | across] == []


def test_every_statement_says_what_it_is_for() -> None:
    assert [each.name for each in registered.values() if not each.purpose.endswith(".")] == []


def test_two_statements_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="ping"):
        statement("ping", "Again.", select(literal_column("1")), health.PingRow)


def test_no_statement_offers_offsets() -> None:
    """Paging is by key: an offset reads what it skips."""
    assert [each.name for each in registered.values() if " OFFSET " in each.sql.upper()] == []


def test_digests_in_rows_are_digests() -> None:
    make = registered["find_layer"].make_row
    packed = digest(1).packed
    row = make((packed, 1, "key", None))
    assert row.digest == Digest(packed)
    assert isinstance(row.digest, Digest)


def test_a_row_without_digest_has_none() -> None:
    make = registered["list_referrers"].make_row
    assert make((None, "type", 1, None, None, False)).digest is None


def test_statements_that_give_nothing_return_nothing() -> None:
    """SQLAlchemy would let an insert return its new key, which costs and is never read."""
    quiet = [each for each in registered.values() if getattr(each.make_row, "__self__", None) is Nothing]
    assert len(quiet) > 10
    assert [each.name for each in quiet if "RETURNING" in each.sql.rpartition(")")[2]] == []


def test_parameters_have_types() -> None:
    assert isinstance(statements.parameter("x", LargeBinary()).type, LargeBinary)


def test_a_statement_is_written_when_it_is_first_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    number = statements._numbered

    def watched(sql: str) -> tuple[bytes, tuple[str, ...]]:
        written.append(sql)
        return number(sql)

    monkeypatch.setattr(statements, "_numbered", watched)
    made = statement("test_later", "Only for this test.", select(literal_column("1").label("one")), health.PingRow)
    del registered["test_later"]
    assert (made.name, written) == ("test_later", [])
    assert [made.sql, made.numbered_sql, made.order, made.sql] == ["SELECT 1 AS one", b"SELECT 1 AS one", (), made.sql]
    assert written == ["SELECT 1 AS one"]
    with pytest.raises(AttributeError):
        _ = made.nothing_of_a_statement  # type: ignore[attr-defined]


def test_a_parameter_has_one_number_wherever_it_stands() -> None:
    number, text = statements.parameter("number", BigInteger()), statements.parameter("text", Text())
    clause: Select[Any] = select(text, number + number % literal_column("2"), literal_column("'100 %'"))
    made = statement("test_numbers", "Only for this test.", clause, Nothing)
    del registered["test_numbers"]
    assert made.order == ("text", "number")
    dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    assert made.numbered_sql.decode() == str(clause.compile(dialect=dialect))


def test_every_statement_has_all_its_parameters_in_both_forms() -> None:
    for each in registered.values():
        assert set(each.order) == set(re.findall(r"%\((\w+)\)s", each.sql)), each.name
        assert set(re.findall(rb"\$(\d+)", each.numbered_sql)) == {b"%d" % (at + 1) for at in range(len(each.order))}
