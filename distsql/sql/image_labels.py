"""Labels in the configs of images: statements of the owner's, each for many configs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    LargeBinary,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    column,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import Insert, insert

from distsql.oci.digest import Digest
from distsql.sql.image_tables import image_configs, image_labels
from distsql.sql.statements import LIMIT, ONE, Nothing, statement, unnested
from distsql.sql.tables import blobs, tenants
from distsql.sql.transactions import Transaction
from distsql.sql.types import DigestType


class ConfigRow(NamedTuple):
    """A config that nobody has read yet, and where its bytes are."""

    tenant_id: int
    digest: Digest
    length: int
    store_key: str


class ImageRow(NamedTuple):
    """A manifest that was looked at, and its config where it is one that nobody has read yet."""

    tenant_id: int
    repository_id: int
    manifest_digest: Digest
    digest: Digest | None
    length: int | None
    store_key: str | None

    @property
    def config(self) -> ConfigRow | None:
        """What is to be read."""
        if self.digest is None or self.length is None or self.store_key is None:
            return None
        return ConfigRow(self.tenant_id, self.digest, self.length, self.store_key)


class ForgottenLabelRow(NamedTuple):
    """The last one of a page of labels that were looked at."""

    tenant_id: int
    repository_id: int
    manifest_digest: Digest
    key: str


class ForgottenConfigRow(NamedTuple):
    """The last one of a page of configs that were looked at."""

    tenant_id: int
    digest: Digest


_new = unnested({"tenant": Text(), "digest": DigestType()}, suffix="_each")
_tenant = select(tenants.c.id).where(tenants.c.name == _new.c.tenant).limit(ONE).lateral("tenant")
_blob = (
    select(blobs.c.tenant_id, blobs.c.digest, blobs.c.length, blobs.c.store_key)
    .where(
        blobs.c.tenant_id == _tenant.c.id,
        blobs.c.digest == _new.c.digest,
        blobs.c.state == literal_column("'live'", Text()),
        ~func.starts_with(blobs.c.store_key, literal_column("'lost:'", Text())),
        ~select(image_configs.c.digest)
        .where(image_configs.c.tenant_id == blobs.c.tenant_id, image_configs.c.digest == blobs.c.digest)
        .exists(),
    )
    .limit(ONE)
    .lateral("blob")
)

FIND_UNREAD_CONFIGS: Final = statement(
    "find_unread_configs",
    "Configs of what was just pushed, as far as they weren't read before.",
    select(_blob.c.tenant_id, _blob.c.digest, _blob.c.length, _blob.c.store_key).select_from(
        _new.join(_tenant, true()).join(_blob, true())
    ),
    ConfigRow,
)


async def find_unread_configs(tx: Transaction, configs: Sequence[tuple[str, Digest]]) -> list[ConfigRow]:
    """Those that are there, each of them a tenant's name and a digest."""
    tenants_, digests = map(list, zip(*configs, strict=True))
    return await tx.all(FIND_UNREAD_CONFIGS, tenant_each=tenants_, digest_each=digests)


_KEY: Final = (bindparam("tenant_id", type_=BigInteger()), bindparam("digest", type_=LargeBinary()))

LIST_IMAGES: Final = statement(
    "list_images",
    "A page of all manifests, with configs of images that nobody has read yet.",
    text(
        """
with page as (
    select m.tenant_id, m.repository_id, m.digest, m.config_media_type, m.deleted_at from manifests m
    where (m.tenant_id, m.repository_id, m.digest) > (:tenant_id, :repository_id, :digest)
    order by m.tenant_id, m.repository_id, m.digest limit :limit
)
select p.tenant_id, p.repository_id, p.digest as manifest_digest, c.digest, c.length, c.store_key
from page p
left join lateral (
    select b.digest, b.length, b.store_key
    from descriptors d
    join blobs b on b.tenant_id = d.tenant_id and b.digest = d.digest and b.state = 'live'
    where d.tenant_id = p.tenant_id and d.repository_id = p.repository_id and d.manifest_digest = p.digest
    and d.role = 'config' and p.config_media_type = any (:media_types) and p.deleted_at is null
    and not starts_with(b.store_key, 'lost:')
    and not exists (select from image_configs i where i.tenant_id = b.tenant_id and i.digest = b.digest)
    limit 1
) c on true
order by p.tenant_id, p.repository_id, p.digest
"""
    )
    .bindparams(
        *_KEY,
        bindparam("repository_id", type_=BigInteger()),
        bindparam("media_types", type_=ARRAY(Text())),
        LIMIT,
    )
    .columns(
        column("tenant_id", BigInteger()),
        column("repository_id", BigInteger()),
        column("manifest_digest", DigestType()),
        column("digest", DigestType()),
        column("length", BigInteger()),
        column("store_key", Text()),
    ),
    ImageRow,
)


async def list_images(
    tx: Transaction, *, after: tuple[int, int, bytes], media_types: Sequence[str], limit: int
) -> list[ImageRow]:
    """Manifests behind one of them: by tenant's id, repository's id, packed digest."""
    return await tx.all(
        LIST_IMAGES,
        tenant_id=after[0],
        repository_id=after[1],
        digest=after[2],
        media_types=list(media_types),
        limit=limit,
    )


_configs = unnested({"tenant_id": BigInteger(), "digest": DigestType(), "problem": Text()})
_labels = unnested({"tenant_id": BigInteger(), "digest": DigestType(), "key": Text(), "value": Text()})


def _inserted(table: Table, new: TableValuedAlias) -> Insert:
    names = [column.name for column in new.c]
    return insert(table).from_select(names, select(*new.c)).on_conflict_do_nothing()


INSERT_IMAGE_CONFIGS: Final = statement(
    "insert_image_configs", "Configs that were read.", _inserted(image_configs, _configs), Nothing
)
INSERT_IMAGE_LABELS: Final = statement(
    "insert_image_labels", "Labels that they have.", _inserted(image_labels, _labels), Nothing
)


def insert_image_configs(tx: Transaction, found: Mapping[ConfigRow, Mapping[str, str] | str]) -> None:
    """Remembers what was read: labels, or what was wrong with it. Somebody else may have been faster."""
    keys = [(row.tenant_id, row.digest) for row in found]
    problems = [each if isinstance(each, str) else None for each in found.values()]
    tx.queue(
        INSERT_IMAGE_CONFIGS,
        tenant_ids=[key[0] for key in keys],
        digests=[key[1] for key in keys],
        problems=problems,
    )
    labels = [
        (*key, name, value)
        for key, each in zip(keys, found.values(), strict=True)
        if not isinstance(each, str)
        for name, value in each.items()
    ]
    if labels:
        tenant_ids, digests, names, values = map(list, zip(*labels, strict=True))
        tx.queue(INSERT_IMAGE_LABELS, tenant_ids=tenant_ids, digests=digests, keys=names, values=values)


FORGET_IMAGE_CONFIGS: Final = statement(
    "forget_image_configs",
    "A page of configs that were read, of which those are forgotten that the tenant has no more.",
    text(
        """
with page as (
    select i.tenant_id, i.digest from image_configs i where (i.tenant_id, i.digest) > (:tenant_id, :digest)
    order by i.tenant_id, i.digest limit :limit
), forgotten as (
    delete from image_configs i using page p where i.tenant_id = p.tenant_id and i.digest = p.digest
    and not exists (select from blobs b where b.tenant_id = i.tenant_id and b.digest = i.digest)
)
select tenant_id, digest from page order by tenant_id desc, digest desc limit 1
"""
    )
    .bindparams(*_KEY, LIMIT)
    .columns(column("tenant_id", BigInteger()), column("digest", DigestType())),
    ForgottenConfigRow,
)


async def forget_image_configs(tx: Transaction, *, after: tuple[int, bytes], limit: int) -> ForgottenConfigRow | None:
    """Looks at the configs behind one of them; None when there are no more."""
    return await tx.one(FORGET_IMAGE_CONFIGS, tenant_id=after[0], digest=after[1], limit=limit)


FORGET_MANIFEST_LABELS: Final = statement(
    "forget_manifest_labels",
    "A page of labels that came with manifests, of which those are forgotten whose manifest's row is gone.",
    text(
        """
with page as (
    select l.tenant_id, l.repository_id, l.manifest_digest, l.key from manifest_labels l
    where (l.tenant_id, l.repository_id, l.manifest_digest, l.key) >
        (:tenant_id, :repository_id, :digest, cast(:key as text) collate "C")
    order by l.tenant_id, l.repository_id, l.manifest_digest, l.key limit :limit
), forgotten as (
    delete from manifest_labels l using page p
    where l.tenant_id = p.tenant_id and l.repository_id = p.repository_id and l.manifest_digest = p.manifest_digest
    and l.key = p.key and not exists (
        select from manifests m
        where m.tenant_id = p.tenant_id and m.repository_id = p.repository_id and m.digest = p.manifest_digest
    )
)
select tenant_id, repository_id, manifest_digest, key
from page order by tenant_id desc, repository_id desc, manifest_digest desc, key desc limit 1
"""
    )
    .bindparams(*_KEY, bindparam("repository_id", type_=BigInteger()), bindparam("key", type_=Text()), LIMIT)
    .columns(
        column("tenant_id", BigInteger()),
        column("repository_id", BigInteger()),
        column("manifest_digest", DigestType()),
        column("key", Text()),
    ),
    ForgottenLabelRow,
)


async def forget_manifest_labels(
    tx: Transaction, *, after: tuple[int, int, bytes, str], limit: int
) -> ForgottenLabelRow | None:
    """Looks at the labels behind one of them; None when there are no more."""
    return await tx.one(
        FORGET_MANIFEST_LABELS,
        tenant_id=after[0],
        repository_id=after[1],
        digest=after[2],
        key=after[3],
        limit=limit,
    )
