"""Signatures, and what relates them to what they sign: statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, LargeBinary, Text, func, literal_column, select, union_all
from sqlalchemy.dialects.postgresql import insert

from distsql.oci.digest import Digest
from distsql.sql.database import Transaction
from distsql.sql.repositories import RepositoryRow
from distsql.sql.statements import DIGEST, REPOSITORY_ID, TENANT_ID, Nothing, parameter, statement, unnested
from distsql.sql.tables import descriptors, manifests, signatures, tags
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

LIST_SIGNATURES: Final = statement(
    "list_signatures",
    "The signatures of a manifest, in the order of their arrival.",
    select(signatures.c.payload).where(*_HERE).order_by(signatures.c.id),
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


# What cosign and notation write: the artifact types whose manifests are signatures of their subject.
_SIGNATURE_TYPES: Final = (
    "application/vnd.dev.cosign.artifact.sig.v1+json",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.cncf.notary.signature",
)

LIST_SIGNATURE_RELATIONS: Final = statement(
    "list_signature_relations",
    "Every signature of some content: JWS, cosign's tag, referrers.",
    union_all(
        select(literal_column("'jws'", Text()).label("kind"), signatures.c.digest, signatures.c.created_at).where(
            *_HERE
        ),
        select(literal_column("'cosign'", Text()), tags.c.digest, tags.c.valid_from).where(
            tags.c.tenant_id == TENANT_ID,
            tags.c.repository_id == REPOSITORY_ID,
            tags.c.valid_to.is_(None),
            tags.c.name == parameter("cosign_tag", Text(collation="C")),
        ),
        select(literal_column("'referrer'", Text()), manifests.c.digest, manifests.c.pushed_at)
        .select_from(
            descriptors.join(
                manifests,
                (manifests.c.tenant_id == descriptors.c.tenant_id)
                & (manifests.c.repository_id == descriptors.c.repository_id)
                & (manifests.c.digest == descriptors.c.manifest_digest),
            )
        )
        .where(
            descriptors.c.tenant_id == TENANT_ID,
            descriptors.c.repository_id == REPOSITORY_ID,
            descriptors.c.digest == DIGEST,
            descriptors.c.role == literal_column("'subject'", Text()),
            manifests.c.artifact_type == func.any(parameter("signature_types", ARRAY(Text()))),
        ),
    ),
    RelationRow,
)


async def list_signature_relations(tx: Transaction, repository: RepositoryRow, digest: Digest) -> list[RelationRow]:
    """Everything that signs the content, whatever its kind."""
    return await tx.all(
        LIST_SIGNATURE_RELATIONS,
        tenant_id=repository.tenant_id,
        repository_id=repository.id,
        digest=digest,
        cosign_tag=f"{digest.algorithm}-{digest.encoded}.sig",
        signature_types=list(_SIGNATURE_TYPES),
    )
