"""Whether a manifest's JSON Web Signatures are true (RFC 7515), in the form of libtrust, Docker's library for them.

Each signature brings the public key that verifies it, ``header.jwk``. So a true one tells that the holder of this key
signed this manifest; who that is, and whether to trust them, it doesn't tell.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from distsql.errors import ManifestUnverifiedError
from distsql.oci.manifest import ParsedManifest
from distsql.oci.manifest.document import Document
from distsql.oci.manifest.schema1 import decode_base64url

ALGORITHMS: Final = ("ES256", "RS256")
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192

# In characters of base64url, looked at before anything is computed with them.
_COORDINATE: Final = 43  # of a P-256 point, always 32 bytes (RFC 7518, section 6.2.1.2)
_MAX_MODULUS: Final = 1366  # of MAX_RSA_BITS; a signature has the same length
_MAX_EXPONENT: Final = 6  # 4 bytes, as Go has it: the work of verifying grows with it


class _Registry(jws.JWSRegistry):
    """joserfc's own bounds are meant for tokens. How long a manifest may be is decided where it comes in."""

    max_payload_length = sys.maxsize
    max_signature_length = _MAX_MODULUS


# libtrust's formatLength, formatTail and time are no registered header parameters.
_REGISTRY: Final = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


def verify_signatures(manifest: ParsedManifest) -> None:
    """Raises `ManifestUnverifiedError` unless the manifest has signatures, and every one is true.

    Takes half a millisecond for each of the usual ones, and more the longer the key and the manifest are.
    """
    blocks = [json.loads(signature) for signature in manifest.signatures]
    for block in blocks:
        _check_headers(block)
    content = base64.urlsafe_b64encode(manifest.canonical).rstrip(b"=").decode()
    whole: jws.GeneralJSONSerialization = {"payload": content, "signatures": blocks}
    try:
        jws.deserialize_json(whole, lambda signature: _import_key(signature.headers()["jwk"]), registry=_REGISTRY)
    except (JoseError, ValueError) as error:
        raise ManifestUnverifiedError(f"the manifest's signatures are not true: {error}") from error


def _check_headers(block: Document) -> None:
    """A signature brings its key along in its header, and its protected header says nothing else about it."""
    header, protected = block.get("header"), json.loads(decode_base64url(block["protected"]))
    # Nobody here could say which certificates to trust, and a chain that nobody checks only looks like more.
    if not isinstance(header, dict) or not isinstance(header.get("jwk"), dict) or "x5c" in header:
        raise ManifestUnverifiedError("a signature has to bring its key as a jwk in its header, and no x5c")
    # RFC 7515, section 7.2.1: a name stands in one of the two, else readers may differ in which they take. And nothing
    # of libtrust's is critical (section 4.1.11).
    if wrong := (header.keys() | {"crit"}) & protected.keys():
        raise ManifestUnverifiedError(f"{min(wrong)[:40]!a} has no place in a signature's protected header")


def _import_key(jwk: Mapping[str, object]) -> ECKey | RSAKey:
    """The key, once its size and its kid are right. What else the jwk says takes no part."""
    key: ECKey | RSAKey
    if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
        x, y = (_member(jwk, name, _COORDINATE) for name in ("x", "y"))
        if len(x) != _COORDINATE or len(y) != _COORDINATE:
            raise ManifestUnverifiedError("a coordinate of a key on P-256 has 32 bytes")
        key = ECKey.import_key({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    elif jwk.get("kty") == "RSA":
        n, e = _member(jwk, "n", _MAX_MODULUS), _member(jwk, "e", _MAX_EXPONENT)
        bits = int.from_bytes(decode_base64url(n)).bit_length()
        if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            raise ManifestUnverifiedError(f"an RSA key of {bits} bits: {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken")
        key = RSAKey.import_key({"kty": "RSA", "n": n, "e": e})
    else:
        raise ManifestUnverifiedError("a signature's key is of another kind than P-256 or RSA")
    if jwk.get("kid") != fingerprint(key):
        raise ManifestUnverifiedError(f"a signature's kid belongs to another key than its jwk, {fingerprint(key)}")
    return key


def _member(jwk: Mapping[str, object], name: str, most: int) -> str:
    value = jwk.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise ManifestUnverifiedError(f"a signature's key has no {name}, or one of more than {most} characters")
    return value


def fingerprint(key: ECKey | RSAKey) -> str:
    """The ``kid`` that libtrust gives a key: 240 bits of the SHA-256 of its DER form, in twelve words of base32."""
    text = base64.b32encode(hashlib.sha256(key.as_der(private=False)).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))
