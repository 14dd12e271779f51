"""Bearer tokens that somebody else made, or changed: refused over HTTP, wherever they are shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from joserfc import jwt
from joserfc.jwk import ECKey

from distsql.registry.signing_keys import KeyRing, SigningKeys
from distsql.registry.tokens import decode_token, encode_token
from tests.access.conftest import ADMINISTRATOR, World

PRIVATE: Final = "/v2/acme/web/manifests/latest"
STRANGER: Final = ECKey.generate_key("P-256")


class Genuine(NamedTuple):
    """A token of the registry's, in its parts, and the keys that made it."""

    text: str
    keys: KeyRing

    @property
    def header(self) -> dict[str, Any]:
        return _read(self.text.split(".")[0])

    @property
    def claims(self) -> dict[str, Any]:
        return _read(self.text.split(".")[1])

    @property
    def signature(self) -> str:
        return self.text.split(".")[2]

    @property
    def public_key(self) -> bytes:
        return self.keys.signing.key.as_pem(private=False)


def _read(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return found


def _write(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _parts(*parts: dict[str, Any]) -> str:
    return ".".join(_write(json.dumps(part).encode()) for part in parts)


def _unsigned(token: Genuine) -> str:
    return _parts({**token.header, "alg": "none"}, token.claims) + "."


def _unsigned_with_signature(token: Genuine) -> str:
    return f"{_parts({**token.header, 'alg': 'none'}, token.claims)}.{token.signature}"


def _secret_is_the_public_key(token: Genuine) -> str:
    signed = _parts({**token.header, "alg": "HS256"}, token.claims)
    return f"{signed}.{_write(hmac.digest(token.public_key, signed.encode(), hashlib.sha256))}"


def _brings_its_key(token: Genuine) -> str:
    header = {**token.header, "jwk": STRANGER.as_dict(private=False)}
    return jwt.encode(header, token.claims, STRANGER, algorithms=["ES256"])


def _of_a_stranger(token: Genuine) -> str:
    return jwt.encode(token.header, token.claims, STRANGER, algorithms=["ES256"])


def _for_another_service(token: Genuine) -> str:
    """Signed by our own key."""
    now, service = datetime.now(UTC), token.claims["aud"]
    read = decode_token(token.text, token.keys, service=service, now=now)
    return encode_token(read, token.keys, service="elsewhere.example", now=now)


def _for_another_audience(token: Genuine) -> str:
    claims = {**token.claims, "aud": "elsewhere.example"}
    return jwt.encode(token.header, claims, token.keys.signing.key, algorithms=["ES256"])


def _changed(token: Genuine) -> str:
    claims = {**token.claims, "exp": token.claims["exp"] + 60}
    return f"{_parts(token.header, claims)}.{token.signature}"


def _resigned(token: Genuine) -> str:
    """As the changed one, by the right key: what the others lack is the signature alone."""
    claims = {**token.claims, "exp": token.claims["exp"] + 60}
    return jwt.encode(token.header, claims, token.keys.signing.key, algorithms=["ES256"])


FORGED: Final[list[Callable[[Genuine], str]]] = [
    _unsigned,
    _unsigned_with_signature,
    _secret_is_the_public_key,
    _brings_its_key,
    _of_a_stranger,
    _for_another_service,
    _for_another_audience,
    _changed,
]


async def test_forged_tokens_are_refused(world: World) -> None:
    await world.push("acme/web")
    await world.make("acme/ci", "acme/**:pull,push")
    header = await world.token("acme/ci", "repository:acme/web:pull")
    keys = await SigningKeys(world.registry.backend.everything, ADMINISTRATOR).load()
    token = Genuine(header["authorization"].removeprefix("Bearer "), keys)
    for genuine in (token.text, _resigned(token)):
        assert await _statuses(world, genuine) == [200, 200]
    for forge in FORGED:
        assert await _statuses(world, forge(token)) == [401, 401], forge.__name__


async def _statuses(world: World, text: str) -> list[int]:
    return [await world.status("GET", path, {"authorization": f"Bearer {text}"}) for path in ("/v2/", PRIVATE)]
