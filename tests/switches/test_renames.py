"""Renaming a repository x every switch: it heeds those that forbid every change, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from distsql.errors import DistsqlError, ReadOnlyError, TenantSuspendedError
from distsql.registry.context import Backend
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.tenants import Tenants
from distsql.values import Caller
from tests.registry.pushing import push_image
from tests.registry.soundness import namespace_of, opened

ADMINISTRATOR: Final = Caller(actor="administrator")
NAMES: Final = ["acme/web", "acme/web/a/b", "acme/web2"]


@pytest.fixture
async def backend(database_url: str) -> AsyncIterator[Backend]:
    async with opened(database_url) as machinery:
        namespace = namespace_of(machinery)
        for name in NAMES:
            await push_image(namespace.repository(name), b"layer", tags=["v1"])
        yield machinery


@pytest.mark.parametrize(
    ("who", "changes", "refusal"),
    [
        ("registry", {"read_only": True}, ReadOnlyError("The registry is read-only")),
        ("acme", {"read_only": True}, ReadOnlyError("acme is read-only")),
        ("acme/web", {"read_only": True}, ReadOnlyError("acme/web is read-only")),
        ("acme/web/a/b", {"read_only": True}, ReadOnlyError("acme/web/a/b is read-only")),
        ("acme", None, TenantSuspendedError("acme is suspended")),
        ("acme/web2", {"read_only": True}, None),  # beside it
        ("acme", {"deletable": False, "immutable_tags": ["v*"]}, None),
        ("acme/web", {"deletable": False, "immutable_tags": ["v*"]}, None),
    ],
)
async def test_renaming_heeds_what_forbids_every_change(
    backend: Backend, who: str, changes: dict[str, Any] | None, refusal: DistsqlError | None
) -> None:
    tenants = Tenants(backend.everything, ADMINISTRATOR)
    repositories = RepositoryAdministration(backend.everything, ADMINISTRATOR, read_only=who == "registry")
    if changes is None:
        await tenants.suspend(who)
    elif "/" in who:
        await repositories.set(who, changes)
    elif who != "registry":
        await tenants.set(who, changes)
    if refusal is not None:
        with pytest.raises(type(refusal), match=f"^{refusal.message}"):
            await repositories.rename("acme/web", "acme/site")
        expected = NAMES
    else:
        await repositories.rename("acme/web", "acme/site")
        expected = ["acme/site", "acme/site/a/b", "acme/web2"]
    if changes is None:
        await tenants.resume(who)
    found = [name async for name in namespace_of(backend).repositories()]
    assert found == expected
