"""Signatures and statements of what is in an image, as each kind of client leaves them; and health when it is bad."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from distsql.contract import Repository
from distsql.oci.digest import Digest
from distsql.oci.manifest import ParsedManifest, parse
from distsql.registry.namespace import StoredNamespace
from tests.contract.families import push_blobs, schema1_signed
from tests.registry.pushing import CONFIG, image, index, push_blob, push_image

Sql = psycopg.Connection[tuple[Any, ...]]
NOTATION = "application/vnd.cncf.notary.signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURES = "select tag, s.kind, s.signature_digest from report.signatures s join report.tag_history g using (digest) "
UNSIGNED = "select tag from report.unsigned_images order by 1"
WITHOUT_SBOM = "select tag from report.artifacts_without_sbom order by 1"
STATED = "dev.sigstore.bundle.predicateType"


def cosign_tag(manifest: ParsedManifest, ending: str) -> str:
    return f"sha256-{manifest.digest.encoded}.{ending}"


async def tagged(repository: Repository, tag: str) -> ParsedManifest:
    return await push_image(repository, b"layer", tags=[tag], of=tag)


async def test_signatures_of_every_kind(namespace: StoredNamespace, sql: Sql) -> None:
    """cosign's by tag; notation's and cosign 3's by referrer; Docker's in the manifest, and beside it.

    What was signed and isn't any more is unsigned, and so is what only has another referrer.
    """
    web, expected = namespace.repository("acme/web"), set[tuple[str, str, str]]()
    by_tag = await tagged(web, "by-tag")
    signature = await push_image(web, b"layer", tags=[cosign_tag(by_tag, "sig")], is_a="signature")
    expected.add(("by-tag", "cosign", str(signature.digest)))
    for tag, kind in (("notation", NOTATION), ("bundle", BUNDLE), ("only-sbom", "application/spdx+json")):
        subject = await tagged(web, tag)
        referrer = await push_image(web, b"layer", subject=subject.digest, artifact_type=kind)
        if tag != "only-sbom":
            expected.add((tag, "referrer", str(referrer.digest)))
    await push_blobs(web)
    old = schema1_signed(tag="schema1")
    await web.manifests.put(old, ["schema1"])
    expected.add(("schema1", "jws", str(Digest.of(old.signatures[0]))))
    beside = await tagged(web, "beside")
    await web.signatures.put(beside.digest, b"JWS")
    expected.add(("beside", "jws", str(Digest.of(b"JWS"))))
    no_more = await tagged(web, "no-more")
    gone = await push_image(web, b"layer", subject=no_more.digest, artifact_type=NOTATION)
    await web.manifests.delete(gone.digest)
    await tagged(namespace.repository("acme/other"), "by-tag")  # the same image, signed elsewhere
    live = f"{SIGNATURES} where g.repository = 'acme/web' and s.repository = 'acme/web' and g.valid_to is null"
    assert set(sql.execute(live).fetchall()) == expected
    assert sql.execute(UNSIGNED).fetchall() == [("by-tag",), ("no-more",), ("only-sbom",)]
    assert sql.execute("select count(*) from report.signatures").fetchall() == [(len(expected),)]


async def test_statements_of_what_is_in_an_image(namespace: StoredNamespace, sql: Sql) -> None:
    """By referrer, as a bundle that states something, by cosign's tags, and as BuildKit puts them into the index."""
    web = namespace.repository("acme/web")
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("spdx", "application/spdx+json", {}),
        ("bundle", BUNDLE, {STATED: "https://spdx.dev/Document"}),
        ("only-signed", BUNDLE, {STATED: "https://sigstore.dev/cosign/sign/v1"}),
        ("notation", NOTATION, {}),
    )
    for tag, kind, stated in kinds:
        subject = await tagged(web, tag)
        await push_image(web, b"layer", subject=subject.digest, artifact_type=kind, **stated)
    for ending in ("att", "sbom", "sig"):
        subject = await tagged(web, f"cosign-{ending}")
        await push_image(web, b"layer", tags=[cosign_tag(subject, ending)], about=ending)
    await push_blob(web, b"statement")
    await push_blob(web, CONFIG)
    document = json.loads(image(b"statement").payload)
    document["layers"][0]["mediaType"] = "application/vnd.in-toto+json"
    statement = parse(json.dumps(document).encode())
    child = await push_image(web, b"layer", of="an index")
    await web.manifests.put(statement)
    await web.manifests.put(index(child, statement), ["buildkit"])
    await web.manifests.put(index(child), ["plain-index"])
    without = ["cosign-sig", "notation", "only-signed", "plain-index"]
    assert [tag for (tag,) in sql.execute(WITHOUT_SBOM)] == without
    await web.tags.untag(cosign_tag(await tagged(web, "cosign-att"), "att"))
    assert [tag for (tag,) in sql.execute(WITHOUT_SBOM)] == ["cosign-att", *without]


@pytest.mark.parametrize(
    ("harm", "item", "status"),
    [
        ("alter table audit_events_{month} rename to elsewhere", "partition audit_events_{month}", "missing"),
        (
            (
                "create index worn on turns (next_at); update pg_index set indisvalid = false "
                "where indexrelid = 'worn'::regclass"
            ),
            "index worn",
            "invalid",
        ),
        ("create sequence worn maxvalue 10; select setval('worn', 9)", "sequence worn", "running out"),
    ],
)
def test_health_that_is_bad(sql: Sql, harm: str, item: str, status: str) -> None:
    """Undone at the end."""
    month = "to_char(date_trunc('month', now() at time zone 'UTC') + interval '2 months', 'YYYY_MM')"
    [(told,)] = sql.execute(f"select {month}").fetchall()
    health = "select status from report.schema_health where item = %s"
    with sql.transaction(force_rollback=True):
        assert sql.execute(health, [item.format(month=told)]).fetchall() != [(status,)]
        sql.execute(harm.format(month=told))
        assert sql.execute(health, [item.format(month=told)]).fetchall() == [(status,)]
