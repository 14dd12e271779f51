"""The catalogue's tables of who pulled what: a few seconds after the pulls they are in batches, then added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Identity,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from distsql.sql.columns import INSTANT, NAME, counter, repository_id, tenant_id
from distsql.sql.tables import metadata
from distsql.sql.types import DigestType

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

_LAST_PULLED: Final = "To a few seconds; to a minute while a great many different things are pulled."


def _key(name: str, comment: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, comment=comment)


def _last_pulled_at() -> Column[object]:
    return Column("last_pulled_at", INSTANT, nullable=False, comment=_LAST_PULLED)


daily_pulls: Final = Table(
    "daily_pulls",
    metadata,
    tenant_id(),
    Column("day", Date, nullable=False, comment="In UTC."),
    repository_id(),
    Column("actor_kind", Text, nullable=False, comment="Of who asked: anonymous, account or robot."),
    counter("requests", "Requests about the repository that were answered well, of any kind."),
    counter("pulls", "Manifests that were given out."),
    counter("sent_bytes", "Of manifests and blobs, given out by the registry itself."),
    counter("redirected_bytes", "Of blobs that clients were sent to the byte store for."),
    PrimaryKeyConstraint("tenant_id", "day", "repository_id", "actor_kind"),
    CheckConstraint("actor_kind in ('anonymous', 'account', 'robot')", name="actor_kind"),
    # No foreign key: what was given out is charged for, also when the repository is gone.
    comment="What was given out, by day; it stays when the repository goes.",
)

manifest_pulls: Final = Table(
    "manifest_pulls",
    metadata,
    tenant_id(),
    repository_id(),
    Column("digest", DigestType, nullable=False, comment="The manifest: manifests.digest."),
    counter("pulls", "How often it was given out, by tag or by digest."),
    _last_pulled_at(),
    PrimaryKeyConstraint("tenant_id", "repository_id", "digest"),
    ForeignKeyConstraint(
        ["tenant_id", "repository_id", "digest"],
        ["manifests.tenant_id", "manifests.repository_id", "manifests.digest"],
        ondelete="CASCADE",
    ),
    comment="When manifests were last pulled; none that never was.",
)

tag_pulls: Final = Table(
    "tag_pulls",
    metadata,
    tenant_id(),
    repository_id(),
    Column("name", NAME, nullable=False, comment="The tag, whatever it points to."),
    counter("pulls", "How often a manifest was given out by it."),
    _last_pulled_at(),
    PrimaryKeyConstraint("tenant_id", "repository_id", "name"),
    ForeignKeyConstraint(["tenant_id", "repository_id"], ["repositories.tenant_id", "repositories.id"]),
    comment="When tags were last asked for; a HEAD counts here too, for clients then pull by digest.",
)


def _list(name: str, type_: TypeEngine[Any], comment: str) -> Column[Any]:
    return Column(name, ARRAY(type_), nullable=False, comment=comment)


pull_batches: Final = Table(
    "pull_batches",
    metadata,
    Column("tenant_id", BigInteger, nullable=False, comment="0: the server itself, for pulls of all tenants."),
    Column("id", BigInteger, Identity(always=False), nullable=False, comment="In the order of writing, about."),
    Column(
        "written_at",
        INSTANT,
        nullable=False,
        server_default=text("now()"),
        comment="When; what is in it was asked for a few seconds before.",
    ),
    _list("tenants", Text(), "Of what a kind of actor was given out of a repository on a day: its tenant."),
    _list("paths", Text(), "And its path below that."),
    _list("days", Date(), "And the day."),
    _list("actor_kinds", Text(), "And of whom."),
    _list("requests", BigInteger(), "What is to be added to daily_pulls.requests."),
    _list("pulls", BigInteger(), "To its pulls."),
    _list("sent", BigInteger(), "To its sent_bytes."),
    _list("redirected", BigInteger(), "To its redirected_bytes."),
    _list(
        "asked_places",
        BigInteger(),
        "Of each thing that was asked for: its place in the lists above, from 1.",
    ),
    _list("asked_tags", Text(), "And its tag; null: by digest."),
    _list("asked_digests", DigestType(), "And the manifest that was given out; null: none was."),
    _list("asked_pulls", BigInteger(), "How often."),
    PrimaryKeyConstraint("tenant_id", "id"),
    comment="What servers counted and nobody has added up yet; each row is what one of them wrote at once.",
)
