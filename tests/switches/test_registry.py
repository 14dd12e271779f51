"""A registry that was started with its own switches: read-only, and with tokens."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from distsql.app import Registry
from distsql.errors import NameUnknownError, ReadOnlyError
from distsql.registry.repeating import Repeated
from distsql.settings import Settings
from distsql.values import Caller
from tests.registry.pushing import push_image

Sql = psycopg.Connection[tuple[object, ...]]


async def _push(registry: Registry) -> None:
    await push_image(registry.namespace.acting_as(Caller(actor="tester")).repository("acme/web"), b"layer", tags=["v1"])


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_read_only_registry_takes_nothing_and_collects_nothing(
    settings: Settings, sql: Sql, monkeypatch: pytest.MonkeyPatch, *, read_only: bool
) -> None:
    begun, begin = [], Repeated.begin

    def remember(self: Repeated) -> None:
        begun.append(self._name)
        begin(self)

    monkeypatch.setattr(Repeated, "begin", remember)
    async with Registry(replace(settings, read_only=read_only), check_schema=False, serving=True) as registry:
        assert "sealing the audit" in begun
        assert ("collecting garbage" in begun) == (not read_only)
        if not read_only:
            await _push(registry)
            return
        with pytest.raises(ReadOnlyError, match="The registry is read-only"):
            await _push(registry)
    assert sql.execute("select count(*) from blobs").fetchall() == [(0,)]
    assert sql.execute("select count(*) from repositories").fetchall() == [(0,)]


@pytest.mark.parametrize("auth", ["token", "none"])
async def test_only_who_runs_a_registry_with_tokens_makes_tenants(settings: Settings, sql: Sql, auth: str) -> None:
    async with Registry(replace(settings, auth=auth), check_schema=False) as registry:
        if auth == "none":
            await _push(registry)
        else:
            with pytest.raises(NameUnknownError):
                await _push(registry)
    expected = [(1 if auth == "none" else 0,)]
    assert sql.execute("select count(*) from tenants where name = 'acme'").fetchall() == expected
