"""Upload sessions whose time is over: statements."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import delete, false, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from distsql.sql.database import Transaction
from distsql.sql.garbage_tables import condemned_bytes
from distsql.sql.statements import LIMIT, REPOSITORY_ID, TENANT_ID, Statement, statement
from distsql.sql.tables import uploads


class EndedUploadRow(NamedTuple):
    """Bytes of a session that ended without becoming a blob."""

    store_key: str
    length: int


_key = (uploads.c.tenant_id, uploads.c.repository_id, uploads.c.uuid)


def _ending(name: str, purpose: str, *conditions: object) -> Statement[EndedUploadRow]:
    """Ends sessions; their bytes are condemned with them, so that a process that is killed leaves nothing."""
    some = select(*_key).where(*conditions).limit(LIMIT).with_for_update(skip_locked=True).subquery("some")  # type: ignore[arg-type]
    ended = (
        delete(uploads)
        .where(tuple_(*_key).in_(select(*some.c)))
        .returning(uploads.c.tenant_id, uploads.c.store_key, uploads.c.offset_bytes, uploads.c.store_state)
        .cte("ended")
    )
    return statement(
        name,
        purpose,
        insert(condemned_bytes)
        .from_select(
            ["tenant_id", "store_key", "length", "store_state", "complete"],
            select(ended.c.tenant_id, ended.c.store_key, ended.c.offset_bytes, ended.c.store_state, false()),
        )
        .on_conflict_do_nothing()
        .returning(condemned_bytes.c.store_key, condemned_bytes.c.length),
        EndedUploadRow,
    )


DELETE_EXPIRED_UPLOADS: Final = _ending(
    "delete_expired_uploads",
    "Sessions whose time is over; their bytes are deleted afterwards.",
    uploads.c.expires_at <= func.now(),
)
PURGE_REPOSITORY_UPLOADS: Final = _ending(
    "purge_repository_uploads",
    "Sessions of a deleted repository; their bytes are deleted afterwards.",
    uploads.c.tenant_id == TENANT_ID,
    uploads.c.repository_id == REPOSITORY_ID,
)


async def delete_expired_uploads(tx: Transaction, *, limit: int) -> list[EndedUploadRow]:
    """Ends sessions that have expired, and gives them."""
    return await tx.all(DELETE_EXPIRED_UPLOADS, limit=limit)


async def purge_repository_uploads(
    tx: Transaction, *, tenant_id: int, repository_id: int, limit: int
) -> list[EndedUploadRow]:
    """Ends sessions of the deleted repository, and gives them."""
    return await tx.all(PURGE_REPOSITORY_UPLOADS, tenant_id=tenant_id, repository_id=repository_id, limit=limit)
