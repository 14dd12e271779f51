"""What tenants use, counted anew, against what the catalogue keeps of it."""

from __future__ import annotations

from distsql.registry.context import Backend
from distsql.sql import recounts
from distsql.sql.usage import UseRow


async def use_of(backend: Backend, tenant: str) -> UseRow:
    """What the catalogue keeps, which has to be what there is."""
    rows = {row.tenant: row for row in await backend.everything.read(recounts.list_uses)}
    assert {name: row.counted for name, row in rows.items()} == {name: row.found for name, row in rows.items()}
    return rows[tenant].counted
