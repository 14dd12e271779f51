"""Signatures, and what relates them to what they sign: statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    LargeBinary,
    Text,
    delete,
    func,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest
from distsql.oci.signing import signed_by_tags
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGEST, ONE, REPOSITORY_ID, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import manifests, signatures, signing_manifests
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class SignatureRow(NamedTuple):
    """A signature's bytes."""

    payload: bytes


class RelationRow(NamedTuple):
    """A signature of whatever kind."""

    kind: str
    digest: Digest
    created_at: datetime


_HERE: Final = (
    signatures.c.tenant_id == TENANT_ID,
    signatures.c.repository_id == REPOSITORY_ID,
    signatures.c.manifest_digest == DIGEST,
)

# What garbage collection deleted has its signatures still for a moment (`manifest_deletions.take_signatures`).
_signed_here = (
    select(manifests.c.digest)
    .where(
        manifests.c.tenant_id == TENANT_ID,
        manifests.c.repository_id == REPOSITORY_ID,
        manifests.c.digest == DIGEST,
        manifests.c.deleted_at.is_(None),
    )
    .exists()
)

LIST_SIGNATURES: Final = statement(
    "list_signatures",
    "The signatures of a manifest, in the order of their arrival.",
    select(signatures.c.payload).where(*_HERE, _signed_here).order_by(signatures.c.id),
    SignatureRow,
)


async def list_signatures(tx: Transaction, repository: RepositoryRow, digest: Digest) -> list[SignatureRow]:
    """All JWS signatures of the manifest."""
    return await tx.all(LIST_SIGNATURES, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest)


_new = unnested({"signature_digest": DigestType(), "payload": LargeBinary()})

INSERT_SIGNATURES: Final = statement(
    "insert_signatures",
    "Signatures of a manifest; those that are there already are not added again.",
    insert(signatures)
    .from_select(
        ["tenant_id", "repository_id", "manifest_digest", "digest", "payload"],
        select(TENANT_ID, REPOSITORY_ID, DIGEST, _new.c.signature_digest, _new.c.payload),
    )
    .on_conflict_do_nothing(),
    Nothing,
)


def insert_signatures(tx: Transaction, repository: RepositoryRow, digest: Digest, payloads: Sequence[bytes]) -> None:
    """Adds signatures to a manifest, which must exist."""
    tx.queue(
        INSERT_SIGNATURES,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digest=digest,
        signature_digests=[Digest.of(payload) for payload in payloads],
        payloads=list(payloads),
    )


REPLACE_UNSIGNED_PAYLOAD: Final = statement(
    "replace_unsigned_payload",
    "A schema 1 manifest that was pushed without signatures is pushed with some: they have to come back on GET.",
    update(manifests)
    .where(
        manifests.c.tenant_id == TENANT_ID,
        manifests.c.repository_id == REPOSITORY_ID,
        manifests.c.digest == DIGEST,
        manifests.c.payload == parameter("canonical", LargeBinary()),
    )
    .values(
        media_type=parameter("media_type", Text()),
        length=parameter("length", BigInteger()),
        payload=parameter("payload", LargeBinary()),
    ),
    Nothing,
)


def replace_unsigned_payload(tx: Transaction, repository: RepositoryRow, manifest: ParsedManifest) -> None:
    """The signed payload takes the place of the bare one; one that is signed already stays as it was first pushed."""
    tx.queue(
        REPLACE_UNSIGNED_PAYLOAD,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digest=manifest.digest,
        media_type=manifest.media_type,
        length=len(manifest.payload),
        payload=manifest.payload,
        canonical=manifest.canonical,
    )


# -- manifests that are signatures ------------------------------------------------------------------------------------

_SIGNING: Final = signing_manifests.c
_NEW_SIGNING: Final = ["tenant_id", "repository_id", "subject_digest", "manifest_digest", "kind"]
_COSIGN: Final = literal_column("'cosign'", Text())
_SUBJECT: Final = parameter("subject_digest", DigestType())
_SUBJECTS: Final = parameter("subject_digests", ARRAY(DigestType()))

INSERT_SIGNING_MANIFEST: Final = statement(
    "insert_signing_manifest",
    "A new manifest is a signature of its subject, by its artifact type.",
    insert(signing_manifests)
    .values(
        tenant_id=TENANT_ID,
        repository_id=REPOSITORY_ID,
        subject_digest=_SUBJECT,
        manifest_digest=DIGEST,
        kind=literal_column("'referrer'", Text()),
    )
    .on_conflict_do_nothing(),  # of a manifest that was deleted it is still there
    Nothing,
)


def insert_signing_manifest(tx: Transaction, repository: RepositoryRow, digest: Digest, *, subject: Digest) -> None:
    """Remembers that a manifest, which must be new, signs the subject. It is forgotten with the manifest."""
    tx.queue(
        INSERT_SIGNING_MANIFEST,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digest=digest,
        subject_digest=subject,
    )


_subjects = unnested({"subject_digest": DigestType()})
_held = signing_manifests.alias("held")
_EVERY: Final = literal_column("9223372036854775807", BigInteger())


# What signs the subjects by cosign's tags, by the subjects' key, one after the other: each behind a limit that nobody
# reaches. Where most repositories have one signature PostgreSQL would otherwise find them by the repository alone, in
# the narrower index of manifests, and read all that the largest one has.
_place: Final[ColumnElement[object]] = literal_column("held.ctid")
_held_here = (
    select(_place.label("place"))
    .select_from(_held)
    .where(
        _held.c.tenant_id == TENANT_ID,
        _held.c.repository_id == REPOSITORY_ID,
        _held.c.subject_digest == _subjects.c.subject_digest,
        _held.c.kind == _COSIGN,
        _held.c.manifest_digest != DIGEST,
    )
    .limit(_EVERY)
    .lateral("held_here")
)
_places = select(_held_here.c.place).select_from(_subjects.join(_held_here, true())).scalar_subquery()
_own_place: Final[ColumnElement[object]] = literal_column("signing_manifests.ctid")
_moved_away = delete(signing_manifests).where(_own_place == func.any(func.array(_places))).cte("moved_away")

_pointed = (
    insert(signing_manifests)
    .from_select(
        _NEW_SIGNING,
        select(TENANT_ID, REPOSITORY_ID, _subjects.c.subject_digest, DIGEST, _COSIGN).select_from(_subjects),
    )
    .on_conflict_do_nothing()
)

POINT_COSIGN_TAGS: Final = statement(
    "point_cosign_tags",
    "A manifest signs what new tags of cosign's on it are called after. It takes few locks: most signatures are first.",
    _pointed,
    Nothing,
)

MOVE_COSIGN_TAGS: Final = statement(
    "move_cosign_tags",
    "A manifest signs what cosign's tags on it are called after; what these tags pointed to before no longer does.",
    _pointed.add_cte(_moved_away),
    Nothing,
)


def point_cosign_tags(
    tx: Transaction, repository: RepositoryRow, names: Iterable[str], *, digest: Digest, moved: bool = False
) -> None:
    """Follows tags that were just pointed to the manifest, whose rows keep others waiting; does nothing for others.

    ``moved``: some of them pointed to something else before.
    """
    subjects = signed_by_tags(names)
    if subjects:
        tx.queue(
            MOVE_COSIGN_TAGS if moved else POINT_COSIGN_TAGS,
            tenant_id=repository.tenant_id,
            repository_id=repository.id,
            digest=digest,
            subject_digests=subjects,
        )


DELETE_COSIGN_TAGS: Final = statement(
    "delete_cosign_tags",
    "Cosign's tags ended: what they pointed to no longer signs what they are called after.",
    # As it is: to look for them first, as a push does, would be three locks more in each transaction of a retention.
    delete(signing_manifests).where(
        _SIGNING.tenant_id == TENANT_ID,
        _SIGNING.repository_id == REPOSITORY_ID,
        _SIGNING.subject_digest == func.any(_SUBJECTS),
        _SIGNING.kind == _COSIGN,
    ),
    Nothing,
)


def delete_cosign_tags(tx: Transaction, repository: RepositoryRow, names: Iterable[str]) -> None:
    """Follows tags that have just ended; does nothing for those that aren't cosign's."""
    subjects = signed_by_tags(names)
    if subjects:
        tx.queue(
            DELETE_COSIGN_TAGS,
            tenant_id=repository.tenant_id,
            repository_id=repository.id,
            subject_digests=subjects,
        )


_signing = (
    select(_SIGNING.kind, _SIGNING.manifest_digest, _SIGNING.created_at)
    .where(_SIGNING.tenant_id == TENANT_ID, _SIGNING.repository_id == REPOSITORY_ID, _SIGNING.subject_digest == DIGEST)
    .limit(_EVERY)
    .subquery("signing")
)
# What says that a deleted manifest signs something stays until its row goes.
_live = (
    select(manifests.c.digest)
    .where(
        manifests.c.tenant_id == TENANT_ID,
        manifests.c.repository_id == REPOSITORY_ID,
        manifests.c.digest == _signing.c.manifest_digest,
        manifests.c.deleted_at.is_(None),
    )
    .limit(ONE)
    .lateral("live")
)

LIST_SIGNATURE_RELATIONS: Final = statement(
    "list_signature_relations",
    "Every signature of some content: JWS, and manifests that sign it.",
    union_all(
        select(literal_column("'jws'", Text()).label("kind"), signatures.c.digest, signatures.c.created_at).where(
            *_HERE, _signed_here
        ),
        select(_signing.c.kind, _signing.c.manifest_digest, _signing.c.created_at).select_from(
            _signing.join(_live, true())
        ),
    ),
    RelationRow,
)


async def list_signature_relations(tx: Transaction, repository: RepositoryRow, digest: Digest) -> list[RelationRow]:
    """Everything that signs the content, whatever its kind."""
    return await tx.all(
        LIST_SIGNATURE_RELATIONS, tenant_id=repository.tenant_id, repository_id=repository.id, digest=digest
    )
