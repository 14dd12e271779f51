"""``distsql tag``, ``distsql deleted`` and ``distsql restore``: time travel and undo."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from distsql.cli.options import caller, run, settings_options
from distsql.cli.output import as_json, print_names, print_rows
from distsql.errors import DistsqlError, ManifestUnknownError, NameUnknownError, SettingsError, TagUnknownError
from distsql.oci.names import RepositoryName
from distsql.settings import Settings

if TYPE_CHECKING:
    from distsql.app import Registry
    from distsql.registry.repositories import StoredRepository

_MOST: Final = 10_000
_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a name on the command line means: a repository, or a tag or a digest in it."""

    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads REPO, REPO:TAG or REPO@DIGEST."""
        name, at, digest = text.partition("@")
        if at:
            return cls(name, digest=digest)
        name, colon, tag = text.rpartition(":")
        return cls(name, tag=tag) if colon and "/" not in tag else cls(text)


def _instant(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """An instant, in UTC unless it says otherwise."""
    del context, parameter
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise SettingsError(f"{value!r} is no instant: write it as 2026-11-23T21:00:00Z") from None
    if not 1 < found.year < MAXYEAR:
        raise SettingsError(f"{value!r} is too far away: there was no tag, or will be none")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _in_repository(settings: Settings, name: str, work: Callable[[StoredRepository], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever the work gives
    async def with_repository(registry: Registry) -> object:
        return await work(registry.namespace.acting_as(caller()).repository(name))

    return run(settings, with_repository)


@contextmanager
def _or_told(where: str) -> Iterator[None]:
    """What isn't there is told with the command that tells what is."""
    try:
        yield
    except (ManifestUnknownError, NameUnknownError, TagUnknownError) as error:
        raise DistsqlError(f"{error}: `{where}` tells what there is to go back to") from error


def _tagged(text: str) -> tuple[str, str]:
    reference = Reference.parse(text)
    if reference.tag is None:
        raise SettingsError(f"{text!r} names no tag: write acme/web:prod")
    return reference.repository, reference.tag


@click.group()
def tag() -> None:
    """List tags, see what they pointed to, and take moves back."""


@tag.command("list")
@click.argument("repository")
@settings_options(storage=True)
@as_json
def list_tags(settings: Settings, repository: str, *, as_json: bool) -> None:
    """Print the live tags of a repository."""

    async def names(found: StoredRepository) -> list[str]:
        return [name async for name in found.tags.list()]

    print_names(_in_repository(settings, repository, names), as_json=as_json)


@tag.command("history")
@click.argument("reference")
@click.option(
    "--at", metavar="TIME", callback=_instant, help="Only what it pointed to then, to be pulled by its digest."
)
@settings_options(storage=True)
@as_json
def tag_history(settings: Settings, reference: str, at: datetime | None, *, as_json: bool) -> None:
    """Print what REPO:TAG pointed to, newest first: from when until when, by whom."""
    repository, name = _tagged(reference)

    async def moves(found: StoredRepository) -> list[dict[str, Any]]:
        return [
            {
                "digest": str(move.digest),
                "valid_from": move.valid_from.isoformat(),
                "valid_to": move.valid_to.isoformat() if move.valid_to else None,
                "actor": move.actor,
                "ended_by": move.ended_by,
            }
            async for move in found.tags.history(name, before=at and at + _MOMENT, limit=1 if at else _MOST)
            if at is None or move.valid_to is None or at < move.valid_to
        ]

    print_rows(_in_repository(settings, repository, moves), as_json=as_json)


@tag.command("rollback")
@click.argument("reference")
@click.option("--at", metavar="TIME", callback=_instant, help="To what it pointed to then; else, before its last move.")
@settings_options(storage=True)
def roll_tag_back(settings: Settings, reference: str, at: datetime | None) -> None:
    """Point REPO:TAG to what it pointed to before. A manifest that was deleted since is restored."""
    repository, name = _tagged(reference)
    with _or_told(f"distsql tag history {reference}"):
        digest = _in_repository(settings, repository, lambda found: found.restorations.roll_back(name, at=at))
    click.echo(f"{reference} points to {digest}")


@click.group()
def deleted() -> None:
    """See what was deleted and can be restored."""


@deleted.command("list")
@click.argument("name", required=False)
@settings_options(storage=True)
@as_json
def list_deleted(settings: Settings, name: str | None, *, as_json: bool) -> None:
    """Print deleted tags, manifests and repositories that `distsql restore` brings back; of a tenant or repository.

    The newest first, 10,000 at most.
    """

    async def find(registry: Registry) -> list[dict[str, Any]]:
        from distsql.sql import deleted_things

        rows = await registry.backend.everything.read(
            deleted_things.list_deleted_things, prefix=name, period=settings.restore_period, limit=_MOST
        )
        return [
            {
                "what": row.kind,
                "name": row.repository
                + (f":{row.tag}" if row.tag else f"@{row.digest}" if row.kind == "manifest" else ""),
                "deleted_at": row.deleted_at.isoformat(timespec="seconds"),
                "deleted_by": row.deleted_by,
                "restorable_until": row.restorable_until.isoformat(timespec="seconds"),
            }
            for row in rows
        ]

    print_rows(run(settings, find), as_json=as_json)


@click.command()
@click.argument("reference")
@settings_options(storage=True)
def restore(settings: Settings, reference: str) -> None:
    """Bring back REPO:TAG, REPO@DIGEST or a whole REPO, for DISTSQL_RESTORE_PERIOD after it was deleted.

    A manifest comes with its children, the tags that ended with it, and the referrers that followed it.
    """
    from distsql.oci.digest import Digest

    wanted = Reference.parse(reference)

    async def bring_back(repository: StoredRepository) -> None:
        if wanted.digest is not None:
            await repository.restorations.restore_manifest(Digest.parse(wanted.digest))
        elif wanted.tag is None:
            await repository.restorations.restore_repository()
        else:
            await repository.restorations.restore_tag(wanted.tag)

    with _or_told(f"distsql deleted list {RepositoryName.parse(wanted.repository)}"):
        _in_repository(settings, wanted.repository, bring_back)
    click.echo(f"{reference} is there again")
