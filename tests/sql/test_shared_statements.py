"""Reads of several tenants in one statement, which sets each in its turn: none sees, gets or feels anything of another.

What the policies hide is proved with the statements' own conditions taken out, and the other way round.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from sqlalchemy import BigInteger, Select, TableValuedAlias, Text, literal_column, select

from distsql.errors import TenantSuspendedError
from distsql.oci.names import RepositoryName
from distsql.sql import health, manifests
from distsql.sql.database import SERVE_ROLE, Database
from distsql.sql.gathering import Gathering
from distsql.sql.pipeline import Pipeline, Question
from distsql.sql.statements import ASKER, Statement, asked_statement, named_repository, registered
from distsql.sql.tenant_setting import Who

Sql = psycopg.Connection[tuple[object, ...]]
TENANTS: Final = range(1, 31)
_FILL: Final = """
insert into tenants (id, name) select n, 'tenant-' || n from generate_series(1, 30) n;
insert into repositories (tenant_id, id, path) select n, n, 'web' from generate_series(1, 30) n;
insert into manifests (tenant_id, repository_id, digest, media_type, length, payload, pushed_by)
    select n, n, '\\x01'::bytea || sha256('same'), 'text/plain', length(n::text), convert_to(n::text, 'UTF8'), 'ann'
    from generate_series(1, 30) n;
insert into tags (tenant_id, repository_id, name, digest, valid_from, actor)
    select tenant_id, repository_id, 'latest', digest, now(), 'ann' from manifests
"""


class Seen(NamedTuple):
    """What an asker sees: its reciprocal, its repository, and as whom."""

    value: int
    repository_id: int
    who: str


def _write(asked: TableValuedAlias) -> Select[Any]:
    joined, repository = named_repository(asked)
    value = literal_column("1000 / asked.value", BigInteger()).label("value")
    who = literal_column("current_setting('app.tenant_id', true)", Text()).label("who")
    return select(asked.c[ASKER], value, repository.c.id, who).select_from(joined)


SEE: Final[Statement[Seen]] = asked_statement(
    "test_see", "only for these tests", _write, Seen, asking={"value": BigInteger()}
)
ACROSS: Final = registered.pop("test_see_across_tenants")
del registered["test_see"]


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, int]]]:
    """Of each flush, the statements, and for how many each asked."""
    sent: list[list[tuple[str, int]]] = []
    ask = Pipeline.ask

    def counted(self: Pipeline, questions: Sequence[Question]) -> None:
        sent.append([(each.statement.name, len(each.parameters.get("paths", ()))) for each in questions])
        ask(self, questions)

    monkeypatch.setattr(Pipeline, "ask", counted)
    return sent


@pytest.fixture(params=["none", "prepared", "transaction"])
async def serving(database_url: str, sql: Sql, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """As a server has it: alone with PostgreSQL, and as behind poolers."""
    for statement in _FILL.split(";\n"):
        sql.execute(statement.encode())
    opened = Database(database_url, role=SERVE_ROLE, pooler=request.param)
    # Else what is asked first goes before the others are there.
    await asyncio.gather(*(opened.read(health.ping) for _ in range(4)))
    yield opened
    await opened.close()


async def see(database: Database, who: Who, tenant: int, value: int = 1) -> list[tuple[Any, ...]]:
    """What is seen as the one who asks, of a tenant by its name."""
    parameters = {"tenant": f"tenant-{tenant}", "path": "web", "only_id": None, "value": value}
    return await database._reads.fetch(SEE, parameters, who=who)


async def pull(database: Database, who: int, tenant: int) -> bytes | None:
    name = RepositoryName(f"tenant-{tenant}", "web")
    row = await database.of(name.tenant, who).pull(manifests.find_tagged_manifest, name, "latest")
    return None if row is None else row.payload


async def test_each_of_many_gets_its_own_and_nothing_by_anothers_name(
    serving: Database, flushes: list[list[tuple[str, int]]]
) -> None:
    asked = [(who, tenant) for who in TENANTS for tenant in (who, 1 + who % 30, who)]
    found = await asyncio.gather(*(pull(serving, *each) for each in asked))
    assert found == [str(who).encode() if who == tenant else None for who, tenant in asked]
    assert ("find_tagged_manifest_across_tenants", 16) in [one for flush in flushes for one in flush]
    assert max(map(len, flushes)) == 1


async def test_nobodys_and_a_names_reads_beside_them_see_what_they_should(
    serving: Database, flushes: list[list[tuple[str, int]]]
) -> None:
    mixed: list[tuple[Who, int]] = [(1, 1), (None, 1), (2, 2), ("tenant-3", 3), (4, 4), (None, 4), ("tenant-3", 4)]
    known = 3
    for _ in range(3):
        flushes.clear()
        found = await asyncio.gather(*(see(serving, *each) for each in mixed))
        assert found == [
            [] if who is None or who not in {tenant, f"tenant-{tenant}"} else [(1000, tenant, str(tenant))]
            for who, tenant in mixed
        ]
        # Who is told by a name of which nothing is known yet is looked up apart.
        assert ("test_see_across_tenants", known) in [one for flush in flushes for one in flush]
        known = 5
        # The setting doesn't outlive them, on either connection.
        for who, tenant in ((None, 4), (5, 5), ("tenant-6", 6), (5, 4)):
            expected = [(1000, tenant, str(tenant))] if who in {tenant, f"tenant-{tenant}"} else []
            assert await asyncio.gather(*(see(serving, who, tenant) for _ in range(3))) == [expected] * 3


async def test_one_tenants_error_is_not_told_the_others(
    serving: Database, flushes: list[list[tuple[str, int]]]
) -> None:
    values = [(1, 1), (2, 0), (3, 4), (4, 0), (5, 5), (3, 2)]
    answers = await asyncio.gather(*(see(serving, who, who, value) for who, value in values), return_exceptions=True)
    for (who, value), answer in zip(values, answers, strict=True):
        if value:
            assert answer == [(1000 // value, who, str(who))]
        else:
            assert isinstance(answer, psycopg.errors.DivisionByZero)
    assert [one for flush in flushes for one in flush].count(("test_see_across_tenants", 6)) == 1
    later = await asyncio.gather(*(see(serving, who, who) for who in (2, 4)))
    assert later == [[(1000, 2, "2")], [(1000, 4, "4")]]


async def test_a_lost_connection_is_told_to_all_who_were_asked(serving: Database) -> None:
    asked = [asyncio.ensure_future(see(serving, who, who)) for who in TENANTS[:5]]
    async with asyncio.timeout(5):
        while not any(map(len, serving._pipelines)):
            await asyncio.sleep(0)  # sent, and not answered
    for pipeline in serving._pipelines:
        pipeline.forget()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {psycopg.OperationalError}
    found = await asyncio.gather(*(pull(serving, who, who) for who in TENANTS))
    assert found == [str(who).encode() for who in TENANTS]


async def test_one_that_can_not_be_asked_is_told_and_disturbs_nobody(database_url: str) -> None:
    database = Database(database_url)
    gathering = Gathering(database._pipelines)
    parameters = {"tenant": "x", "path": "web", "only_id": None}
    whole = [
        gathering.fetch(SEE, {**parameters, "value": value}, who=who) for who, value in ((1, 1), (2, "no"), (3, 1))
    ]
    answers = await asyncio.gather(*whole, return_exceptions=True)
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
    await database.close()


# -- who is told by a name --------------------------------------------------------------------------------------------


async def named(database: Database, *tenants: int) -> list[object]:
    """The payloads that are found as tenants that are told by their names, or the kinds of errors."""
    names = [RepositoryName(f"tenant-{tenant}", "web") for tenant in tenants]
    pulls = (database.of(name.tenant).pull(manifests.find_tagged_manifest, name, "latest") for name in names)
    answers = await asyncio.gather(*pulls, return_exceptions=True)
    return [answer.payload if isinstance(answer, manifests.ManifestRow) else type(answer) for answer in answers]


async def test_names_that_were_looked_up_share_a_statement(
    serving: Database, flushes: list[list[tuple[str, int]]]
) -> None:
    for _ in range(2):
        flushes.clear()
        assert await named(serving, *TENANTS) == [str(tenant).encode() for tenant in TENANTS]
    assert flushes == [[("find_tagged_manifest_across_tenants", 16)], [("find_tagged_manifest_across_tenants", 14)]]
    assert await named(serving, 1, 99, 2, 99) == [b"1", type(None), b"2", type(None)]


async def test_a_name_means_whom_it_means_now(serving: Database, sql: Sql) -> None:
    """However lately it was looked up: given to another tenant, to nobody, or to a tenant that is suspended."""
    assert await named(serving, 1, 2, 3, 4) == [b"1", b"2", b"3", b"4"]
    sql.execute("update tenants set name = 'moved' where id = 1; update tenants set name = 'tenant-1' where id = 5")
    sql.execute("update tenants set name = 'gone' where id = 2; update tenants set suspended_at = now() where id = 3")
    told = [b"5", type(None), TenantSuspendedError, b"4"]
    assert await named(serving, 1, 2, 3, 4) == told
    assert await named(serving, 1, 2, 3, 4) == told
    sql.execute("update tenants set name = 'tenant-2' where id = 2; update tenants set suspended_at = null")
    # One that is alone may be shown as it was looked up a second ago.
    assert await named(serving, 4, 2, 3, 1) == [b"4", b"2", b"3", b"5"]


async def test_who_is_known_by_its_id_is_not_asked_whether_it_is_suspended(serving: Database, sql: Sql) -> None:
    """Of accounts that is known elsewhere (`distsql.registry.account_states`), and refused with a reason."""
    sql.execute("update tenants set suspended_at = now() where id = 3")
    assert await asyncio.gather(*(pull(serving, who, who) for who in (2, 3, 4))) == [b"2", b"3", b"4"]


# -- what protects whom -----------------------------------------------------------------------------------------------

_CONDITIONS: Final = "tenants.id = CAST(setting.who AS BIGINT) AND tenants.name = asked.tenant"
_SETTING: Final = "set_config('app.tenant_id', CAST(asked.who AS TEXT), true)"
_NONE: Final = [None] * 4


def run(sql: Sql, text: str) -> list[tuple[object, ...]]:
    """Asks as the serving role: as the tenants 1, 2 and 3 about themselves, and as the second about the first."""
    whos, names = [1, 2, 3, 2], [f"tenant-{n}" for n in (1, 2, 3, 1)]
    given = {"whos": whos, "by_names": [True, False, True, False], "tenants": names, "paths": ["web"] * 4}
    given |= {"only_ids": _NONE, "values": [1] * 4}
    with sql.transaction(force_rollback=True):
        sql.execute(f"set local role {SERVE_ROLE}")
        return sql.execute(text.encode(), given).fetchall()


def without(text: str, part: str, instead: str) -> str:
    assert text.count(part) == 1
    return text.replace(part, instead)


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("serving", ["none"], indirect=True)
class TestEachGuard:
    def test_both_together(self, sql: Sql) -> None:
        assert [row[2] for row in run(sql, ACROSS.sql)] == [1, 2, 3]

    def test_policies_alone_show_each_asker_its_own(self, sql: Sql) -> None:
        text = without(ACROSS.sql, _CONDITIONS, "setting.who is not null")
        assert [(row[0], row[2]) for row in run(sql, text)] == [(1, 1), (2, 2), (3, 3), (4, 2)]

    @pytest.mark.parametrize("setting", ["asked.who::text", "set_config('app.tenant_id', '', true) || asked.who"])
    def test_without_the_setting_nothing_is_seen(self, sql: Sql, setting: str) -> None:
        assert run(sql, without(ACROSS.sql, _SETTING, setting)) == []

    def test_a_setting_of_another_shows_neither_of_them(self, sql: Sql) -> None:
        """As if it had been set too early, or too late."""
        for other in ("asked.who + 1", "1 + mod(asked.who, 3)", "2"):
            told = f"left(set_config('app.tenant_id', ({other})::text, true), 0) || asked.who"
            seen = [row[:1] for row in run(sql, without(ACROSS.sql, _SETTING, told))]
            assert seen == ([(2,)] if other == "2" else []), other


async def test_a_tenant_that_was_renamed_is_found_by_its_new_name_only(serving: Database, sql: Sql) -> None:
    sql.execute("update tenants set name = 'moved' where id = 7")
    name = RepositoryName("moved", "web")
    pulls = (serving.of(name.tenant, 7).pull(manifests.find_tagged_manifest, name, "latest"), pull(serving, 7, 7))
    row, gone, other = await asyncio.gather(*pulls, pull(serving, 8, 8))
    assert (row is not None and row.payload, gone, other) == (b"7", None, b"8")
