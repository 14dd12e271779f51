"""Accounts' secrets: made here, shown once, kept as a hash."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

# Secret scanners find what begins alike.
_PREFIX: Final = "dsql_"
_BYTES: Final = 32
# The least that OWASP's password storage cheat sheet has for Argon2id. Secrets are random and not people's choice, so
# more would buy nothing.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def new_secret() -> str:
    """256 random bits as text."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def hash_secret(secret: str) -> str:
    """What is kept of a secret. Takes tens of milliseconds, on purpose."""
    return _HASHER.hash(secret)


def is_secret(secret: str, secret_hash: str | None) -> bool:
    """Whether the hash is the secret's. Without a hash it takes as long, and is not: nobody learns who exists."""
    try:
        _HASHER.verify(secret_hash or _nobodys(), secret)
    except (Argon2Error, InvalidHashError):
        return False
    return secret_hash is not None


@cache
def _nobodys() -> str:
    return hash_secret(new_secret())
