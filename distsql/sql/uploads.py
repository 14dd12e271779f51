"""Upload sessions: statements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Interval, Text, Uuid, delete, false, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from distsql.oci.digest import Digest
from distsql.oci.names import RepositoryName
from distsql.sql.access_tables import accounts
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import (
    ACTOR,
    ONE,
    REPOSITORY_ID,
    TENANT_ID,
    name_parameters,
    named_repository,
    parameter,
    statement,
)
from distsql.sql.tables import uploads
from distsql.sql.transactions import Later, Transaction, json_value
from distsql.sql.types import DigestType


class UploadRow(NamedTuple):
    """An upload session as it stands. ``version`` counts its writers: it changes with each."""

    tenant_id: int
    repository_id: int
    uuid: UUID
    algorithm: str
    offset_bytes: int
    store_key: str
    store_state: Mapping[str, Any]
    digest: Digest | None
    digest_bytes: int | None
    version: int
    started_at: datetime
    expires_at: datetime
    read_only: bool
    """Whether its repository is so just now, by its own or its tenant's switch."""
    suspended: bool
    """Whether its tenant is so just now."""

    @property
    def digest_so_far(self) -> Digest | None:
        """Of all bytes so far, where who wrote the last of them knew it.

        A server of the version before writes bytes without telling a digest, which is then of fewer.
        """
        return self.digest if self.digest_bytes == self.offset_bytes else None


class VersionRow(NamedTuple):
    """The version of an upload after a write."""

    version: int


class Uploader(NamedTuple):
    """Who begins a session, and goes on with it: an account by its id; where nobody has to log in, whoever it is."""

    actor: str
    account_id: int | None


ANYBODY: Final = Uploader("", None)

_UUID: Final = parameter("uuid", Uuid())
_ACCOUNT_ID: Final = parameter("account_id", BigInteger())
_OFFSET_BYTES: Final = parameter("offset_bytes", BigInteger())
_VERSION: Final = parameter("version", BigInteger())
_EXPIRES: Final = func.now() + parameter("lifetime", Interval())
_COLUMNS: Final = tuple(uploads.c[name] for name in UploadRow._fields[:-2])
_MINE: Final = (
    uploads.c.tenant_id == TENANT_ID,
    uploads.c.repository_id == REPOSITORY_ID,
    uploads.c.uuid == _UUID,
)

INSERT_UPLOAD: Final = statement(
    "insert_upload",
    "A new session.",
    insert(uploads)
    .values(
        tenant_id=TENANT_ID,
        repository_id=REPOSITORY_ID,
        uuid=_UUID,
        algorithm=parameter("algorithm", Text()),
        store_key=parameter("store_key", Text()),
        store_state=parameter("store_state", JSONB()),
        actor=ACTOR,
        account_id=_ACCOUNT_ID,
        expires_at=_EXPIRES,
    )
    .returning(*_COLUMNS, false(), false()),
    UploadRow,
)


async def insert_upload(
    tx: Transaction,
    repository: RepositoryRow,
    uuid: UUID,
    *,
    algorithm: str,
    store_key: str,
    store_state: Mapping[str, object],
    uploader: Uploader,
    lifetime: timedelta,
) -> UploadRow:
    """A session of no bytes so far. Comes last."""
    row = await tx.last(
        INSERT_UPLOAD,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        uuid=uuid,
        algorithm=algorithm,
        store_key=store_key,
        store_state=json_value(dict(store_state)),
        **uploader._asdict(),
        lifetime=lifetime,
    )
    if row is None:
        raise AssertionError("an insert gives its row")
    return row


_joined, _repository = named_repository()
# Of a server of the version before, which knows names only: the account has to be older than the session.
_account_made_at = (
    select(accounts.c.created_at)
    .where(accounts.c.tenant_id == uploads.c.tenant_id, accounts.c.id == _ACCOUNT_ID)
    .limit(ONE)
    .scalar_subquery()
)
_upload = (
    select(*_COLUMNS)
    .where(
        uploads.c.tenant_id == _repository.c.tenant_id,
        uploads.c.repository_id == _repository.c.id,
        uploads.c.uuid == _UUID,
        or_(
            _ACCOUNT_ID.is_(None),
            uploads.c.account_id == _ACCOUNT_ID,
            uploads.c.account_id.is_(None) & (uploads.c.actor == ACTOR) & (_account_made_at <= uploads.c.started_at),
        ),
    )
    .limit(ONE)
    .lateral("upload")
)

FIND_UPLOAD: Final = statement(
    "find_upload",
    "A session that any process may go on with.",
    select(*(_upload.c[name] for name in UploadRow._fields[:-2]), _repository.c.read_only, _repository.c.suspended)
    .select_from(_joined.join(_upload, true()))
    # Behind the limit: inside, the index of these instants would do as well where statistics are of sessions that
    # have expired, and all that there are would be read.
    .where(_upload.c.expires_at > func.now()),
    UploadRow,
)


async def find_upload(
    tx: Transaction, name: RepositoryName, uuid: UUID, *, uploader: Uploader = ANYBODY
) -> UploadRow | None:
    """The session, if it is the repository's and the uploader's, and has not expired."""
    return await tx.one(FIND_UPLOAD, **name_parameters(name), uuid=uuid, **uploader._asdict())


ADVANCE_UPLOAD: Final = statement(
    "advance_upload",
    "Bytes that are durable now. Of two writers the one that comes second finds another version.",
    update(uploads)
    .where(*_MINE, uploads.c.version == _VERSION)
    .values(
        offset_bytes=_OFFSET_BYTES,
        store_key=parameter("store_key", Text()),
        store_state=parameter("store_state", JSONB()),
        digest=parameter("digest", DigestType()),
        digest_bytes=_OFFSET_BYTES,
        version=uploads.c.version + ONE,
        expires_at=_EXPIRES,
    )
    .returning(uploads.c.version),
    VersionRow,
)


async def advance_upload(
    tx: Transaction,
    upload: UploadRow,
    *,
    offset_bytes: int,
    store_key: str,
    store_state: Mapping[str, object],
    digest: Digest | None,
    lifetime: timedelta,
) -> int | None:
    """The session's new version, or None when it was changed or ended by another writer. Comes last.

    ``digest`` is of all the bytes, where the writer knows it.
    """
    row = await tx.last(
        ADVANCE_UPLOAD,
        **_known(upload),
        offset_bytes=offset_bytes,
        store_key=store_key,
        store_state=json_value(dict(store_state)),
        digest=digest,
        lifetime=lifetime,
    )
    return row.version if row else None


DELETE_UPLOAD: Final = statement(
    "delete_upload",
    "A session ends: finished or cancelled, by the writer that knows its version.",
    delete(uploads).where(*_MINE, uploads.c.version == _VERSION).returning(uploads.c.version),
    VersionRow,
)


async def delete_upload(tx: Transaction, upload: UploadRow) -> bool:
    """Whether the session was still as it is known here, and is gone now."""
    return await tx.one(DELETE_UPLOAD, **_known(upload)) is not None


def delete_upload_later(tx: Transaction, upload: UploadRow) -> Later[VersionRow]:
    """As `delete_upload`, together with the next statement. Without a row, it has to be as if that had not been run."""
    return tx.later(DELETE_UPLOAD, **_known(upload))


def _known(upload: UploadRow) -> dict[str, object]:
    return {
        "tenant_id": upload.tenant_id,
        "repository_id": upload.repository_id,
        "uuid": upload.uuid,
        "version": upload.version,
    }
