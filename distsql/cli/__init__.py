"""The command line: each command is short, and calls what does the work."""

from __future__ import annotations

import sys

import click

from distsql import __version__
from distsql.cli.accounts import account, grant
from distsql.cli.audit import audit
from distsql.cli.checks import check
from distsql.cli.database_urls import database_url
from distsql.cli.garbage import collect_garbage
from distsql.cli.keys import key
from distsql.cli.migrations import migrate
from distsql.cli.reports import report
from distsql.cli.repositories import repository
from distsql.cli.retention import retention
from distsql.cli.serve import serve
from distsql.cli.stores import store
from distsql.cli.tenants import tenant
from distsql.cli.undo import deleted, restore, tag
from distsql.cli.verification import verify
from distsql.cli.webhooks import webhook
from distsql.errors import DistsqlError, SettingsError


class _Commands(click.Group):
    """Errors go to stderr with a way out; exit status 1 found something wrong, 2 wrong usage."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; the registry's errors are sentences for people."""
        try:
            return super().invoke(ctx)
        except DistsqlError as error:
            click.echo(f"distsql: {error}", err=True)
            sys.exit(2 if isinstance(error, SettingsError) else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="distsql")
def main() -> None:
    """A container registry whose truth is a relational catalogue in PostgreSQL.

    `distsql serve` runs it on this machine, with a private PostgreSQL below ./distsql-data. Every option is also a
    setting DISTSQL_<OPTION> in the environment, and a key of the file given by --config.
    """


COMMANDS = (
    serve,
    migrate,
    check,
    database_url,
    verify,
    collect_garbage,
    tenant,
    repository,
    tag,
    deleted,
    restore,
    account,
    grant,
    key,
    report,
    audit,
    retention,
    webhook,
    store,
)
for command in COMMANDS:
    main.add_command(command)
