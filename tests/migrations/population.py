"""Rows of every kind in every table, written by the registry itself where it can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import psycopg

from distsql.app import Registry
from distsql.contract import Manifest, Repository
from distsql.oci.digest import Digest
from distsql.registry.accounts import Accounts
from distsql.registry.audit_seals import AuditSeals
from distsql.registry.grants import Grant
from distsql.registry.repository_settings import RepositoryAdministration
from distsql.registry.retention import Retention
from distsql.registry.retention_rules import own_policy
from distsql.registry.signing_keys import SigningKeys
from distsql.registry.webhooks import Deliverer, Webhooks
from distsql.settings import Settings
from distsql.values import Caller
from tests.contract.families import LAYERS, push_blobs, schema1
from tests.registry.pushing import image, index, push_blob, push_image

# As garbage collection and deletions leave it.
GARBAGE = """
    insert into garbage_queue (tenant_id, id, kind, repository_id, digest)
    select tenant_id, 1, 'layer', repository_id, digest from layers limit 1;
    insert into kept_references (tenant_id, repository_id, manifest_digest, digest)
    select tenant_id, repository_id, digest, digest from manifests where deleted_at is not null limit 1;
    insert into condemned_bytes (tenant_id, store_key, digest, length, complete)
    select tenant_id, 'an earlier key', digest, length, true from blobs limit 1;
    insert into garbage_periods (tenant_id, grace, restore_period, recovery_window) values (0, '1 hour', '7 days', '0');
    insert into verifications (tenant_id, id, rehashes) values (0, 1, true);
    insert into verification_findings (tenant_id, verification_id, kind, subject, explanation)
    values (0, 1, 'missing', 'acme sha256:0', 'no bytes');
    insert into retention_runs (tenant_id, ran_at) values (0, now());
    insert into turns (tenant_id, name, next_at) values (0, 'adding up pulls', now());
    insert into pull_batches (tenant_id, tenants, paths, days, actor_kinds, requests, pulls, sent, redirected,
        asked_places, asked_tags, asked_digests, asked_pulls)
    values (0, '{acme}', '{web}', '{2026-11-26}', '{robot}', '{1}', '{0}', '{0}', '{0}', '{1}', '{latest}', '{null}',
        '{0}')
"""
NOTATION = "application/vnd.cncf.notary.signature"


async def populate(url: str, folder: Path) -> None:
    """Two tenants; live, moved and ended tags; an index; a signature and referrers; uploads; what is condemned."""
    settings = Settings(database_url=url, storage=folder.as_uri())
    async with Registry(settings) as registry:
        namespace = registry.namespace.acting_as(Caller("ann", "127.0.0.1", "tests", "request-1"))
        web = namespace.repository("acme/web")
        first = await push_image(web, b"one", b"two", tags=["latest", "v1"], title="first")
        labelled = b'{"config": {"Labels": {"stage": "testing"}}}'
        second = await push_image(web, b"one", b"three", tags=["latest", "v2"], config=labelled, title="second")
        await web.manifests.put(index(first, second), ["all"])
        await push_blobs(web)
        nul = '{"config": {"Labels": {"nul": "\\u0000"}}}'
        for tag, config in {"old": labelled.decode(), "odd": "no json", "nul": nul}.items():
            await web.manifests.put(schema1(tag=tag, history=[{"v1Compatibility": config}] * len(LAYERS)), [tag])
        await web.manifests.put(image(b"one", subject=first.digest, about="a subject"))
        await web.manifests.put(image(b"one", subject=Digest.of(b"absent"), about="an absent subject"))
        await web.signatures.put(first.digest, b"signature")
        await _sign(web, first, second)
        await web.tags.untag("v2")
        async with await web.layers.upload() as upload:
            await upload.write(b"half of it")
        other = namespace.repository("other/web")
        await push_blob(other, b"one")
        await namespace.repository("other/copy").layers.mount(Digest.of(b"one"), "other/web")
        await RepositoryAdministration(registry.backend.everything, Caller("ann")).set("other/copy", {"sparse": True})
        deleted = await push_image(web, b"one", tags=["gone"], title="deleted")
        await web.manifests.delete(deleted.digest)
        gone = namespace.repository("other/gone")
        await push_image(gone, b"gone", tags=["latest"])
        await gone.remove()
        await _let_in(registry)
        await Webhooks(everything := registry.backend.everything, Caller("ann")).add(
            "acme", "http://hooks.test/", format="cloudevents", events=["tag"]
        )
        await web.tags.tag("hooked", first.digest)
        await Deliverer(everything, _refuse).run()
        await AuditSeals(registry.backend.everything).seal(margin=timedelta(0))
        await Retention(registry.backend, Caller("ann")).set(
            "acme/web", own_policy(["v*: latest 2"], ["any: beyond 9"])
        )
        registry.pulls.add("acme/web", "robot", "latest", first.digest, 1, 0, 0)
    await asyncio.to_thread(_condemn, url)


async def _refuse(url: str, headers: Mapping[str, str], body: bytes) -> int:
    return 503


async def _let_in(registry: Registry) -> None:
    """Accounts, one of them switched off, their grants, and keys that sign."""
    everything, caller = registry.backend.everything, Caller("ann")
    accounts = Accounts(everything, caller)
    await accounts.create("acme/ci", kind="robot", granted=[Grant.parse("acme/web/*:pull,push")])
    await accounts.create("other/ann", kind="person", lifetime=timedelta(days=90))
    await accounts.set_disabled("other/ann", off=True)
    await SigningKeys(everything, caller).load()
    await SigningKeys(everything, caller).rotate()
    await registry.namespace.repository("acme/web").set_public(public=True)


async def _sign(web: Repository, first: Manifest, second: Manifest) -> None:
    """Signatures by tag and by referrer, of what is there and of what isn't; one tag that moved, one that ended."""
    bundle, cosign = "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.cosign.artifact.sig.v1+json"
    for number, signed in enumerate(
        [first.digest, second.digest, Digest.of(b"absent"), Digest.of(b"absent", "sha512")]
    ):
        await push_image(web, b"one", subject=signed, artifact_type=[bundle, NOTATION, cosign][number % 3])
    await push_image(web, b"one", subject=first.digest, artifact_type="application/vnd.example.sbom")
    tags = [f"sha256-{digest.encoded}.sig" for digest in (first.digest, Digest.of(b"absent"), second.digest)]
    await push_image(web, b"one", tags=[*tags, f"sha256-{first.digest.encoded}.att"], title="a signature")
    await push_image(web, b"one", tags=tags[:1], title="a later signature")
    await web.tags.untag(tags[2])


def _condemn(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "update blobs b set state = 'condemned', condemned_at = now() where not exists "
            "(select from layers l where l.tenant_id = b.tenant_id and l.digest = b.digest)"
        )
        connection.execute(GARBAGE)
        connection.execute(
            "insert into audit_events (tenant_id, at, id, actor, action, outcome) "
            "values (0, '1999-12-31', 1, 'bob', 'server.test', 'refused')"
        )
        connection.execute("select roll_up_days()")
        connection.execute(
            "insert into daily_pushes (tenant_id, day, repository, pushes) "
            "select id, '2020-02-29', 'acme/web', 1 from tenants where name = 'acme'"
        )
        connection.execute("insert into byte_stores (tenant_id, name, url) values (0, 'eu', 'file:///srv/eu')")
        # Roles are the cluster's, and would outlive the database: of this one there is the name only.
        connection.execute(
            "insert into sql_roles (tenant_id, role_name) "
            "select id, 'distsql_of_nobody' from tenants where name = 'acme'"
        )
