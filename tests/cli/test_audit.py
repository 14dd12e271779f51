"""`distsql audit`: as an operator types it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import conninfo_to_dict

from distsql.cli import main
from tests import postgres

Sql = psycopg.Connection[tuple[object, ...]]
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def january(postgres_server: str, template_database: str) -> Iterator[str]:
    """The name of a catalogue to copy, with events of two tenants from the end of January until today."""
    with postgres.new_database(postgres_server, template=template_database) as url:
        with psycopg.connect(url) as sql:
            sql.execute("insert into tenants (name) values ('acme')")
            sql.execute(
                "create table audit_events_2025_01 (like audit_events including defaults including constraints)"
            )
            sql.execute(
                "alter table audit_events attach partition audit_events_2025_01 "
                "for values from ('2025-01-01 00:00+00') to ('2025-02-01 00:00+00')"
            )
            sql.execute(
                "insert into audit_events (tenant_id, at, id, actor, action, user_agent) "
                "select tenant.id, '2025-01-30 12:00+00'::timestamptz + n * interval '3 hours', n, 'ann', 'test', %s "
                "from (select id from tenants where id = 0 or name = 'acme') tenant, generate_series(1, 20) n",
                ['an "agent"\n\\ ü'],
            )
        yield str(conninfo_to_dict(url)["dbname"])


@pytest.fixture
def url(postgres_server: str, january: str) -> Iterator[str]:
    """A catalogue of its own: months come and go."""
    with postgres.new_database(postgres_server, template=january) as url:
        yield url


@pytest.fixture
def audit(url: str, tmp_path: Path) -> Run:
    def run(*arguments: object, status: int = 0) -> Result:
        options = ["--database-url", url, "--storage", (tmp_path / "bytes").as_uri()]
        result = CliRunner().invoke(main, ["audit", *map(str, arguments), *options])
        assert result.exit_code == status, result.output
        return result

    return run


def months(url: str) -> int:
    with psycopg.connect(url) as sql:
        return len(sql.execute("select 1 from pg_class where relname = 'audit_events_2025_01'").fetchall())


def test_seal_verify_and_roots(audit: Run, url: str, tmp_path: Path) -> None:
    assert audit("seal").output == "40 events were sealed\n"
    assert audit("verify").output == "the audit is as it was sealed\n"
    roots = tmp_path / "roots"
    roots.write_text(audit("roots", "--json").output)
    assert [json.loads(line)["tenant"] for line in roots.read_text().splitlines()][1:] == ["acme"]
    assert "acme" in audit("roots").output
    audit("verify", "--roots", roots)
    with psycopg.connect(url) as sql:
        sql.execute("update audit_events set actor = 'eve' where tenant_id > 0 and id = 1")
    [finding] = json.loads(audit("verify", "--json", status=1).output)
    assert (finding["number"], finding["kind"]) == (1, "altered")
    assert "altered" in audit("verify", "--tenant", "acme", status=1).output
    with psycopg.connect(url) as sql:
        sql.execute("delete from audit_seals where tenant_id > 0")
    audit("seal")
    audit("verify")
    assert "rewritten" in audit("verify", "--roots", roots, status=1).output
    roots.write_text("nonsense")
    assert "no roots" in audit("verify", "--roots", roots, status=2).output


def test_export_writes_checks_and_drops(audit: Run, url: str, tmp_path: Path) -> None:
    assert "not sealed yet" in audit("export", "--before", "2025-03-01", "--to", tmp_path, status=1).output
    audit("seal")
    assert "no month that old" in audit("export", "--before", "2025-01-31", "--to", tmp_path).output
    audit("export", "--before", "2025-03-01", "--to", tmp_path, "--keep")
    assert months(url) == 1
    told = audit("export", "--before", "2025-03-01", "--to", tmp_path).output
    file = tmp_path / "audit-2025-01.jsonl"
    assert str(file) in told
    assert months(url) == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    # From 15:00 of January 30th until the month is over; the others are of February.
    assert len(events) == 2 * 11
    assert events[0]["at"] == "2025-01-30T15:00:00.000000Z"
    assert events[0]["user_agent"] == 'an "agent"\n\\ ü'
    with psycopg.connect(url) as sql:
        assert sql.execute("select count(*) from audit_events where action = 'test'").fetchall() == [(0,)]
        exported = "select reference from audit_events where action = 'audit.export' and reference not like 'sha256%'"
        assert {name for (name,) in sql.execute(exported)} == {
            f"audit{name}" for month in ("01", "02") for name in (f"-2025-{month}.jsonl", f"_events_2025_{month}")
        }
    audit("verify")
    audit("verify", file, tmp_path / "audit-2025-02.jsonl")
    audit("seal")
    audit("verify")


def test_months_that_nobody_made_ahead_are_exported_too(audit: Run, url: str, tmp_path: Path) -> None:
    """Their events are in the partition of the rest, with others that aren't old enough, and stay there."""
    with psycopg.connect(url) as sql:
        sql.execute(
            "insert into audit_events (tenant_id, at, id, actor, action) "
            "select id, at, 1, 'ann', 'test' from tenants, unnest("
            "array['1999-12-31 23:59:59.999999+00', '2025-03-01 00:00+00']::timestamptz[]) at "
            "where name = 'acme'"
        )
    audit("seal")
    audit("export", "--before", "2025-03-31", "--to", tmp_path)
    names = ("1999-12", "2025-01", "2025-02")
    files = [tmp_path / f"audit-{name}.jsonl" for name in names]
    assert sorted(tmp_path.glob("*.*")) == files
    assert [len(file.read_text().splitlines()) for file in files] == [1, 22, 18]
    with psycopg.connect(url) as sql:
        left = sql.execute(
            "select at::text, tableoid::regclass::text from audit_events where action = 'test'"
        ).fetchall()
    assert left == [("2025-03-01 00:00:00+00", "audit_events_rest")]
    audit("verify", *files)
    audit("verify")
    audit("export", "--before", "2025-04-01", "--to", tmp_path)
    assert len((tmp_path / "audit-2025-03.jsonl").read_text().splitlines()) == 1
    assert "no month that old" in audit("export", "--before", "2025-04-01", "--to", tmp_path).output


@pytest.mark.parametrize("damage", ["altered", "missing", "added", "exchanged"])
def test_a_damaged_file_is_found(audit: Run, tmp_path: Path, damage: str) -> None:
    audit("seal")
    audit("export", "--before", "2025-03-01", "--to", tmp_path)
    file = tmp_path / "audit-2025-01.jsonl"
    lines = file.read_text().splitlines()
    if damage == "altered":
        lines[3] = lines[3].replace('"ann"', '"eve"')
    elif damage == "missing":
        del lines[3]
    elif damage == "added":
        lines.insert(3, lines[3])
    else:
        lines[3], lines[4] = lines[4], lines[3]
    file.write_text("\n".join(lines) + "\n")
    findings = json.loads(audit("verify", file, "--json", status=1).output)
    assert {finding["kind"] for finding in findings} == {damage if damage != "exchanged" else "altered"}


def test_what_is_not_as_it_was_sealed_is_not_dropped(audit: Run, url: str, tmp_path: Path) -> None:
    """Nor does it take the name of an earlier file, which may be all that there is."""
    audit("seal")
    audit("export", "--before", "2025-02-01", "--to", tmp_path, "--keep")
    file = tmp_path / "audit-2025-01.jsonl"
    kept = file.read_text()
    with psycopg.connect(url) as sql:
        sql.execute("update audit_events set actor = 'eve' where tenant_id > 0 and id = 1")
    assert "nothing was dropped" in audit("export", "--before", "2025-03-01", "--to", tmp_path, status=1).output
    assert months(url) == 1
    assert file.read_text() == kept


def test_dates_are_read(audit: Run) -> None:
    assert "write a date" in audit("export", "--before", "yesterday", status=2).output
