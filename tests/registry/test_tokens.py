"""Tokens, as pure values: what is signed comes back, and nothing else does (HAZARDS, "Tokens and secrets")."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from distsql.errors import CredentialsInvalidError
from distsql.oci.names import RepositoryName
from distsql.registry.signing_keys import KeyRing, SigningKey, new_key
from distsql.registry.tokens import (
    Access,
    RefreshToken,
    Token,
    decode_refresh_token,
    decode_token,
    encode_refresh_token,
    encode_token,
)
from distsql.values import Action

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERVICE = "registry.example"
KEY = new_key()
KEYS = KeyRing.of([KEY])
TOKEN = Token(
    (3, 17),
    2,
    NOW + timedelta(minutes=5),
    {
        "acme/web": Access(RepositoryName("acme", "web"), frozenset({Action.PULL, Action.PUSH}), 77, 3),
        "acme/new": Access(
            RepositoryName("acme", "new"), frozenset({Action.PUSH}), None, 3, since=NOW.replace(microsecond=123_456)
        ),
        "other/web": Access(RepositoryName("other", "web"), frozenset(), 78, 4, public=True),
    },
    catalog=True,
    kid=KEY.kid,
)
# What a token of ours says, to be changed in one place.
CLAIMS = {
    "iss": SERVICE,
    "aud": SERVICE,
    "iat": int(NOW.timestamp()),
    "nbf": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 300,
    "account": [3, 17],
    "generation": 2,
    "access": [],
}
HEADER = {"alg": "ES256", "kid": KEY.kid, "typ": "JWT"}


def decode(text: str, *, now: datetime = NOW, keys: KeyRing = KEYS, service: str = SERVICE) -> Token:
    return decode_token(text, keys, service=service, now=now)


def signed(claims: dict[str, Any], header: dict[str, Any] | None = None, key: ECKey = KEY.key) -> str:
    return jwt.encode(header or HEADER, claims, key, algorithms=["ES256"])


def without_signature(header: dict[str, Any], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(CLAIMS).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_what_was_signed_comes_back() -> None:
    text = encode_token(TOKEN, KEYS, service=SERVICE, now=NOW)
    found = decode(text)
    assert replace(found, id="") == TOKEN
    assert found.id, "the audit names it"
    assert decode(encode_token(Token(None, 0, TOKEN.expires_at), KEYS, service=SERVICE, now=NOW)).account is None


def test_refresh_tokens_come_back() -> None:
    token = RefreshToken((3, 17), 5, NOW + timedelta(days=30), KEY.kid)
    text = encode_refresh_token(token, KEYS, service=SERVICE, now=NOW)
    assert decode_refresh_token(text, KEYS, service=SERVICE, now=NOW) == token


def test_neither_kind_is_taken_for_the_other() -> None:
    """A refresh token opens nothing, and an access token refreshes nothing."""
    refresh = encode_refresh_token(RefreshToken((3, 17), 5, TOKEN.expires_at), KEYS, service=SERVICE, now=NOW)
    with pytest.raises(CredentialsInvalidError):
        decode(refresh)
    with pytest.raises(CredentialsInvalidError):
        decode_refresh_token(encode_token(TOKEN, KEYS, service=SERVICE, now=NOW), KEYS, service=SERVICE, now=NOW)


def test_the_claims_that_the_attacks_begin_with_are_good() -> None:
    assert decode(signed(CLAIMS)).account == (3, 17)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "elsewhere.example"},
        {"iss": None},
        {"aud": "elsewhere.example"},
        {"aud": []},
        {"aud": f"{SERVICE}/token"},
        {"exp": CLAIMS["nbf"]},
        {"exp": "tomorrow"},
        {"exp": None},
        {"nbf": CLAIMS["exp"]},
        {"nbf": None},
        {"account": [3]},
        {"account": "3,17"},
        {"access": None},
        {"access": [{"type": "repository", "name": "../x"}]},
        {"access": ["everything"]},
        {"generation": None, "access": [{}]},
    ],
    ids=str,
)
def test_claims_that_are_wrong(wrong: dict[str, Any]) -> None:
    """Even under our own signature: another service's, of another time, or of another shape."""
    with pytest.raises(CredentialsInvalidError):
        decode(signed({**CLAIMS, **wrong}))


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "nbf", "account", "access", "generation"])
def test_claims_that_are_missing(name: str) -> None:
    claims = {key: value for key, value in CLAIMS.items() if key != name}
    with pytest.raises(CredentialsInvalidError):
        decode(signed(claims))


def test_another_service_of_the_same_keys() -> None:
    """A copy of the catalogue behind another URL takes none of this one's tokens."""
    with pytest.raises(CredentialsInvalidError):
        decode(encode_token(TOKEN, KEYS, service=SERVICE, now=NOW), service="copy.example")


def test_a_token_ends_to_the_second() -> None:
    """Leeway for clocks is for beginnings only."""
    text = encode_token(TOKEN, KEYS, service=SERVICE, now=NOW)
    assert decode(text, now=TOKEN.expires_at - timedelta(seconds=1)).expires_at == TOKEN.expires_at
    for late in (timedelta(0), timedelta(seconds=1), timedelta(days=365)):
        with pytest.raises(CredentialsInvalidError):
            decode(text, now=TOKEN.expires_at + late)


STRANGER = ECKey.generate_key("P-256")


def bring_own_key(name: str) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {
        "jwk": {"jwk": STRANGER.as_dict(private=False)},
        "jku": {"jku": "https://attacker.example/keys"},
        "x5u": {"x5u": "https://attacker.example/chain"},
        "x5c": {"x5c": [base64.b64encode(STRANGER.as_der(private=False)).decode()]},
    }
    return own[name]


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
@pytest.mark.parametrize("kid", ["ours", "theirs", "none"])
def test_a_key_that_comes_with_the_token_is_not_trusted(name: str, kid: str) -> None:
    """CVE-2025-24976."""
    kids = {"ours": {"kid": KEY.kid}, "theirs": {"kid": STRANGER.thumbprint()}, "none": {}}
    header = {"alg": "ES256", "typ": "JWT", **kids[kid], **bring_own_key(name)}
    with pytest.raises(CredentialsInvalidError):
        decode(signed(CLAIMS, header, STRANGER))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_ours_says_nothing_else_in_its_header(name: str) -> None:
    """Not even under our own signature is there anything to look up."""
    with pytest.raises(CredentialsInvalidError):
        decode(signed(CLAIMS, {**HEADER, **bring_own_key(name)}))


def test_a_known_name_on_another_key() -> None:
    with pytest.raises(CredentialsInvalidError):
        decode(signed(CLAIMS, HEADER, STRANGER))


@pytest.mark.parametrize("kid", [None, "", "unknown", 7, ["x"], {"kid": 1}])
def test_names_of_keys_that_are_not_ours(kid: object) -> None:
    with pytest.raises(CredentialsInvalidError):
        decode(without_signature({**HEADER, "kid": kid}, b"\0" * 64))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, "HS256", "RS256", "ES384", "EdDSA", 1])
def test_other_algorithms(algorithm: object) -> None:
    for signature in (b"", b"\0" * 64):
        with pytest.raises(CredentialsInvalidError):
            decode(without_signature({**HEADER, "alg": algorithm}, signature))


@pytest.mark.parametrize(
    "secret",
    [KEY.key.as_pem(private=False), KEY.key.as_der(private=False), KEY.kid.encode()],
    ids=["PEM", "DER", "kid"],
)
def test_our_public_key_is_no_shared_secret(secret: bytes) -> None:
    """HS256 under what everybody may know."""
    head = without_signature({**HEADER, "alg": "HS256"}).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(hmac.digest(secret, head.encode(), "sha256")).rstrip(b"=").decode()
    text = f"{head}.{signature}"
    with pytest.raises(CredentialsInvalidError):
        decode(text)


def test_a_key_of_another_kind_under_our_name() -> None:
    text = jwt.encode({**HEADER, "alg": "RS256"}, CLAIMS, RSAKey.generate_key(2048), algorithms=["RS256"])
    with pytest.raises(CredentialsInvalidError):
        decode(text)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "x", ["unknown"]], ids=str)
def test_what_is_critical_and_unknown(crit: object) -> None:
    """RFC 7515, section 4.1.11."""
    for more in ({"crit": crit}, {"crit": crit, "unknown": 1, "b64": True}):
        with pytest.raises(CredentialsInvalidError):
            decode(without_signature({**HEADER, **more}, b"\0" * 64))


def tamper_signature(text: str) -> str:
    head, _, signature = text.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


@pytest.mark.parametrize(
    "change",
    [
        tamper_signature,
        lambda text: text.rpartition(".")[0] + ".",
        lambda text: text.rpartition(".")[0],
        lambda text: text + ".",
        lambda text: text + "A" * 40_000,
        lambda text: ".".join([*text.split(".")[:1], "e30", text.split(".")[2]]),
        lambda text: json.dumps({"payload": text.split(".")[1], "signatures": []}),
        lambda text: "",
        lambda text: "...",
        lambda text: "\0.ü.\ud800",
    ],
    ids=range(10),
)
def test_text_that_was_changed(change: Callable[[str], str]) -> None:
    with pytest.raises(CredentialsInvalidError):
        decode(change(encode_token(TOKEN, KEYS, service=SERVICE, now=NOW)))


def test_keys_rotate_with_a_grace() -> None:
    """What an old key signed counts until its end; what is signed from now on is the new key's."""
    ends = NOW + timedelta(minutes=1)
    new = new_key()
    ring = KeyRing.of([new, SigningKey(KEY.kid, KEY.key, ends)])
    old_text = encode_token(TOKEN, KEYS, service=SERVICE, now=NOW)
    assert decode(old_text, keys=ring).kid == KEY.kid
    with pytest.raises(CredentialsInvalidError):
        decode(old_text, keys=ring, now=ends)
    with pytest.raises(CredentialsInvalidError):
        decode(old_text, keys=KeyRing.of([new]))
    assert decode(encode_token(TOKEN, ring, service=SERVICE, now=NOW), keys=ring).kid == new.kid


def test_a_token_says_no_secret() -> None:
    """Whoever holds it may read it: ids and names, and nothing of keys or hashes."""
    payload = encode_token(TOKEN, KEYS, service=SERVICE, now=NOW).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert set(claims) == {"iss", "aud", "iat", "nbf", "exp", "jti", "account", "generation", "access"}
