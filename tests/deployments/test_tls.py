"""TLS on the way to PostgreSQL, terminated by PgBouncer: the packaged PostgreSQL is built without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from distsql.app import Registry
from distsql.errors import CatalogueUnavailableError
from distsql.settings import Settings
from distsql.sql import schema
from tests.clients.tls import make_certificate
from tests.deployments.poolers import pgbouncer
from tests.registry.pushing import push_image

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("pgbouncer")]


@pytest.fixture
def certificate(place: Path) -> Path:
    path = make_certificate(place)
    path.chmod(0o644)  # of this test only
    return path


@pytest.fixture
def url(database_url: str, place: Path, certificate: Path) -> Iterator[str]:
    """A catalogue that talks TLS only."""
    options: dict[str, Any] = {
        "client_tls_sslmode": "require",
        "client_tls_key_file": certificate,
        "client_tls_cert_file": certificate,
    }
    with pgbouncer(database_url, place, **options) as made:
        yield made


async def test_a_catalogue_behind_tls(url: str, certificate: Path, settings: Settings) -> None:
    trusting = make_conninfo(url, sslmode="verify-full", sslrootcert=str(certificate))
    schema.check_revision(trusting)
    async with Registry(replace(settings, database_url=trusting)) as registry:
        made = await push_image(registry.namespace.repository("acme/web"), b"layer", tags=("v1",))
        found = await registry.namespace.repository("acme/web").manifests.get_by_tag("v1")
        assert found.digest == made.digest
    with psycopg.connect(trusting) as connection:
        assert connection.pgconn.ssl_in_use


@pytest.mark.parametrize("sslmode", ["disable", "verify-full"])
async def test_no_secret_goes_to_whom_nothing_proves(
    url: str, certificate: Path, place: Path, settings: Settings, sslmode: str
) -> None:
    """Neither in the clear, nor to a certificate that nobody vouches for; it is told why."""
    stranger = place / "stranger"
    stranger.mkdir()
    trusting = make_conninfo(url, sslmode=sslmode, sslrootcert=str(make_certificate(stranger)))
    with pytest.raises(CatalogueUnavailableError, match=r"SSL|certificate"):
        schema.check_revision(trusting)
    async with Registry(replace(settings, database_url=trusting), check_schema=False) as registry:
        with pytest.raises(CatalogueUnavailableError):
            await registry.check()
