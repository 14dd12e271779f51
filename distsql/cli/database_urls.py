"""``distsql database-url``: how psql and alembic find the catalogue."""

from __future__ import annotations

import click

from distsql.cli.options import settings_options
from distsql.embedded import PrivatePostgres
from distsql.settings import Settings


@click.command("database-url")
@settings_options()
def database_url(settings: Settings) -> None:
    """Print the owner's URL of the catalogue.

    It sees every row, so keep it to yourself. For example: psql "$(distsql database-url)" -c 'select * from tags'.
    The private PostgreSQL answers while `distsql serve` runs.
    """
    click.echo(settings.database_url or PrivatePostgres.url(settings.data))
