"""What PostgreSQL refuses comes back as a meaning; what should never be refused comes back as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest

from distsql.errors import DistsqlError, ManifestUnknownError, NameUnknownError
from distsql.sql import constraints, layers, manifests, signatures, tags, uploads
from distsql.sql.database import Database
from distsql.sql.repositories import RepositoryRow
from distsql.sql.transactions import Transaction
from distsql.sql.uploads import ANYBODY
from tests.registry.pushing import image
from tests.sql.rows import digest, make_repository

pytestmark = pytest.mark.usefixtures("database_url")

Work = Callable[[Transaction, RepositoryRow], Awaitable[None]]


async def tag_nothing(tx: Transaction, repository: RepositoryRow) -> None:
    tags.point_tags(tx, repository, tags.targets(["latest"], digest=digest("nothing"), actor="ann"))


async def sign_nothing(tx: Transaction, repository: RepositoryRow) -> None:
    signatures.insert_signatures(tx, repository, digest("nothing"), [b"signature"])


async def put_manifest(tx: Transaction, repository: RepositoryRow) -> None:
    manifests.insert_manifests(tx, repository, [(image(b"layer"), "ann")])


async def put_layer(tx: Transaction, repository: RepositoryRow) -> None:
    await layers.insert_blob(tx, repository.tenant_id, digest(1), length=1, store_key="key")
    layers.insert_layer(tx, repository, digest(1), length=1)


async def begin_upload(tx: Transaction, repository: RepositoryRow) -> None:
    await uploads.insert_upload(
        tx,
        repository,
        uuid4(),
        algorithm="sha256",
        store_key="",
        store_state={},
        uploader=ANYBODY,
        lifetime=timedelta(hours=1),
    )


async def link_no_blob(tx: Transaction, repository: RepositoryRow) -> None:
    layers.insert_layer(tx, repository, digest("nothing"), length=1)


@pytest.mark.parametrize(
    ("work", "meaning"), [(tag_nothing, ManifestUnknownError), (sign_nothing, ManifestUnknownError)]
)
async def test_nothing_to_refer_to(database: Database, work: Work, meaning: type[DistsqlError]) -> None:
    async def run(tx: Transaction) -> None:
        await work(tx, await make_repository(tx, "acme/web"))

    with pytest.raises(meaning):
        await database.transact(run)


@pytest.mark.parametrize("work", [put_manifest, put_layer, begin_upload])
async def test_a_repository_that_was_removed_meanwhile(database: Database, work: Work) -> None:
    here = await database.transact(lambda tx: make_repository(tx, "acme/web"))
    gone = here._replace(id=here.id + 1_000_000)
    with pytest.raises(NameUnknownError):
        await database.transact(lambda tx: work(tx, gone))


async def test_what_should_never_happen_is_no_meaning(database: Database) -> None:
    async def run(tx: Transaction) -> None:
        await link_no_blob(tx, await make_repository(tx, "acme/web"))

    with pytest.raises(psycopg.errors.ForeignKeyViolation) as raised:
        await database.transact(run)
    assert raised.value.__cause__ is None


def test_every_meaning_is_of_a_constraint_that_exists(worker_database: str) -> None:
    with psycopg.connect(worker_database) as connection:
        found = connection.execute("select conname from pg_constraint where contype in ('f', 'c')")
        existing = {name for (name,) in found}
    assert set(constraints._MEANINGS) <= existing
