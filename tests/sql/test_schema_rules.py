"""The rules of docs/architecture for every table that there is, now and later: read from PostgreSQL's own catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

# What belongs to nobody: the tenants themselves, and alembic's own table.
NOT_OF_A_TENANT = {"tenants", "alembic_version"}
# Text that people name things with, and that is listed in order.
NAMES = {"name", "path", "key", "repository"}


@pytest.fixture(scope="module")
def catalogue(worker_database: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(worker_database, autocommit=True) as connection:
        yield connection


Catalogue = psycopg.Connection[tuple[Any, ...]]

_TABLES = """
    select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
"""


def tables(catalogue: Catalogue) -> set[str]:
    return {name for (name,) in catalogue.execute(_TABLES)}


def tenant_tables(catalogue: Catalogue) -> set[str]:
    return tables(catalogue) - NOT_OF_A_TENANT


def columns(catalogue: Catalogue) -> list[tuple[str, str, str, bool, str | None, str | None]]:
    """Table, name, type, whether it is not null, collation, comment."""
    return catalogue.execute(
        "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname, "
        "col_description(c.oid, a.attnum) "
        "from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_collation l on l.oid = a.attcollation "
        f"where a.attnum > 0 and not a.attisdropped and c.relname in ({_TABLES}) "
        "and c.relnamespace = 'public'::regnamespace order by c.relname, a.attnum"
    ).fetchall()


def indexes(catalogue: Catalogue) -> list[tuple[str, str, bool, list[str], str | None]]:
    """Table, name, whether it is unique, columns, condition; also of partitions."""
    return catalogue.execute(
        "select c.relname, i.relname, x.indisunique, "
        "array(select coalesce(a.attname, '') from unnest(x.indkey::int[]) with ordinality k (attnum, at) "
        "left join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum order by k.at)::text[], "
        "pg_get_expr(x.indpred, x.indrelid) "
        "from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid "
        "where c.relnamespace = 'public'::regnamespace order by 1, 2"
    ).fetchall()


def foreign_keys(catalogue: Catalogue) -> list[tuple[str, str, list[str], str, list[str]]]:
    """Table, name, columns, the table referred to, its columns."""
    names = (
        "array(select a.attname from unnest({key}) with ordinality k (attnum, at) "
        "join pg_attribute a on a.attrelid = {table} and a.attnum = k.attnum order by k.at)::text[]"
    )
    return catalogue.execute(
        f"select f.conrelid::regclass::text, f.conname, {names.format(key='f.conkey', table='f.conrelid')}, "
        f"f.confrelid::regclass::text, {names.format(key='f.confkey', table='f.confrelid')} "
        "from pg_constraint f where f.contype = 'f' and f.connamespace = 'public'::regnamespace order by 1, 2"
    ).fetchall()


def test_there_are_tables_to_look_at(catalogue: Catalogue) -> None:
    assert {"tags", "manifests", "audit_events", *NOT_OF_A_TENANT} <= tables(catalogue)
    assert len(foreign_keys(catalogue)) > 5


def test_every_table_has_its_tenant(catalogue: Catalogue) -> None:
    found = {
        table: (kind, never_null) for table, name, kind, never_null, _, _ in columns(catalogue) if name == "tenant_id"
    }
    assert found == dict.fromkeys(tenant_tables(catalogue), ("bigint", True))


def test_every_table_has_a_primary_key(catalogue: Catalogue) -> None:
    with_key = catalogue.execute("select conrelid::regclass::text from pg_constraint where contype = 'p'").fetchall()
    assert tables(catalogue) <= {name for (name,) in with_key}


def test_every_foreign_key_has_an_index_on_its_own_side(catalogue: Catalogue) -> None:
    """Else deleting what it refers to reads the whole table."""
    by_table = defaultdict(list)
    for table, _, _, key, condition in indexes(catalogue):
        by_table[table].append((key, condition))
    for table, name, own, _, _ in foreign_keys(catalogue):
        # A partial index will do where it leaves out rows without a value: those refer to nothing.
        allowed = {None, *(f"({column} IS NOT NULL)" for column in own)}
        assert any(set(key[: len(own)]) == set(own) and condition in allowed for key, condition in by_table[table]), (
            f"{name}: no index of {table} begins with {own}"
        )


def test_columns_have_the_types_of_their_names(catalogue: Catalogue) -> None:
    wrong = []
    for table, name, kind, _, collation, _ in columns(catalogue):
        if table == "alembic_version":
            continue
        expected = kind
        if name == "digest" or name.endswith("_digest"):
            expected = "bytea"
        elif name == "id" or name.endswith("_id"):
            expected = "text" if name in {"request_id", "token_id"} else "bigint"
        elif name == "at" or name.endswith("_at") or name.startswith("valid_"):
            expected = "timestamp with time zone"
        elif name == "length" or name.endswith("_bytes"):
            expected = "bigint"
        never = {"timestamp without time zone", "numeric", "json", "character varying"}
        if kind != expected or kind.partition("(")[0] in never:
            wrong.append((table, name, kind))
        if kind == "text" and name in NAMES and collation != "C":
            wrong.append((table, name, f"collation {collation}"))
    assert wrong == []


def test_there_are_no_enums_domains_or_extensions(catalogue: Catalogue) -> None:
    kinds = catalogue.execute(
        "select typname from pg_type where typnamespace = 'public'::regnamespace and typtype in ('e', 'd')"
    ).fetchall()
    assert kinds == []
    assert catalogue.execute("select extname from pg_extension").fetchall() == [("plpgsql",)]


def test_closed_sets_are_checked(catalogue: Catalogue) -> None:
    """State, role, kind and outcome take only what the code knows."""
    checks = [
        text for (text,) in catalogue.execute("select pg_get_constraintdef(oid) from pg_constraint where contype = 'c'")
    ]
    for column in ("state", "role", "kind", "outcome"):
        assert any(f"{column} = ANY" in check for check in checks), column


def test_no_invariant_lives_in_a_trigger_or_a_rule(catalogue: Catalogue) -> None:
    assert catalogue.execute("select tgname from pg_trigger where not tgisinternal").fetchall() == []
    rules = catalogue.execute("select rulename from pg_rules where schemaname = 'public'").fetchall()
    assert rules == []


def test_partitions_are_one_level_deep(catalogue: Catalogue) -> None:
    deeper = catalogue.execute("select relname from pg_class where relispartition and relkind = 'p'").fetchall()
    assert deeper == []
    assert catalogue.execute(
        "select relname from pg_class where relkind = 'p' and relnamespace = 'public'::regnamespace"
    ).fetchall() == [("audit_events",)]


def test_a_live_tag_is_unique(catalogue: Catalogue) -> None:
    assert (
        "tags",
        "tags_live_key",
        True,
        ["tenant_id", "repository_id", "name"],
        "(valid_to IS NULL)",
    ) in indexes(catalogue)


def test_constraints_and_indexes_are_named_after_table_and_columns(catalogue: Catalogue) -> None:
    """Errors and migrations name them; names that PostgreSQL made up change."""
    endings = {"p": "_pkey", "u": "_key", "f": "_fkey", "c": "_check"}
    rows = catalogue.execute(
        "select r.relname, c.conname, c.contype::text from pg_constraint c join pg_class r on r.oid = c.conrelid "
        "where c.connamespace = 'public'::regnamespace and c.contype in ('p', 'u', 'f', 'c') and not r.relispartition "
        "and r.relname <> 'alembic_version'"
    ).fetchall()
    assert [name for table, name, kind in rows if not (name.startswith(table) and name.endswith(endings[kind]))] == []
    for table, name, _, _, _ in indexes(catalogue):
        assert name.startswith(table), name
        assert name.endswith(("_pkey", "_key", "_idx", "_pkc")), name


def test_every_table_and_column_says_what_it_is(catalogue: Catalogue) -> None:
    silent = [
        name
        for name, comment in catalogue.execute(
            f"select relname, obj_description(oid, 'pg_class') from pg_class where relname in ({_TABLES})"
        )
        if name != "alembic_version" and not comment
    ]
    silent += [
        f"{table}.{name}"
        for table, name, *_, comment in columns(catalogue)
        if table != "alembic_version" and not comment
    ]
    assert silent == []


def test_payloads_are_kept_as_they_are(catalogue: Catalogue) -> None:
    """Never compressed, and in the row itself up to a page: they are read whole, and often."""
    [(storage,)] = catalogue.execute(
        "select attstorage::text from pg_attribute where attrelid = 'manifests'::regclass and attname = 'payload'"
    ).fetchall()
    [(options,)] = catalogue.execute("select reloptions from pg_class where oid = 'manifests'::regclass").fetchall()
    assert storage == "e"
    assert "toast_tuple_target=8160" in options


def test_digests_can_be_read_as_clients_write_them(catalogue: Catalogue) -> None:
    for packed, text in (("01" + "ab" * 32, "sha256:" + "ab" * 32), ("02" + "cd" * 64, "sha512:" + "cd" * 64)):
        assert catalogue.execute("select digest_text(%s)", (bytes.fromhex(packed),)).fetchall() == [(text,)]
