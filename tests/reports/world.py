"""Two tenants whose repositories, tags and content have the same names: a join that forgets the tenant shows.

Lengths are told apart in any sum: the config has 37 bytes, layers have 100, 200, 400 and 800.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg

from distsql.app import Registry
from distsql.contract import Repository
from distsql.oci.digest import Digest
from distsql.oci.manifest import OCI_INDEX, ParsedManifest, parse
from distsql.registry.accounts import Accounts
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.tenants import Tenants
from distsql.settings import Settings
from distsql.values import Caller
from tests.registry.pushing import CONFIG, push_blob, push_image

ACME: Final = "acme"
RIVAL: Final = "rival"
ONE, TWO, FOUR, EIGHT = (str(number).encode() * 100 * number for number in (1, 2, 4, 8))
CONFIG_LENGTH: Final = len(CONFIG)
ABSENT: Final = Digest.of(b"nowhere")
SIGNATURE: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
SPDX: Final = "application/spdx+json"
# What was pulled, as servers write it down. Nothing of acme/idle; of rival/web on the same days as of acme/web.
TAGGED: Final = datetime.now(UTC) - timedelta(days=5, hours=1)
_TODAY: Final = "date '2026-11-05'"
_TAGGED: Final = "(select live_digest from tags g where g.repository_id = r.id and g.valid_to is null and name = '{}')"
PULLS: Final = (
    (
        "daily_pulls",
        "tenant_id, repository_id, day, actor_kind, requests, pulls, sent_bytes, redirected_bytes",
        (
            ("acme/web", f"{_TODAY}, 'robot', 9, 3, 100, 20"),
            ("acme/web", f"{_TODAY}, 'anonymous', 2, 1, 0, 5"),
            ("acme/base", f"{_TODAY} - 10, 'account', 1, 1, 7, 0"),
            ("rival/web", f"{_TODAY}, 'robot', 1000, 1000, 1000, 1000"),
        ),
    ),
    (
        "manifest_pulls",
        "tenant_id, repository_id, digest, pulls, last_pulled_at",
        (
            (
                "acme/web",
                "(select live_digest from tags g where g.repository_id = r.id and g.name = 'v1'), 3, '2026-11-05'",
            ),
            (
                "acme/web",
                "(select live_digest from tags g where g.repository_id = r.id and g.name = 'all'), 3, '2026-11-07'",
            ),
            (
                "rival/web",
                "(select live_digest from tags g where g.repository_id = r.id and g.name = 'v1'), 3, '2026-11-09'",
            ),
        ),
    ),
    (
        "tag_pulls",
        "tenant_id, repository_id, name, pulls, last_pulled_at",
        (
            ("acme/web", "'v1', 3, now() - interval '3 days 1 hour'"),
            ("acme/base", "'stable', 3, now() - interval '1 day 1 hour'"),
            ("rival/web", "'latest', 3, now()"),
        ),
    ),
)
DENIED: Final = (
    ("acme", "anonymous", "not allowed", 3),
    ("acme", "acme/ci", "quota", 1),
    ("rival", "anonymous", "not allowed", 70),
)
# What was stored on days that are over; the tenant "past" is gone altogether.
DAYS: Final = (
    ("acme", "date '2020-01-30'", 100),
    ("acme", "date '2020-01-31'", 200),
    ("acme", "date '2020-02-01'", 1000),
    ("rival", "date '2020-01-31'", 7),
    ("past", "date '2020-01-31'", 5),
    ("acme", "current_date - 10", 537),
)


@dataclass(frozen=True)
class World:
    """A catalogue with known rows."""

    url: str
    old_base: str
    new_base: str
    old_app: str
    new_app: str
    index: str
    signature: str
    sbom: str
    lost: str
    acme_role: str
    acme_url: str


def platform_index(*children: tuple[str, ParsedManifest | None]) -> ParsedManifest:
    """An index of (architecture, manifest); one that isn't there where there is none."""
    manifests = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": str(child.digest if child else ABSENT),
            "size": len(child.payload) if child else 7,
            "platform": {"os": "linux", "architecture": architecture, **({"variant": "v8"} if not child else {})},
        }
        for architecture, child in children
    ]
    return parse(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode())


async def fill(url: str, folder: Path) -> dict[str, str]:
    """Pushes it all; the digests by name."""
    async with Registry(Settings(database_url=url, storage=folder.as_uri(), access_log=False)) as registry:
        namespace = registry.namespace.acting_as(Caller("ann", "192.0.2.1", "tests", "request-1"))
        base, web = namespace.repository("acme/base"), namespace.repository("acme/web")
        old_base = await push_image(base, ONE, tags=["stable"])
        new_base = await push_image(base, EIGHT, tags=["stable"])
        old_app = await push_image(web, ONE, TWO, tags=["v1", "latest"])
        new_app = await push_image(web, EIGHT, TWO, tags=["latest"], title="web")
        settings = RepositoryAdministration(registry.backend.everything, Caller("ann"))
        await settings.set("acme/web", {"sparse": True})
        index = platform_index(("amd64", new_app), ("arm64", None))
        await web.manifests.put(index, ["all"])
        await web.signatures.put(old_app.digest, b"a signature")
        signature = await push_image(web, FOUR, subject=new_app.digest, artifact_type=SIGNATURE)
        sbom = await push_image(web, FOUR, subject=new_app.digest, artifact_type=SPDX)
        lost = await push_image(web, FOUR, subject=ABSENT, artifact_type=SPDX)
        await web.tags.tag("gone", old_app.digest)
        await web.tags.untag("gone")
        for uuid in range(2):
            await _begin(web, b"." * (uuid + 1))
        await _fill_rival(namespace.repository("rival/web"))
        await _administer(registry)
        removed = namespace.repository("acme/removed")
        await push_image(removed, ONE, TWO, tags=["latest"])
        await removed.remove()
        await push_image(namespace.repository("acme/idle"), ONE, tags=["latest"], idle="yes")
        made = {"old_base": old_base, "new_base": new_base, "old_app": old_app, "new_app": new_app, "index": index}
        made |= {"signature": signature, "sbom": sbom, "lost": lost}
        return {name: str(manifest.digest) for name, manifest in made.items()}


async def _fill_rival(web: Repository) -> None:
    """The same layers, and a signature of what it doesn't have but acme does."""
    await push_image(web, ONE, TWO, tags=["v1", "latest"], owner="rival")
    await push_image(web, ONE, tags=["base"])
    await push_image(web, FOUR, subject=ABSENT, artifact_type=SIGNATURE, owner="rival")
    await push_blob(web, EIGHT)


async def _administer(registry: Registry) -> None:
    accounts = Accounts(registry.backend.everything, Caller("root"))
    for login, kind in (("acme/ann", "person"), ("acme/ci", "robot"), ("rival/ci", "robot")):
        await accounts.create(login, kind=kind)
    await Tenants(registry.backend.everything, Caller("root")).set(ACME, {"quota_bytes": 10**6})


async def _begin(repository: Repository, content: bytes) -> None:
    async with await repository.layers.upload() as upload:
        await upload.write(content)


def age(owner: psycopg.Connection[Any]) -> None:
    """Puts some of it back in time, which nothing but the clock does otherwise."""
    two_days = datetime.now(UTC) - timedelta(days=2, minutes=5)
    owner.execute("update uploads set started_at = %s where offset_bytes = 1", [two_days])
    owner.execute("update tags set valid_from = %s where name = 'v1'", [TAGGED])
    # As a version linked them that didn't write their lengths: reports ask the blobs.
    owner.execute("update layers set length = null where length in (%s, 400)", [CONFIG_LENGTH])
    owner.execute("update accounts set created_at = %s", [two_days - timedelta(days=8)])
    owner.execute("update accounts set last_used_at = %s where name = 'ann'", [two_days])
    # As if the config said so, which both tenants have.
    owner.execute(
        "insert into image_labels (tenant_id, digest, key, value) "
        "select t.id, c.digest, 'stage', 'of ' || t.name from image_configs c join tenants t on t.id = c.tenant_id"
    )
    for table, columns, rows in PULLS:
        for repository, values in rows:
            owner.execute(
                f"insert into {table} ({columns}) select t.id, r.id, {values} "
                "from tenants t join repositories r on r.tenant_id = t.id where t.name || '/' || r.path = %s",
                [repository],
            )
    for tenant, day, stored in DAYS:
        owner.execute(
            "insert into daily_usage (tenant_id, day, tenant, stored_bytes) "
            f"select coalesce((select id from tenants where name = %s), 999), {day}, %s, %s",
            [tenant, tenant, stored],
        )
    for tenant, actor, cause, times in DENIED:
        owner.execute(
            "insert into audit_events (tenant_id, id, actor, action, outcome, repository, cause, times) "
            "select id, 1, %s, 'pull', 'refused', name || '/web', %s, %s from tenants where name = %s",
            [actor, cause, times, tenant],
        )
    owner.execute(
        "insert into daily_pushes (tenant_id, day, repository, pushes, bytes) "
        "select id, '2020-01-31', name || '/web', 5, 50 from tenants where name <> ''"
    )
    queued = (("acme", "layer", "now()"), ("acme", "blob", "now() - interval '2 hours'"), ("rival", "layer", "now()"))
    for number, (tenant, kind, at) in enumerate(queued):
        owner.execute(
            "insert into garbage_queue (tenant_id, id, kind, repository_id, digest, queued_at) select t.id, %s, %s, "
            "case when %s = 'blob' then 0 else (select min(id) from repositories r where r.tenant_id = t.id) end, "
            f"%s, {at} from tenants t where t.name = %s",
            [number, kind, kind, Digest.of(ONE).packed, tenant],
        )
    collected = "insert into garbage_periods values (0, '1 hour', '7 days', '1 day')"
    owner.execute(f"{collected} on conflict (tenant_id) do nothing")
    owner.execute(
        "insert into condemned_bytes (tenant_id, store_key, digest, length, complete, condemned_at) "
        "select id, 'somewhere', '\\x01ff', 77, true, now() - interval '2 days' from tenants where name = 'acme'"
    )
