"""Signs manifests exactly as Docker's libtrust does, by other code than the one that verifies them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Block = dict[str, Any]

TIME: Final = "2015-04-08T18:52:59Z"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8))


@dataclass(frozen=True)
class Signer:
    """A key, and how it signs; tests replace parts of it with what an attacker would have."""

    algorithm: str
    jwk: Mapping[str, object]
    sign: Callable[[bytes], bytes]

    @property
    def kid(self) -> object:
        return self.jwk["kid"]

    def block(self, canonical: bytes, *, protected: Mapping[str, object] | None = None) -> Block:
        """A signature of the text that has to go before its last brace."""
        head = canonical[:-1].rstrip()
        format_ = {"formatLength": len(head), "formatTail": encode(canonical[len(head) :]), "time": TIME}
        encoded = encode(json.dumps(format_ | dict(protected or {}), separators=(",", ":")).encode())
        signature = self.sign(f"{encoded}.{encode(canonical)}".encode())
        header = {"jwk": dict(self.jwk), "alg": self.algorithm}
        return {"header": header, "signature": encode(signature), "protected": encoded}

    def claiming(self, **jwk: object) -> Signer:
        """The same signer, who says something else about the key."""
        return replace(self, jwk={**self.jwk, **jwk})


def pretty(canonical: bytes, *blocks: Block) -> bytes:
    """The signed manifest: libtrust's `PrettySignature("signatures")`."""
    text = json.dumps(list(blocks), indent=3).replace("\n", "\n   ")
    return canonical[:-1].rstrip() + f',\n   "signatures": {text}\n}}'.encode()


def signed(canonical: bytes, *signers: Signer) -> bytes:
    return pretty(canonical, *(signer.block(canonical) for signer in signers))


@cache
def p256(name: str) -> Signer:
    """A signer on P-256, another one for each name."""
    key = ec.derive_private_key(1 + int.from_bytes(hashlib.sha256(name.encode()).digest()) % 2**255, ec.SECP256R1())
    return elliptic(key, "ES256", "P-256", 32)


def elliptic(key: ec.EllipticCurvePrivateKey, algorithm: str, curve: str, size: int) -> Signer:
    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(size) + s.to_bytes(size)

    point = key.public_key().public_numbers()
    numbers = {"crv": curve, "x": number(point.x, size), "y": number(point.y, size)}
    return Signer(algorithm, {"kty": "EC", **numbers, "kid": kid(key.public_key())}, sign)


@cache
def rsa_key(bits: int = 2048) -> Signer:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    public = key.public_key().public_numbers()
    numbers = {"n": number(public.n), "e": number(public.e)}
    jwk = {"kty": "RSA", **numbers, "kid": kid(key.public_key())}
    return Signer("RS256", jwk, lambda data: key.sign(data, padding.PKCS1v15(), SHA256()))


def kid(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    """libtrust's `keyIDFromCryptoKey`."""
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, 48, 4))
