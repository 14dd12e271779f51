"""TLS to PostgreSQL itself: who answers is proved by an authority that is trusted, for the host that was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from distsql.app import Registry
from distsql.errors import CatalogueUnavailableError
from distsql.settings import Settings
from distsql.sql import schema
from tests.deployments.encrypted import HOST, Authority, EncryptedPostgres, encrypted_postgres
from tests.places import make_place
from tests.registry.pushing import push_image
from tests.server.processes import distsql

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("encrypted")]


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    folder = make_place()
    yield Authority(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[EncryptedPostgres]:
    folder = make_place()
    with encrypted_postgres(folder, authority.issue(HOST)) as made:
        schema.migrate(verifying(made, authority.file))
        yield made
    shutil.rmtree(folder)


def verifying(server: EncryptedPostgres, authority: Path) -> str:
    return make_conninfo(server.url, sslmode="verify-full", sslrootcert=str(authority))


async def test_a_catalogue_is_used_over_tls_only(
    server: EncryptedPostgres, authority: Authority, tmp_path: Path
) -> None:
    url = verifying(server, authority.file)
    async with Registry(Settings(database_url=url, storage=tmp_path.as_uri(), access_log=False)) as registry:
        repository = registry.namespace.repository("acme/web")
        made = await push_image(repository, b"layer", tags=("v1",))
        assert (await repository.manifests.get_by_tag("v1")).digest == made.digest
        with psycopg.connect(url) as look:
            encrypted = look.execute(
                "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) "
                "where application_name = 'distsql'"
            ).fetchone()
        assert encrypted == (True,)
    with pytest.raises(CatalogueUnavailableError, match="no encryption"):
        schema.check_revision(make_conninfo(server.url, sslmode="disable"))


async def test_a_stranger_is_told_nothing_and_the_operator_why(
    server: EncryptedPostgres, authority: Authority, tmp_path: Path
) -> None:
    """Signed by another authority, or for another host: the password isn't sent, and no request is answered."""
    stranger = Authority(tmp_path / "stranger")
    for trusted, certificate, problem in (
        (stranger.file, authority.issue(HOST), "certificate verify failed"),
        (authority.file, stranger.issue(HOST), "certificate verify failed"),
        (authority.file, authority.issue("other.example"), "does not match host name"),
    ):
        server.use(certificate)
        url = verifying(server, trusted)
        with pytest.raises(CatalogueUnavailableError, match=problem) as caught:
            schema.check_revision(url)
        assert server.url.partition("password=")[2].split()[0] not in caught.value.message
        settings = Settings(database_url=url, storage=(tmp_path / "bytes").as_uri(), access_log=False)
        async with Registry(settings, check_schema=False) as registry:
            with pytest.raises(CatalogueUnavailableError):
                await registry.check()
    told = distsql("check", "--database-url", url, "--data", tmp_path)
    assert told.returncode
    assert "does not match host name" in told.stdout + told.stderr
    server.use(authority.issue(HOST))
    schema.check_revision(verifying(server, authority.file))
