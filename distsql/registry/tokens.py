"""Tokens as pure values: what they say, and the JSON Web Tokens (RFC 7519) that carry it. No I/O.

A token names ids: of the tenant, the account, and each repository that there was when it was issued. So it opens
nothing that got one of their names later.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol

from distsql.errors import CredentialsInvalidError, NameInvalidError
from distsql.oci.names import RepositoryName
from distsql.registry.signing_keys import ALGORITHM, KeyRing
from distsql.values import Action

ACCESS_LIFETIME: Final = timedelta(minutes=5)
REFRESH_LIFETIME: Final = timedelta(days=30)
MAX_LENGTH: Final = 32 * 1024

_HEADER: Final = {"alg", "kid", "typ"}
# Clocks of the machines that issue and verify.
_LEEWAY_S: Final = 30
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Access:
    """What may be done in one repository.

    ``repository_id`` is None for a name that was free at ``since``: it means the first repository that gets it
    afterwards, and no later one. ``public``: it may be pulled from for as long as it is public.
    """

    name: RepositoryName
    actions: frozenset[Action]
    repository_id: int | None
    tenant_id: int
    public: bool = False
    since: datetime | None = None

    @property
    def shown(self) -> frozenset[Action]:
        """What it allows, as long as what is public stays so."""
        return self.actions | {Action.PULL} if self.public else self.actions


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Without an account it is anonymous: everything in it is public."""

    account: tuple[int, int] | None
    """The tenant's id and the account's."""
    generation: int
    expires_at: datetime
    accesses: Mapping[str, Access] = field(default_factory=dict)
    """By the repository's full name."""
    catalog: bool = False
    kid: str = ""
    id: str = ""
    """As the audit remembers it."""


def token_id(text: str) -> str:
    """Tells tokens apart, and opens nothing: the beginning of its SHA-256."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Stands for the account's secret where access tokens are asked for, and nowhere else."""

    account: tuple[int, int]
    generation: int
    expires_at: datetime
    kid: str = ""


def encode_token(token: Token, keys: KeyRing, *, service: str, now: datetime) -> str:
    """The token as text, signed."""
    accesses = [_access_claim(each) for each in token.accesses.values()]
    catalog = [{"type": "registry", "name": "catalog", "actions": ["*"]}] if token.catalog else []
    claims = {**_account_claims(token.account, token.generation), "access": [*accesses, *catalog]}
    return _encode(claims, (now, token.expires_at), keys, issuer=service, audience=service)


def encode_refresh_token(token: RefreshToken, keys: KeyRing, *, service: str, now: datetime) -> str:
    """The token as text, signed, for the token endpoint alone."""
    claims = _account_claims(token.account, token.generation)
    return _encode(claims, (now, token.expires_at), keys, issuer=service, audience=_refresh_audience(service))


def decode_token(text: str, keys: KeyRing, *, service: str, now: datetime) -> Token:
    """What a token says. Raises `CredentialsInvalidError` unless one of the keys signed it for this service."""
    kid, claims = _decode(text, keys, issuer=service, audience=service, now=now)
    try:
        entries = claims["access"]
        accesses = [_access(entry) for entry in entries if entry["type"] == "repository"]
        return Token(
            _account(claims),
            int(claims["generation"]),
            _instant(claims["exp"]),
            {str(access.name): access for access in accesses},
            catalog=any(entry["type"] == "registry" for entry in entries),
            kid=kid,
            id=token_id(text),
        )
    except (LookupError, TypeError, ValueError, NameInvalidError):  # signed by an older version that said it otherwise
        raise _refused() from None


def decode_refresh_token(text: str, keys: KeyRing, *, service: str, now: datetime) -> RefreshToken:
    """What a refresh token says. Raises `CredentialsInvalidError` unless one of the keys signed it for this service."""
    kid, claims = _decode(text, keys, issuer=service, audience=_refresh_audience(service), now=now)
    try:
        account, generation = _account(claims), int(claims["generation"])
    except (LookupError, TypeError, ValueError):
        raise _refused() from None
    if account is None:
        raise _refused()
    return RefreshToken(account, generation, _instant(claims["exp"]), kid)


def _refresh_audience(service: str) -> str:
    return f"{service}/token"


def _encode(
    claims: Mapping[str, Any], period: tuple[datetime, datetime], keys: KeyRing, *, issuer: str, audience: str
) -> str:
    now, expires_at = period
    whole = {
        "iss": issuer,
        "aud": audience,
        "iat": int(now.timestamp()),
        "nbf": int(now.timestamp()),
        "exp": int(expires_at.timestamp()),
        "jti": secrets.token_urlsafe(12),
        **claims,
    }
    header = {"alg": ALGORITHM, "kid": keys.signing.kid, "typ": "JWT"}
    return jwt.encode(header, whole, keys.signing.key, algorithms=[ALGORITHM])


def _decode(text: str, keys: KeyRing, *, issuer: str, audience: str, now: datetime) -> tuple[str, dict[str, Any]]:
    """The key's name and the claims. The only key that counts is one of ours, by its name; the only algorithm ours."""

    def find_key(token: GuestProtocol) -> ECKey:
        header = token.headers()
        kid = header.get("kid")
        # Whatever else a header may bring (jwk, jku, x5u, x5c, crit), none of our tokens has it.
        found = keys.verifying.get(kid) if isinstance(kid, str) and header.keys() == _HEADER else None
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            raise _refused()
        return found.key

    if len(text) > MAX_LENGTH:
        raise _refused()
    try:
        token = jwt.decode(text, find_key, algorithms=[ALGORITHM])
        jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            nbf={"essential": True},
        ).validate(token.claims)
    except (JoseError, ValueError, TypeError):
        raise _refused() from None
    if token.claims["exp"] <= now.timestamp():  # leeway is for beginnings, not for ends
        raise _refused()
    return token.header["kid"], token.claims


def _refused() -> CredentialsInvalidError:
    return CredentialsInvalidError("The token doesn't count here, or not any more: log in again")


# -- claims -----------------------------------------------------------------------------------------------------------


def _account_claims(account: tuple[int, int] | None, generation: int) -> dict[str, object]:
    return {"account": list(account) if account else None, "generation": generation}


def _account(claims: Mapping[str, Any]) -> tuple[int, int] | None:
    if claims["account"] is None:
        return None
    tenant_id, account_id = map(int, claims["account"])
    return tenant_id, account_id


def _access_claim(access: Access) -> dict[str, object]:
    """As the token specification of distribution has it ("access"), and the ids."""
    return {
        "type": "repository",
        "name": str(access.name),
        "actions": sorted(access.shown),
        "granted": sorted(access.actions),
        "tenant_id": access.tenant_id,
        "repository_id": access.repository_id,
        "public": access.public,
        "since": (access.since - _EPOCH) // _MICROSECOND if access.since else None,
    }


def _access(claim: Mapping[str, Any]) -> Access:
    return Access(
        RepositoryName.parse(claim["name"]),
        frozenset(map(Action, claim["granted"])),
        claim["repository_id"],
        claim["tenant_id"],
        public=claim["public"],
        since=None if claim["since"] is None else _EPOCH + claim["since"] * _MICROSECOND,
    )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
