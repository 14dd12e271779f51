"""``distsql retention``: what tenants and repositories keep, and what goes by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_rows, print_table
from distsql.errors import SettingsError
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.retention import Decision, NamedPolicy, Outcome, Retention
    from distsql.registry.retention_rules import Policy


@click.group()
def retention() -> None:
    """Say what tenants and repositories keep, and let the rest go."""


def _run(settings: Settings, work: Callable[[Retention], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever the work gives
    from distsql.registry.retention import Retention

    async def with_retention(registry: Registry) -> object:
        return await work(Retention(registry.backend, caller()))

    return run(settings, with_retention)


@retention.command("list")
@click.argument("tenant", required=False)
@settings_options(storage=True)
@as_json
def list_policies(settings: Settings, tenant: str | None, *, as_json: bool) -> None:
    """Print the policies of all tenants and repositories, or of one TENANT."""
    rows = [row for each in _run(settings, lambda found: found.all(tenant)) for row in _rules(each)]
    print_rows(rows, as_json=as_json)


def _rules(found: NamedPolicy) -> list[dict[str, Any]]:
    return [
        {
            "name": found.name,
            "priority": priority,
            "action": rule.action,
            "rule": str(rule),
            "kind": found.policy.kind,
        }
        for priority, rule in found.policy.rules.items()
    ]


@retention.command("set")
@click.argument("name")
@click.option("--keep", multiple=True, metavar="RULE", help="Keep these, whatever else is said; may be repeated.")
@click.option("--delete", multiple=True, metavar="RULE", help="Delete these; may be repeated.")
@click.option("--none", "nothing", is_flag=True, help="No policy any more: nothing goes by itself.")
@settings_options(storage=True)
def set_policy(settings: Settings, name: str, *, keep: tuple[str, ...], delete: tuple[str, ...], nothing: bool) -> None:
    """Give a tenant, or one repository (tenant/repository), a policy instead of its earlier one.

    A RULE says what it is about, and a criterion: 'v*,release-?: latest 10'. It is about tags by their patterns, about
    untagged images ('untagged: ...'), both ('any: ...'), or all tags if it doesn't say. To keep: all, latest N, pushed
    within 30d, pulled within 30d, signed. To delete: all, beyond N, pushed before 30d, pulled before 30d, unsigned.
    The rules of a repository and of its tenant hold together; what one of them keeps is kept, and what none deletes
    too. Immutable tags stay. Try it by `distsql retention preview`.
    """
    from distsql.registry.retention_rules import own_policy

    if nothing == bool(keep or delete):
        raise SettingsError("Give --keep and --delete rules, or --none")
    _set(settings, name, lambda: None if nothing else own_policy(keep, delete))


@retention.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@settings_options(storage=True)
def import_policy(settings: Settings, name: str, file: Path) -> None:
    """Give a tenant or repository the policy of a FILE: lifecycle policy JSON of Amazon's registry (ECR); - is stdin.

    It judges images with all their tags, as there: by the first of its rules that selects an image. What can't be
    expressed is refused, with the reason.
    """
    from distsql.registry.ecr_policies import import_ecr

    def read() -> Policy:
        with click.open_file(str(file), encoding="utf-8") as opened:
            return import_ecr(opened.read())

    _set(settings, name, read)


def _set(settings: Settings, name: str, read: Callable[[], Policy | None]) -> None:
    async def set_policy(found: Retention) -> int:
        policy = read()
        await found.set(name, policy)
        return len(policy.rules) if policy else 0

    rules = _run(settings, set_policy)
    click.echo(f"{name} has {rules} rules: `distsql retention preview {name}` tells what becomes of it")


@retention.command("preview")
@click.argument("name")
@click.option("--all", "everything", is_flag=True, help="Also what stays, in the table; JSON has it always.")
@settings_options(storage=True)
@as_json
def preview_policy(settings: Settings, name: str, *, everything: bool, as_json: bool) -> None:
    """Print what would be deleted just now, and why, in a repository or in all of a tenant's; change nothing."""
    _decide(settings, lambda found: found.preview(name), everything=everything, as_json=as_json, verb="would go")


@retention.command("run")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Also what stays, in the table; JSON has it always.")
@settings_options(storage=True)
@as_json
def run_policy(settings: Settings, name: str | None, *, everything: bool, as_json: bool) -> None:
    """Delete what the policies say, now: in a repository, in all of a tenant's, or everywhere.

    What it deletes can be restored as anything that was deleted. `distsql serve` does it by itself, every
    DISTSQL_RETENTION_INTERVAL (1h).
    """
    _decide(settings, lambda found: found.run(name), everything=everything, as_json=as_json, verb="went")


def _decide(
    settings: Settings,
    work: Callable[[Retention], AsyncIterator[Outcome]],
    *,
    everything: bool,
    as_json: bool,
    verb: str,
) -> None:
    from rich.filesize import decimal

    from distsql.cli.progress import progress

    async def decide(found: Retention) -> list[Outcome]:
        outcomes = []
        with progress() as notify:
            async for each in work(found):
                notify("repositories", 1)
                outcomes.append(each)
        return outcomes

    outcomes: list[Outcome] = _run(settings, decide)
    if as_json:
        click.echo(json.dumps([_described(each) for each in outcomes]))
        return
    rows = [
        {"repository": each.repository, **_row(decision)}
        for each in outcomes
        for decision in each.decisions
        if everything or decision.deletes
    ]
    if rows:
        print_table(rows)
    gone = sum(len(each.deleted) for each in outcomes)
    freed = sum(each.effects.freed_bytes for each in outcomes)
    click.echo(f"{gone} tags and manifests {verb}; that frees {decimal(freed)} once they can't be restored any more")
    left = sum(each.effects.left_untagged for each in outcomes)
    if left:
        click.echo(
            f"{left} images stay without a tag: a rule for 'untagged', or `--untagged collect`, lets them go too"
        )


def _described(found: Outcome) -> dict[str, Any]:
    return {
        "repository": found.repository,
        "freed_bytes": found.effects.freed_bytes,
        "decisions": [_row(each) for each in found.decisions],
    }


def _row(found: Decision) -> dict[str, Any]:
    return {
        "tag": found.row.tag,
        "digest": str(found.row.digest),
        "pushed_at": found.row.pushed_at.isoformat(timespec="seconds"),
        "pulled_at": found.row.pulled_at.isoformat(timespec="seconds") if found.row.pulled_at else None,
        "decision": "delete" if found.deletes else "keep",
        "reason": found.reason,
    }
