"""Upload sessions whose time is over: statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Text, delete, false, func, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, insert

from distsql.sql.garbage_tables import condemned_bytes
from distsql.sql.statements import LIMIT, REPOSITORY_ID, TENANT_ID, Nothing, Statement, parameter, statement
from distsql.sql.tables import uploads
from distsql.sql.transactions import Transaction, json_value


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


CONDEMN_UPLOAD: Final = statement(
    "condemn_upload",
    "Bytes of an upload that was ended go once a recovery window has passed.",
    insert(condemned_bytes)
    .values(
        tenant_id=TENANT_ID,
        store_key=parameter("store_key", Text()),
        length=parameter("length", BigInteger()),
        store_state=parameter("store_state", JSONB()),
        complete=false(),
    )
    .on_conflict_do_nothing(),
    Nothing,
)


def condemn_upload(
    tx: Transaction, tenant_id: int, *, store_key: str, length: int, store_state: Mapping[str, object]
) -> None:
    """What a session had collected that isn't there any more."""
    tx.queue(
        CONDEMN_UPLOAD,
        tenant_id=tenant_id,
        store_key=store_key,
        length=length,
        store_state=json_value(dict(store_state)),
    )


async def delete_expired_uploads(tx: Transaction, *, limit: int) -> list[EndedUploadRow]:
    """Ends sessions that have expired, and gives them."""
    return await tx.all(DELETE_EXPIRED_UPLOADS, limit=limit)


async def purge_repository_uploads(
    tx: Transaction, *, tenant_id: int, repository_id: int, limit: int
) -> list[EndedUploadRow]:
    """Ends sessions of the deleted repository, and gives them."""
    return await tx.all(PURGE_REPOSITORY_UPLOADS, tenant_id=tenant_id, repository_id=repository_id, limit=limit)
