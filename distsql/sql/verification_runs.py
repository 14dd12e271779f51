"""How far a verification is, and what it found: statements."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Boolean, LargeBinary, Text, delete, func, literal_column, select, type_coerce, update
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.garbage_tables import garbage_queue
from distsql.sql.statements import DIGEST, REPOSITORY_ID, TENANT_ID, Nothing, parameter, statement
from distsql.sql.stores import store_of
from distsql.sql.tables import SERVER_TENANT_ID, blobs, layers
from distsql.sql.transactions import Transaction
from distsql.sql.verification_tables import verification_findings, verifications


class ProgressRow(NamedTuple):
    """A verification: what it is at, behind which key, and how much it has verified."""

    id: int
    version: int
    phase: str
    after_tenant_id: int
    after_repository_id: int
    after_digest: bytes | None
    blobs: int
    manifests: int
    bytes: int


class FindingRow(NamedTuple):
    """Something that a verification found; of a blob also its key."""

    kind: str
    subject: str
    explanation: str
    mended: bool
    blob_tenant_id: int | None
    digest: bytes | None


class VersionRow(NamedTuple):
    """A verification's version."""

    version: int


class RelinkedRow(NamedTuple):
    """A blob that is where it should be again."""

    digest: Digest


_SERVER: Final = literal_column(str(SERVER_TENANT_ID), BigInteger())
_ID: Final = parameter("id", BigInteger())
_READ_BYTES: Final = parameter("read_bytes", Boolean())
_DONE: Final = literal_column("'done'", Text())
_NEXT: Final = verifications.c.version + literal_column("1", BigInteger())
# Digests as they are packed: what is behind a key needn't be one.
_PROGRESS: Final = (
    verifications.c.id,
    verifications.c.version,
    verifications.c.phase,
    verifications.c.after_tenant_id,
    verifications.c.after_repository_id,
    type_coerce(verifications.c.after_digest, LargeBinary()),
    verifications.c.blobs,
    verifications.c.manifests,
    verifications.c.bytes,
)

RESUME_VERIFICATION: Final = statement(
    "resume_verification",
    "The verification that was stopped; whoever was at it finds that somebody else goes on.",
    update(verifications)
    .where(
        verifications.c.tenant_id == _SERVER,
        verifications.c.rehashes == _READ_BYTES,
        verifications.c.phase != _DONE,
    )
    .values(version=_NEXT)
    .returning(*_PROGRESS),
    ProgressRow,
)

FORGET_VERIFICATIONS: Final = statement(
    "forget_verifications",
    "Earlier verifications of the same kind, with what they found: a quick one leaves one that reads bytes alone.",
    delete(verifications).where(verifications.c.tenant_id == _SERVER, verifications.c.rehashes == _READ_BYTES),
    Nothing,
)

BEGIN_VERIFICATION: Final = statement(
    "begin_verification",
    "A verification of everything.",
    insert(verifications).values(tenant_id=_SERVER, rehashes=_READ_BYTES).returning(*_PROGRESS),
    ProgressRow,
)


async def begin_verification(tx: Transaction, *, read_bytes: bool, resume: bool) -> ProgressRow:
    """The verification that was stopped, or a new one that begins at the beginning."""
    stopped = await tx.all(RESUME_VERIFICATION, read_bytes=read_bytes) if resume else []
    if stopped:
        return stopped[0]
    tx.queue(FORGET_VERIFICATIONS, read_bytes=read_bytes)
    (begun,) = await tx.all(BEGIN_VERIFICATION, read_bytes=read_bytes)
    return begun


SAVE_VERIFICATION: Final = statement(
    "save_verification",
    "How far a verification is, unless somebody else goes on with it.",
    update(verifications)
    .where(
        verifications.c.tenant_id == _SERVER,
        verifications.c.id == _ID,
        verifications.c.version == parameter("version", BigInteger()),
    )
    .values(
        version=_NEXT,
        saved_at=func.now(),
        phase=parameter("phase", Text()),
        after_tenant_id=parameter("after_tenant_id", BigInteger()),
        after_repository_id=parameter("after_repository_id", BigInteger()),
        after_digest=parameter("after_digest", LargeBinary()),
        blobs=parameter("blobs", BigInteger()),
        manifests=parameter("manifests", BigInteger()),
        bytes=parameter("bytes", BigInteger()),
    )
    .returning(verifications.c.version),
    VersionRow,
)


async def save_verification(tx: Transaction, progress: ProgressRow) -> int | None:
    """The verification's new version, or None when somebody else goes on with it."""
    row = await tx.one(SAVE_VERIFICATION, **progress._asdict())
    return row.version if row else None


_new_finding = insert(verification_findings).values(
    tenant_id=_SERVER,
    verification_id=_ID,
    kind=parameter("kind", Text()),
    subject=parameter("subject", Text()),
    explanation=parameter("explanation", Text()),
    mended=parameter("mended", Boolean()),
    blob_tenant_id=parameter("blob_tenant_id", BigInteger()),
    digest=parameter("digest", LargeBinary()),
)

INSERT_FINDING: Final = statement(
    "insert_finding",
    "Something that a verification found; the same again is as it is now.",
    _new_finding.on_conflict_do_update(
        index_elements=list(verification_findings.primary_key),
        set_={"explanation": _new_finding.excluded.explanation, "mended": _new_finding.excluded.mended},
    ),
    Nothing,
)


async def insert_finding(tx: Transaction, verification_id: int, finding: FindingRow) -> None:
    """Remembers what was found."""
    tx.queue(INSERT_FINDING, id=verification_id, **finding._asdict())


LIST_FINDINGS: Final = statement(
    "list_findings",
    "What a verification found so far.",
    select(
        verification_findings.c.kind,
        verification_findings.c.subject,
        verification_findings.c.explanation,
        verification_findings.c.mended,
        verification_findings.c.blob_tenant_id,
        type_coerce(verification_findings.c.digest, LargeBinary()),
    )
    .where(verification_findings.c.tenant_id == _SERVER, verification_findings.c.verification_id == _ID)
    .order_by(verification_findings.c.found_at, verification_findings.c.kind, verification_findings.c.subject),
    FindingRow,
)


async def list_findings(tx: Transaction, verification_id: int) -> list[FindingRow]:
    """In the order in which they were found."""
    return await tx.all(LIST_FINDINGS, id=verification_id)


# -- repairs -----------------------------------------------------------------------------------------------------------

_held = (
    select(blobs.c.tenant_id, REPOSITORY_ID.label("repository_id"), blobs.c.digest, blobs.c.length)
    .where(blobs.c.tenant_id == TENANT_ID, blobs.c.digest == DIGEST, blobs.c.state == literal_column("'live'", Text()))
    .with_for_update(read=True)
    .cte("held")
)
_linked = (
    insert(layers)
    .from_select(
        ["tenant_id", "repository_id", "digest", "length"],
        select(_held.c.tenant_id, _held.c.repository_id, _held.c.digest, _held.c.length),
    )
    .on_conflict_do_nothing()
    .returning(layers.c.tenant_id, layers.c.repository_id, layers.c.digest)
    .cte("linked")
)
# In case its manifest goes just now.
_queued = (
    insert(garbage_queue)
    .from_select(
        ["tenant_id", "id", "kind", "repository_id", "digest"],
        select(
            _linked.c.tenant_id,
            literal_column("(random() * 9007199254740991)::bigint", BigInteger()),
            literal_column("'layer'", Text()),
            _linked.c.repository_id,
            _linked.c.digest,
        ),
    )
    .cte("queued")
)

RELINK_LAYER: Final = statement(
    "relink_layer",
    "A repository sees a blob again that its manifest needs, and that the tenant has.",
    select(_linked.c.digest).add_cte(_queued),
    RelinkedRow,
)


async def relink_layer(tx: Transaction, tenant_id: int, repository_id: int, digest: Digest) -> bool:
    """Whether the tenant has the blob; then the repository sees it from now on."""
    row = await tx.one(RELINK_LAYER, tenant_id=tenant_id, repository_id=repository_id, digest=digest)
    return row is not None


_others = blobs.alias("other")
_FOUND_KEY: Final = parameter("found_key", Text())

RELINK_BYTES: Final = statement(
    "relink_bytes",
    "A blob whose bytes are not where they should be has them where they were found.",
    update(blobs)
    .where(
        blobs.c.tenant_id == TENANT_ID,
        blobs.c.digest == DIGEST,
        blobs.c.state == literal_column("'live'", Text()),
        blobs.c.store_key == parameter("store_key", Text()),
        # A key is one row's.
        ~select(_others.c.digest).where(_others.c.store_key == _FOUND_KEY).exists(),
    )
    .values(store_key=_FOUND_KEY, store=store_of(_FOUND_KEY))
    .returning(blobs.c.digest),
    RelinkedRow,
)


async def relink_bytes(tx: Transaction, tenant_id: int, digest: Digest, *, store_key: str, found_key: str) -> bool:
    """Whether the blob is live and named the first key until now; it names the other one now."""
    row = await tx.one(RELINK_BYTES, tenant_id=tenant_id, digest=digest, store_key=store_key, found_key=found_key)
    return row is not None
