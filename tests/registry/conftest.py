"""What several tests of the registry start from."""

from __future__ import annotations

import pytest

from distsql.registry.context import Backend
from distsql.registry.repositories import StoredRepository
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.registry.pushing import push_image
from tests.registry.soundness import namespace_of


@pytest.fixture
async def web(backend: Backend) -> StoredRepository:
    """With an image, in a tenant that collects what has no tag."""
    repository = namespace_of(backend).repository("acme/web")
    await push_image(repository, b"stays", tags=["v1"])
    await Tenants(backend.everything, Caller()).set("acme", {"untagged": "collect"})
    return repository
