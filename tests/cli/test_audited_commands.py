"""Every command that changes anything is in the audit, and those that say that they only look change nothing.

`WRITES` names for each command what it leaves there; `READS` are the others. A command that is in neither fails.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import psycopg
import pytest
from click.testing import CliRunner, Result

import distsql
from distsql.cli import main
from tests import postgres
from tests.migrations import snapshots
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[Any, ...]]

# In an order in which each finds what it needs. `{file}` is a lifecycle policy, `{digest}` the image's.
WRITES: Final[dict[str, tuple[str, set[str]]]] = {
    "migrate": ("--to 0025", {"schema.downgrade"}),
    "migrate (again)": ("", {"schema.upgrade"}),
    "tenant create": ("apex", {"tenant.create"}),
    "tenant set": ("apex --quota 10GiB", {"tenant.set"}),
    "tenant visibility": ("apex public", {"tenant.set"}),
    "tenant rename": ("apex vertex", {"tenant.rename"}),
    "tenant suspend": ("vertex", {"tenant.suspend"}),
    "tenant resume": ("vertex", {"tenant.resume"}),
    "tenant delete": ("vertex", {"tenant.delete"}),
    "tenant sql-access": ("acme", {"tenant.sql-access"}),
    "repository set": ("acme/web --sparse on", {"repository.set"}),
    "repository visibility": ("acme/web public", {"repository.set"}),
    "repository rename": ("acme/old acme/new", {"repository.rename"}),
    "repository delete": ("acme/new", {"repository.delete"}),
    "restore": ("acme/new", {"repository.restore"}),
    "tag rollback": ("acme/web:v1", {"tag.put"}),
    "account create": ("acme/ci --kind robot --grant acme/web:pull", {"account.create"}),
    "account rotate": ("acme/ci", {"account.rotate"}),
    "account disable": ("acme/ci", {"account.disable"}),
    "account enable": ("acme/ci", {"account.enable"}),
    "grant add": ("acme/ci acme/web:push", {"grant.add"}),
    "grant remove": ("acme/ci acme/web:push", {"grant.remove"}),
    "account delete": ("acme/ci", {"account.delete"}),
    "key rotate": ("", {"key.rotate"}),
    "retention set": ("acme --keep 'latest 5'", {"retention.set"}),
    "retention import": ("acme/web {file}", {"retention.set"}),
    "retention run": ("acme/web", {"retention.run"}),
    "webhook add": ("acme http://127.0.0.1:9/", {"webhook.add"}),
    "webhook test": ("acme {webhook}", {"webhook.test"}),
    "webhook replay": ("acme {webhook} --since 2020-01-01", {"webhook.replay"}),
    "webhook delete": ("acme {webhook}", {"webhook.delete"}),
    "store add": ("other {store}", {"store.add"}),
    "store move": ("acme other", {"tenant.set"}),
    "collect-garbage": ("", {"garbage.collect"}),
    "verify": ("--repair", {"verify.repair"}),
    "audit export": ("--before 2020-02-01 --to {folder}", {"audit.export"}),
}
READS: Final[dict[str, str]] = {
    "check": "",
    "database-url": "",
    "tenant list": "",
    "tenant show": "acme",
    "repository list": "",
    "repository show": "acme/web",
    "tag list": "acme/web",
    "tag history": "acme/web:v1",
    "deleted list": "acme",
    "account list": "acme",
    "account show": "acme/ann",
    "grant list": "acme/ann",
    "key list": "",
    "report": "tenant-usage",
    "audit roots": "",
    "audit verify": "",
    "retention list": "acme",
    "retention preview": "acme/web",
    "webhook list": "acme",
    "store list": "",
    "store check": "",
}
ELSEWHERE: Final = {
    "serve": "what it is asked for is audited request by request, and that it migrates a catalogue of its own is too",
    "audit seal": "its seals are the record, and an event in the audit would be the next to be sealed",
}


def commands(group: click.Group, *names: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name))


def test_every_command_says_what_it_leaves_in_the_audit() -> None:
    written = {name.partition(" (")[0] for name in WRITES}
    assert sorted([*written, *READS, *ELSEWHERE]) == sorted(commands(main))


@pytest.fixture
def database(postgres_server: str, template_database: str) -> Iterator[str]:
    with postgres.new_database(postgres_server, template=template_database) as url:
        yield url


@pytest.fixture
def options(database: str, tmp_path: Path) -> list[str]:
    """What picks a catalogue of its own with an image, for it is migrated too."""
    storage = (tmp_path / "bytes").as_uri()

    async def push() -> None:
        async with distsql.connect(database, storage) as namespace:
            for layer in (b"one", b"two"):
                await push_image(namespace.repository("acme/web"), layer, tags=["v1"])
            await push_image(namespace.repository("acme/old"), b"old", tags=["v1"])

    asyncio.run(push())
    return ["--database-url", database, "--storage", storage]


def run(options: list[str], command: str, arguments: str, *, statuses: tuple[int, ...] = (0,)) -> Result:
    found: click.Command = main
    names = command.split()
    for name in names:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    takes_storage = any(parameter.name == "storage" for parameter in found.params)
    result = CliRunner().invoke(main, [*names, *shlex.split(arguments), *(options if takes_storage else options[:2])])
    assert result.exit_code in statuses, (command, result.output, result.stderr)
    return result


def test_what_changes_anything_is_audited_and_what_only_looks_changes_nothing(
    options: list[str], tmp_path: Path
) -> None:
    (tmp_path / "policy.json").write_text(
        '{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", '
        '"countNumber": 100}, "action": {"type": "expire"}}]}'
    )
    places = {"file": tmp_path / "policy.json", "store": (tmp_path / "other").as_uri(), "folder": tmp_path}
    run(options, "account create", "acme/ann --kind person --grant acme/web:pull")
    with psycopg.connect(options[1], autocommit=True) as sql:
        age(sql)
        run(options, "audit seal", "")
        seen = told(sql)
        for command, (arguments, expected) in WRITES.items():
            webhook = max((number for (number,) in sql.execute("select id from webhooks")), default=0)
            # Nobody listens where the test is sent to.
            statuses = (1,) if command == "webhook test" else (0,)
            run(options, command.partition(" (")[0], arguments.format(webhook=webhook, **places), statuses=statuses)
            new = told(sql) - seen
            assert {action for _, _, action, _ in new} >= expected, command
            assert all(actor.startswith("cli:") for *_, actor in new), command
            seen |= new
        for command, arguments in READS.items():
            before = snapshots.rows_over(sql)
            run(options, command, arguments)
            assert snapshots.rows_over(sql) == before, command


def told(sql: Sql) -> set[tuple[Any, ...]]:
    return set(sql.execute("select at, id, action, actor from audit_events"))


def age(sql: Sql) -> None:
    """There is a month that can be exported."""
    sql.execute("create table audit_events_2020_01 (like audit_events including defaults including constraints)")
    sql.execute(
        "alter table audit_events attach partition audit_events_2020_01 "
        "for values from ('2020-01-01 00:00+00') to ('2020-02-01 00:00+00')"
    )
    sql.execute(
        "insert into audit_events (tenant_id, at, id, actor, action) "
        "values (0, '2020-01-02 00:00+00', 1, 'cli:x', 'test')"
    )
