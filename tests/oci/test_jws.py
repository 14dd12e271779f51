"""Schema 1's signatures (PROTOCOL.md, "Docker's older formats"): RS256, ES256 and the keys' kid are verified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from distsql.errors import ManifestInvalidError, ManifestUnverifiedError
from distsql.oci.jws import verify_signatures
from distsql.oci.manifest import DOCKER_SCHEMA1_SIGNED, parse
from tests.libtrust import Block, Signer, elliptic, encode, number, p256, pretty, rsa_key, signed
from tests.oci import test_manifest_schema1 as vectors

CANONICAL = vectors.CANONICAL
ANN, BOB = p256("ann"), p256("bob")


def verify(payload: bytes) -> None:
    verify_signatures(parse(payload, DOCKER_SCHEMA1_SIGNED))


def refused(*blocks: Block, because: str | None = None) -> None:
    """Alone, behind a good signature, and before one."""
    good = BOB.block(CANONICAL)
    for each in (blocks, (good, *blocks), (*blocks, good)):
        with pytest.raises(ManifestUnverifiedError, match=because):
            verify(pretty(CANONICAL, *each))


def changed(block: Block, **header: object) -> Block:
    return {**block, "header": {**block["header"], **header}}


def test_a_signature_made_by_openssl_is_true() -> None:
    verify(vectors.signed())


def test_rsa_and_p256_sign() -> None:
    """RS256 and ES256, alone and beside each other; each signature is looked at."""
    verify(signed(CANONICAL, ANN))
    verify(signed(CANONICAL, rsa_key()))
    verify(signed(CANONICAL, ANN, rsa_key(), BOB))


def test_no_signature_is_no_proof() -> None:
    with pytest.raises(ManifestUnverifiedError):
        verify_signatures(parse(CANONICAL))


def test_a_large_manifest_is_verified() -> None:
    """Longer than what joserfc takes for a token's payload."""
    document = {"schemaVersion": 1, "fsLayers": [], "note": "x" * 300_000}
    canonical = json.dumps(document, indent=3).encode()
    verify(signed(canonical, ANN))
    with pytest.raises(ManifestUnverifiedError):
        verify(signed(canonical, ANN).replace(b"xxxxxxxx", b"xxxxyxxx", 1))


def test_a_changed_manifest() -> None:
    payload = signed(CANONICAL, ANN).replace(b'"tag": "v1"', b'"tag": "v2"')
    with pytest.raises(ManifestUnverifiedError):
        verify(payload)


@pytest.mark.parametrize("signer", [ANN, rsa_key()], ids=["P-256", "RSA"])
def test_wrong_signatures(signer: Signer) -> None:
    """MANIFEST_UNVERIFIED: a signature that was cut, changed, lengthened, left out, or is of another text."""
    block = signer.block(CANONICAL)
    signature = base64.urlsafe_b64decode(block["signature"] + "==")
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for wrong in (b"", b"\0" * len(signature), signature[:-1], flipped, signature + b"\0", signature[::-1]):
        refused({**block, "signature": encode(wrong)})
    for text in ("!", block["signature"] + "=", block["signature"] + "\n", "ü", "x" * 100_000):
        refused({**block, "signature": text})
    other = signer.block(CANONICAL.replace(b"amd64", b"arm64"))
    assert other["protected"] == block["protected"]
    refused(other)
    refused({**block, "protected": signer.block(CANONICAL, protected={"time": "later"})["protected"]})


def test_a_signature_in_der() -> None:
    """RFC 7518, section 3.4: r and s side by side, and not as ASN.1 has them."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = elliptic(key, "ES256", "P-256", 32)
    refused(replace(signer, sign=lambda data: key.sign(data, ec.ECDSA(SHA256()))).block(CANONICAL))


@pytest.mark.parametrize(
    "jwk", [None, "x", [], {}, {"kty": "oct", "k": encode(b"secret")}, {"kty": "OKP", "crv": "Ed25519", "x": "x"}]
)
def test_no_key_or_one_of_another_kind(jwk: object) -> None:
    refused(changed(ANN.block(CANONICAL), jwk=jwk), because="jwk|of another kind")


@pytest.mark.parametrize("header", ["absent", None, "x", 5, [], ["alg"], {}])
def test_no_header(header: object) -> None:
    block = ANN.block(CANONICAL)
    block["header"] = header
    if header == "absent":
        del block["header"]
    refused(block)


def test_somebody_elses_key() -> None:
    """A foreign key doesn't verify; and a kid that belongs to another key than the jwk is refused by itself."""
    refused(changed(ANN.block(CANONICAL), jwk=dict(BOB.jwk)))
    for kid in (BOB.kid, None, "", "x", 5, [], str(ANN.kid).lower(), str(ANN.kid).replace(":", "")):
        refused(ANN.claiming(kid=kid).block(CANONICAL), because="kid belongs to another key")
    without = {name: value for name, value in ANN.jwk.items() if name != "kid"}
    refused(replace(ANN, jwk=without).block(CANONICAL), because="kid")


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "", None, 5, [], {}, "HS256", "RS256", "RS1", "RS512", "PS256", "ES384", "EdDSA"]
)
def test_other_algorithms(algorithm: object) -> None:
    """Only RS256 and ES256, each with its own kind of key."""
    refused(changed(ANN.block(CANONICAL), alg=algorithm))
    if algorithm == "none":
        refused({**changed(ANN.block(CANONICAL), alg=algorithm), "signature": ""})
    if algorithm != "RS256":
        refused(changed(rsa_key().block(CANONICAL), alg=algorithm))
    refused(changed(rsa_key().block(CANONICAL), alg="ES256"))


def test_no_algorithm() -> None:
    block = ANN.block(CANONICAL)
    del block["header"]["alg"]
    refused(block)


def _hmac(secret: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, data, hashlib.sha256)


def test_the_public_key_as_a_secret() -> None:
    """The classic confusion: HS256 with what everybody knows of the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = elliptic(key, "HS256", "P-256", 32)
    for secret in (str(signer.jwk["x"]).encode(), json.dumps(dict(signer.jwk)).encode()):
        forged = replace(signer, sign=partial(_hmac, secret))
        refused(forged.block(CANONICAL))
        refused(replace(forged, jwk={**signer.jwk, "kty": "oct", "k": encode(secret)}).block(CANONICAL))


@pytest.mark.parametrize(
    "protected", [{"alg": "ES256"}, {"alg": "none"}, {"jwk": dict(BOB.jwk)}, {"crit": ["exp"]}, {"crit": []}]
)
def test_headers_that_readers_may_take_differently(protected: dict[str, object]) -> None:
    """RFC 7515, sections 4.1.11 and 7.2.1: nothing stands in both headers, and nothing critical is skipped."""
    refused(ANN.block(CANONICAL, protected=protected))


def test_a_payload_that_says_it_is_not_encoded() -> None:
    """RFC 7797 is no part of libtrust's form."""
    refused(ANN.block(CANONICAL, protected={"b64": False}))
    refused(changed(ANN.block(CANONICAL), crit=["b64"], b64=False))


def test_chains_of_certificates() -> None:
    """Nobody here could say whom to trust: a chain is refused, alone and beside a key."""
    block = changed(ANN.block(CANONICAL), x5c=[encode(b"a certificate")])
    refused(block, because="no x5c")
    del block["header"]["jwk"]
    refused(block, because="no x5c")


@pytest.mark.parametrize("bits", [1024, 2047])
def test_small_rsa_keys(bits: int) -> None:
    refused(rsa_key(bits).block(CANONICAL), because=f"RSA key of {bits} bits")


def test_numbers_that_would_take_long() -> None:
    """Bounds come before arithmetic: 8192 bits, four bytes of exponent, 32 bytes of a coordinate."""
    long = number(2**8192 + 1)
    refused(rsa_key().claiming(n=long).block(CANONICAL), because="1366 characters")
    refused(rsa_key().claiming(n="_" * 1366).block(CANONICAL), because="8196 bits|not true")
    refused(rsa_key().claiming(e=long).block(CANONICAL), because="6 characters")
    refused(ANN.claiming(x=long).block(CANONICAL), because="43 characters")
    assert len(number(2**8192 - 1)) == 1366


@pytest.mark.parametrize("name", ["n", "e"])
@pytest.mark.parametrize("value", [None, 5, "", "A", "AQ==", "!", "ü", "AA", "AQ", "Ag"])
def test_malformed_rsa_keys(name: str, value: object) -> None:
    refused(rsa_key().claiming(**{name: value}).block(CANONICAL))


@pytest.mark.parametrize("value", [None, 5, "", "A", "A" * 42, "!" * 43, "ü" * 43, "A" * 43, "_" * 43])
def test_malformed_points(value: object) -> None:
    refused(ANN.claiming(x=value).block(CANONICAL))
    refused(ANN.claiming(x=value, y=value).block(CANONICAL))


@pytest.mark.parametrize("curve", [None, 5, [], "", "P-384", "secp256k1", "p-256"])
def test_other_curves(curve: object) -> None:
    refused(ANN.claiming(crv=curve).block(CANONICAL), because="of another kind")
    key = ec.generate_private_key(ec.SECP384R1())
    refused(elliptic(key, "ES384", "P-384", 48).block(CANONICAL), because="of another kind|not allowed")


def test_a_private_key_is_read_as_what_everybody_may_know_of_it() -> None:
    verify(signed(CANONICAL, ANN.claiming(d="nonsense", use="enc", key_ops=["decrypt"], alg="none")))


def test_the_same_signature_many_times() -> None:
    block = ANN.block(CANONICAL)
    verify(pretty(CANONICAL, *[block] * 16))
    with pytest.raises(ManifestInvalidError):
        verify(pretty(CANONICAL, *[block] * 17))
