"""What most tests start from: a migrated catalogue, a byte store, a registry over both, and its HTTP face."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import httpx
import hypothesis
import psycopg
import pytest

from distsql.api.application import Application
from distsql.api.requests import Limits
from distsql.app import Registry
from distsql.registry.context import Backend
from distsql.registry.namespace import StoredNamespace
from distsql.settings import Settings
from distsql.values import Caller
from tests import objectstore, postgres
from tests.faultyproxy import FaultyProxy, faulty_proxy
from tests.keptconnections import Kept, keeping_connections
from tests.places import place_of_places
from tests.registry.soundness import opened

# What `./run.sh test quick` does without, by folder, by name, and by what a test wants:
# - what goes over all routes, members, switches, commands or revisions, over all that a tenant's role might try, or
#   over generated registries and manifests, or starts servers and clusters; each of what they go over has tests of its
#   own, which stay;
# - what is raced, killed at every statement, cut off, or waits until something remembered is too old: it is slow;
# - the contract over HTTP and over a store in memory, once more; and an object store, for that is a server more;
# - four fifths of what hypothesis makes up.
THOROUGH: Final = (
    *("benchmarks/*", "deployments/*", "embedded/*", "isolation/*", "migrations/*", "server/*", "switches/*"),
    *("access/test_routes.py", "api/test_fuzz.py", "cli/test_audited_commands.py", "plans/test_allocations.py"),
    *("contract/test_completeness.py", "oci/test_manifest_families.py", "project/test_protocol_rows.py"),
    *("registry/test_deletion_reports.py", "registry/test_garbage_previews.py", "registry/test_retention_runs.py"),
    *("registry/test_side_by_side.py", "reports/test_sql_access.py"),
    *("*_races.py", "*interruptions.py", "*_outages.py", "*_connections.py", "*_machine.py", "*_model.py"),
    *("access/test_revocation.py", "access/test_suspension.py", "access/test_many_accounts.py"),
)
_HERE: Final = Path(__file__).parent

# Where pytest makes `tmp_path`: in memory where there is room, for stores flush what they write, and disks are slow.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place_of_places()))


def pytest_configure(config: pytest.Config) -> None:
    """Of what is made up by hypothesis the quick tests look at a fifth."""
    if _is_quick(config):
        hypothesis.settings.register_profile("quick", max_examples=20)
        hypothesis.settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Of all tests' time a third is waiting, of the quick ones' a fifth: so half as many again as there are cores."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + cores // 2


def _is_quick(config: pytest.Config) -> bool:
    return "not slow" in config.option.markexpr


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is slow as a whole isn't even imported, where it isn't wanted."""
    if _is_quick(config) and collection_path.suffix == ".py" and _is_thorough(collection_path):
        return True
    return None


@functools.cache
def _is_thorough(path: Path) -> bool:
    name = str(path.relative_to(_HERE))
    return any(fnmatch(name, pattern) for pattern in THOROUGH)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Of modules and tests nothing is garbage: it isn't looked for meanwhile, nor among them again, nor often else."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Marks what is slow before -m picks; then it goes first, so that no worker is left with it alone at the end.

    In random order, as is what follows.
    """
    _mark_slow(items)
    yield
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _mark_slow(items: list[pytest.Item]) -> None:
    for item in items:
        of_another = "/contract/" in str(item.path) and ("[http" in item.name or "memory" in item.name)
        of_object_store = "object_store" in getattr(item, "fixturenames", ())
        if of_another or of_object_store or _is_thorough(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of this worker's PostgreSQL."""
    with postgres.running_server() as url:
        yield url


@pytest.fixture(scope="session")
def template_database(postgres_server: str) -> Iterator[str]:
    """The name of a migrated database to copy."""
    with postgres.migrated_template(postgres_server) as name:
        yield name


@pytest.fixture(scope="session")
def worker_database(postgres_server: str, template_database: str) -> Iterator[str]:
    """One migrated database for the tests of this worker, emptied after each."""
    with postgres.new_database(postgres_server, template=template_database) as url:
        yield url


@pytest.fixture(scope="session")
def kept_connections(worker_database: str) -> Iterator[Kept]:
    """Connections to it that outlive a test."""
    with keeping_connections(worker_database) as kept:
        yield kept


@pytest.fixture
def fresh_connections(kept_connections: Kept) -> Iterator[None]:
    """For tests of connections themselves, what they prepare and how they end: there are no others, and none stays."""
    kept_connections.close()
    kept_connections.wanted = False
    yield
    kept_connections.wanted = True


@pytest.fixture(scope="session")
def object_store() -> Iterator[objectstore.ObjectStore]:
    """This worker's object store: a real server, started when the first test wants it."""
    with objectstore.running_store() as store:
        yield store


@pytest.fixture(scope="session")
def broom(worker_database: str) -> Iterator[postgres.Broom]:
    """What empties this worker's database."""
    with closing(postgres.Broom(worker_database)) as broom:
        yield broom


@pytest.fixture
def database_url(worker_database: str, broom: postgres.Broom, kept_connections: Kept) -> Iterator[str]:
    """A migrated catalogue with nothing in it."""
    yield worker_database
    broom.sweep()


@pytest.fixture
def new_database(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases that were never migrated."""
    with ExitStack() as stack:
        make: Callable[[], AbstractContextManager[str]] = functools.partial(postgres.new_database, postgres_server)
        yield lambda: stack.enter_context(make())


@pytest.fixture
def new_catalogue(postgres_server: str, template_database: str) -> Iterator[Callable[[], str]]:
    """Makes migrated catalogues of a test's own."""
    with ExitStack() as stack:
        make = functools.partial(postgres.new_database, postgres_server, template=template_database)
        yield lambda: stack.enter_context(make())


@pytest.fixture(scope="session")
def owner(worker_database: str) -> Iterator[postgres.Owner]:
    """Who looks at this worker's database from outside."""
    with closing(postgres.Owner(worker_database)) as owner:
        yield owner


@pytest.fixture
def sql(database_url: str, owner: postgres.Owner) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of the owner to the catalogue, to look at it from outside."""
    with owner.looking() as connection:
        yield connection


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Of a registry over the empty catalogue and a folder."""
    return Settings(database_url=database_url, storage=(tmp_path / "bytes").as_uri(), access_log=False)


@pytest.fixture
async def registry(settings: Settings) -> AsyncIterator[Registry]:
    """A registry in this process. Its schema was made here: that it is looked at is tested in tests/migrations."""
    async with Registry(settings, check_schema=False) as opened:
        yield opened


@pytest.fixture
def namespace(registry: Registry) -> StoredNamespace:
    """The registry's namespace, on behalf of ``tester``."""
    return registry.namespace.acting_as(Caller(actor="tester"))


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[Backend]:
    """The machinery of a registry, for tests that work below its application: of a process of its own, in memory."""
    async with opened(database_url) as machinery:
        yield machinery


@pytest.fixture
async def proxy(object_store: objectstore.ObjectStore) -> AsyncIterator[FaultyProxy]:
    """In front of the object store, as if the network failed."""
    async with faulty_proxy(object_store.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP to the registry, in process: what goes through the web server is tested in tests/server."""
    application = Application(registry, limits=Limits(), access_log=None)
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as opened:
        yield opened
