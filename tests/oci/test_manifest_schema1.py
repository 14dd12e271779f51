"""Docker schema 1, bare and signed (PROTOCOL.md, "Docker's older formats")."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from distsql.errors import DigestInvalidError, ManifestInvalidError, ManifestUnverifiedError
from distsql.oci.digest import Digest
from distsql.oci.manifest import DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED, Role, parse

LAYER = "sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85"
DOCUMENT = {
    "schemaVersion": 1,
    "name": "library/hello",
    "tag": "v1",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": LAYER}, {"blobSum": LAYER}],
    "history": [{"v1Compatibility": '{"id":"b"}'}, {"v1Compatibility": '{"id":"a"}'}],
}
CANONICAL = json.dumps(DOCUMENT, indent=3).encode()
DIGEST = Digest.parse("sha256:d7ac841451e1b055cb2c8c894a53ec17580377171b0cd7018f667a0587ca4d7d")

# Signed with a throwaway P-256 key by the openssl program, which also verified it; the kid is libtrust's. The protected
# header is {"formatLength":484,"formatTail":"Cn0","time":"2015-04-08T18:52:59Z"}.
PROTECTED = "eyJmb3JtYXRMZW5ndGgiOjQ4NCwiZm9ybWF0VGFpbCI6IkNuMCIsInRpbWUiOiIyMDE1LTA0LTA4VDE4OjUyOjU5WiJ9"
BLOCK = {
    "header": {
        "jwk": {
            "crv": "P-256",
            "kid": "CVIG:LSI5:27XO:6SJH:GZAH:T5E5:CUPA:WBZT:PDNN:A623:2P5Y:JDHN",
            "kty": "EC",
            "x": "JBAgyf6UorUndj0ld2L3BMemL5JJjBvMwKfUahFJ4Ik",
            "y": "eoEKKnUeONNttvV-TbKStYmFdeSZyoFqBwsSUCY_7bU",
        },
        "alg": "ES256",
    },
    "signature": "FabghYcVzJmoPr6f8IK25FW-SmJQ4O6rI0hAv9PKgVIvWFXH-mWfcYtxWnN5KOXkDszJQaCPmwqrY3kWy3FTyQ",
    "protected": PROTECTED,
}


def signed(*blocks: Any, canonical: bytes = CANONICAL, more: str = "") -> bytes:
    """The pretty form as libtrust writes it: the signatures come before the canonical text's last brace."""
    text = json.dumps(blocks or [BLOCK], indent=3).replace("\n", "\n   ")
    return canonical[:-2] + f',\n   "signatures": {text}{more}\n}}'.encode()


def encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def protected(header: object) -> str:
    return encode(json.dumps(header).encode())


def test_the_digest_is_that_of_the_canonical_text() -> None:
    """Older formats: signatures are no part of the digest, and the payload stays as pushed (row 0.4)."""
    manifest = parse(signed(), DOCKER_SCHEMA1_SIGNED)
    assert manifest.digest == DIGEST
    assert manifest.payload == signed()
    assert manifest.canonical == CANONICAL
    assert parse(signed(), DOCKER_SCHEMA1_SIGNED, DIGEST) == manifest


def test_what_it_says() -> None:
    manifest = parse(signed())
    assert (manifest.declared_name, manifest.declared_tag) == ("library/hello", "v1")
    assert [(part.role, str(part.descriptor.digest), part.descriptor.length) for part in manifest.parts] == [
        (Role.LAYER, LAYER, 0)
    ] * 2
    assert manifest.references()[0].media_type == "application/vnd.docker.container.image.rootfs.diff+x-gtar"
    assert (manifest.subject, manifest.artifact_type, manifest.config_media_type) == (None, None, None)


def test_signatures_come_apart() -> None:
    """Older formats: each signature is one JSON object, in one form."""
    manifest = parse(signed())
    assert [json.loads(signature) for signature in manifest.signatures] == [BLOCK]
    assert b"\n" not in manifest.signatures[0]
    reordered = dict(reversed(BLOCK.items()))
    assert parse(signed(reordered)).signatures == manifest.signatures


def test_several_signatures() -> None:
    other = {**BLOCK, "protected": protected({"formatTail": "Cn0", "formatLength": 484, "time": "later"})}
    manifest = parse(signed(BLOCK, other))
    assert manifest.digest == DIGEST
    assert len(manifest.signatures) == len(set(manifest.signatures)) == 2


@pytest.mark.parametrize("media_type", [DOCKER_SCHEMA1, None, "application/json", "application/json; charset=utf-8"])
def test_unsigned(media_type: str | None) -> None:
    """Older formats: without signatures the payload is the canonical text; old clients send plain JSON."""
    manifest = parse(CANONICAL, media_type)
    assert (manifest.media_type, manifest.digest, manifest.signatures) == (DOCKER_SCHEMA1, DIGEST, ())
    assert parse(signed(), media_type or "application/json").digest == DIGEST
    assert parse(signed()).media_type == DOCKER_SCHEMA1_SIGNED


@pytest.mark.parametrize("signatures", ["absent", None, []])
def test_signed_means_signed(signatures: list[str] | str | None) -> None:
    """Older formats: MANIFEST_UNVERIFIED for a signed media type without signatures."""
    document = {**DOCUMENT, "signatures": signatures} if signatures != "absent" else DOCUMENT
    payload = json.dumps(document).encode()
    with pytest.raises(ManifestUnverifiedError):
        parse(payload, DOCKER_SCHEMA1_SIGNED)
    assert parse(payload, DOCKER_SCHEMA1).digest == Digest.of(payload)


def test_the_wrong_digest() -> None:
    """Row 3.2: also the digest of the payload with its signatures is wrong, however they are spelled."""
    for payload in (signed(), signed().replace(b'"signatures"', b'"s\\u0069gnatures"')):
        assert parse(payload, None).digest == DIGEST
        for digest in (Digest.of(payload), Digest.of(b"x")):
            with pytest.raises(DigestInvalidError):
                parse(payload, None, digest)
    assert parse(signed(), None, Digest.of(CANONICAL, "sha512")).digest.algorithm == "sha512"


@pytest.mark.parametrize(
    "payload",
    [
        signed(more=',\n   "evil": true'),
        signed().replace(b'"tag": "v1"', b'"tag": "v2"').replace(b'"v1",', b'"v2",'),
        signed(canonical=CANONICAL.replace(b"hello", b"hallo"))[:-2] + b',"name2":1}',
    ],
)
def test_what_is_signed_is_what_is_read(payload: bytes) -> None:
    """CVE-2021-41190's kind: readers of the whole and of the signed text must not see different manifests."""
    try:
        manifest = parse(payload)
    except (ManifestInvalidError, ManifestUnverifiedError):
        return
    document = json.loads(payload)
    document.pop("signatures")
    assert json.loads(manifest.canonical) == document


@pytest.mark.parametrize(
    "block",
    [
        None,
        "x",
        {},
        {"protected": PROTECTED},
        {"signature": "x"},
        {"signature": 1, "protected": PROTECTED},
        {"signature": "x", "protected": 5},
        {"signature": "x", "protected": "not base64!"},
        {"signature": "x", "protected": PROTECTED + "="},
        {"signature": "x", "protected": "a"},
        {"signature": "x", "protected": ""},
        {"signature": "x", "protected": encode(b"[]")},
        {"signature": "x", "protected": encode(b"\xff")},
        {"signature": "x", "protected": protected({})},
        {"signature": "x", "protected": protected({"formatLength": 484})},
        {"signature": "x", "protected": protected({"formatTail": "Cn0"})},
        {"signature": "x", "protected": protected({"formatLength": 484, "formatTail": 5})},
        {"signature": "x", "protected": protected({"formatLength": 484, "formatTail": "!"})},
        {"signature": "x", "protected": protected({"formatLength": "484", "formatTail": "Cn0"})},
        {"signature": "x", "protected": protected({"formatLength": -1, "formatTail": "Cn0"})},
    ],
)
def test_malformed_signatures(block: dict[str, object] | str | None) -> None:
    """HAZARDS.md: a signature block that doesn't lead to the signed text, alone or behind a good one."""
    for payload in (signed(block), signed(BLOCK, block)):
        with pytest.raises(ManifestInvalidError):
            parse(payload, DOCKER_SCHEMA1_SIGNED)


@pytest.mark.parametrize(
    "header",
    [
        {"formatLength": 10**9, "formatTail": "Cn0"},
        {"formatLength": 483, "formatTail": "Cn0"},
        {"formatLength": 484, "formatTail": encode(b',"evil":1}')},
        {"formatLength": 0, "formatTail": encode(b'{"schemaVersion":1}')},
    ],
)
def test_signatures_of_another_text(header: dict[str, object]) -> None:
    """Older formats: a foreign signature is MANIFEST_UNVERIFIED, alone or behind a good one."""
    block = {"signature": "x", "protected": protected(header)}
    for payload in (signed(block), signed(BLOCK, block)):
        with pytest.raises(ManifestUnverifiedError, match="signs another text"):
            parse(payload, DOCKER_SCHEMA1_SIGNED)


def test_what_python_takes_for_equal_is_not_the_same() -> None:
    """CVE-2021-41190's kind: true is no 1, although Python says so."""
    tail = encode(b',\n   "more": 1\n}')
    block = {"signature": "x", "protected": protected({"formatLength": 484, "formatTail": tail})}
    assert parse(signed(block, more=',\n   "more": 1')).canonical.endswith(b'"more": 1\n}')
    with pytest.raises(ManifestUnverifiedError, match="signs another text"):
        parse(signed(block, more=',\n   "more": true'))


def test_too_many_signatures() -> None:
    assert len(parse(signed(*[BLOCK] * 16)).signatures) == 16
    with pytest.raises(ManifestInvalidError, match="at most 16"):
        parse(signed(*[BLOCK] * 17))


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"schemaVersion": 2}, "schemaVersion"),
        ({"layers": []}, "layers"),
        ({"FsLayers": []}, "FsLayers"),
        ({"fsLayers": {}}, "fsLayers"),
        ({"fsLayers": [LAYER], "history": None}, r"fsLayers\[0\]"),
        ({"fsLayers": [{}], "history": None}, r"fsLayers\[0\].blobSum"),
        ({"fsLayers": [{"blobSum": "tarsum.v1+sha256:" + "a" * 64}], "history": None}, r"fsLayers\[0\].blobSum"),
        ({"history": [{}]}, "history"),
        ({"name": 5}, "name"),
        ({"tag": []}, "tag"),
        ({"signatures": {}}, "signatures"),
    ],
)
def test_refused(changes: dict[str, Any], at: str) -> None:
    with pytest.raises(ManifestInvalidError, match=f"^{at}:"):
        parse(json.dumps({**DOCUMENT, **changes}).encode(), DOCKER_SCHEMA1)


def test_no_layers() -> None:
    """Row 3.4: no layers."""
    payload = json.dumps({"schemaVersion": 1, "fsLayers": None}).encode()
    manifest = parse(payload)
    assert (manifest.references(), manifest.declared_name, manifest.declared_tag) == ((), None, None)


LABELS = '{"id":"b","config":{"Labels":{"stage":"testing","number":1}}}'


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ([LABELS, '{"config":{"Labels":{"stage":"older"}}}'], {"stage": "testing"}),
        (["{}", LABELS], {}),  # an older layer's
        (['{"config":{"Labels":null}}', LABELS], {}),
        (["no json", LABELS], {}),
        (["[]", LABELS], {}),
        (['{"config":{"Labels":{"nul":"\\u0000"}}}', LABELS], {}),
        ([7, LABELS], {}),
        ([], {}),
    ],
)
def test_labels_are_those_of_the_newest_config(history: list[object], found: dict[str, str]) -> None:
    """Whatever is in there, it is no reason to refuse the manifest."""
    document = {**DOCUMENT, "history": [{"v1Compatibility": each} for each in history]}
    assert parse(json.dumps(document).encode(), DOCKER_SCHEMA1).labels == found


def test_others_have_their_labels_elsewhere() -> None:
    assert parse(b'{"history": [{"v1Compatibility": "{}"}]}', "application/vnd.example.thing+json").labels == {}
